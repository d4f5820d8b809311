"""Cost lines in a bounded number: alike ones added up, and of too many the smallest without their key or revision."""

from collections.abc import Iterable
from typing import Final

import msgspec

from stoker.types.costs import CostLine

LINES_MAX: Final = 2000  # of an hour, and of a day
# What the smallest lose, one after the other, until few enough are left.
_SPARE: Final = ({"key": "", "tags": ()}, {"revision": ""})


def fold(lines: Iterable[CostLine], most: int = LINES_MAX) -> list[CostLine]:
    """Return lines of the same sums, the largest first: at most `most`, or one for each kind, endpoint and payer."""
    found = _joined(lines)
    for spare in _SPARE:
        if len(found) > most:
            keep = most // 2
            found = _joined((*found[:keep], *(msgspec.structs.replace(each, **spare) for each in found[keep:])))
        if len(found) > most:
            found = _joined(msgspec.structs.replace(each, **spare) for each in found)
    return found


def _joined(lines: Iterable[CostLine]) -> list[CostLine]:
    """Return one line for all that differ in nothing but amounts, the dearest first."""
    sums: dict[CostLine, list[int]] = {}
    for line in lines:
        both = sums.setdefault(msgspec.structs.replace(line, nano_usd=0, ms=0), [0, 0])
        both[0] += line.nano_usd
        both[1] += line.ms
    found = [msgspec.structs.replace(whose, nano_usd=nano_usd, ms=ms) for whose, (nano_usd, ms) in sums.items()]
    return sorted(found, key=lambda line: (-line.nano_usd, -line.ms))
