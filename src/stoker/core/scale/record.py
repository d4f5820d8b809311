"""What is kept of a scaling decision, so that any of them can be explained with its inputs."""

import msgspec

from stoker.core.scale.decide import Decision
from stoker.core.scale.reading import Reading
from stoker.core.scale.sight import Sight


class Record(msgspec.Struct, frozen=True):
    """A decision, and what it was made from. before: how many there should be until then. room: what others
    have to do with it."""

    at_s: float
    before: int
    desired: int
    because: str
    limit: str
    signals: tuple[Reading, ...]
    sight: Sight
    room: str = ""


def record(found: Decision, sight: Sight, before: int, at_s: float) -> Record:
    """Return what is kept of `found`."""
    return Record(at_s, before, found.desired, found.because, found.limit, found.signals, sight, found.room)
