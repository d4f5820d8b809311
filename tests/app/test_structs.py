"""What is worked out before there are threads is worked out for every struct that control decodes."""

import subprocess
import sys

SCRIPT = """
import gc
import msgspec
from stoker.app import control_main, structs

def known(kind):
    return any(type(each).__name__ == "StructInfo" for each in gc.get_referents(kind))

def decodes(kind):
    try:
        return bool(msgspec.json.Decoder(kind))
    except TypeError:
        return False

class Fresh(msgspec.Struct):
    number: int = 0

Fresh.__module__ = "stoker.fresh"
assert not known(Fresh)
assert structs.know() > 200
stack = [msgspec.Struct]
while stack:
    kind = stack.pop()
    stack += kind.__subclasses__()
    if kind.__module__.startswith("stoker.") and not known(kind) and decodes(kind):
        print(kind.__name__)
"""


def test_every_struct_of_control_is_known_before_its_threads_start() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
