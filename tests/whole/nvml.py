"""A library of NVIDIA's NVML for machines without a GPU: what its GPUs do stands in a file that tests write."""

from pathlib import Path

MODULE = """
import json
from pathlib import Path

class NVMLError(Exception): pass
class Answer:
    def __init__(self, **fields): self.__dict__.update(fields)

def _seen(handle): return json.loads((Path(__file__).parent / "gpus.json").read_text())[handle]
def nvmlInit(): pass
def nvmlDeviceGetCount(): return len(json.loads((Path(__file__).parent / "gpus.json").read_text()))
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetUtilizationRates(handle): return Answer(gpu=_seen(handle)["percent"])
def nvmlDeviceGetMemoryInfo(handle): return Answer(used=_seen(handle)["used"], total=8 << 30)
"""


class Gpus:
    """A folder for PYTHONPATH."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        (folder / "pynvml.py").write_text(MODULE)
        self.do(0)

    def do(self, percent: int, used_gib: int = 2) -> None:
        """Have the one GPU be at work so many percent of the time, with so much memory in use."""
        half = self.folder / "gpus.new"
        half.write_text(f'[{{"percent": {percent}, "used": {used_gib << 30}}}]')
        half.rename(self.folder / "gpus.json")
