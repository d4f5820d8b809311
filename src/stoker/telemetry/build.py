"""Which build of the gateway's hot path runs here: the sources as they are, or what mypyc made of them."""

from importlib.util import find_spec
from typing import Final, Literal

Build = Literal["compiled", "interpreted"]

LIBRARY: Final = "stoker.compiled__mypyc"  # holds every compiled module; hatch_build.py names it


def build() -> Build:
    """Return which one. All modules are of one build: a wheel has the library and all of them, or none."""
    return "compiled" if find_spec(LIBRARY) is not None else "interpreted"
