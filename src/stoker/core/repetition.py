"""Whether an answer ends in a loop: the same few words over and over, until something else stops it. Pure.

A model that loses its thread repeats one unit exactly. So the end of the text is looked at for a period: where its last
characters stood before, is everything back to REPEATS units the same? Five times the same within 160 characters is no
prose, table or code; a row of dashes or of zeros may be, which is why a share of the answers is compared with the
share before, and one answer proves nothing.
"""

from typing import Final

TAIL: Final = 4096  # characters of an answer's end that are kept
REPEATS: Final = 5
LENGTH_MIN: Final = 160  # characters that the repeats take at least
_PROBE: Final = 32
_TRIES: Final = 16  # places where the last characters stood; a unit may hold them several times


def ends_in_a_loop(text: str) -> bool:
    """Return whether `text` (of which the last TAIL characters count) ends in REPEATS or more equal units."""
    tail = text[-TAIL:]
    if len(tail) < LENGTH_MIN:
        return False
    probe, at = tail[-_PROBE:], len(tail) - 1
    for _ in range(_TRIES):
        at = tail.rfind(probe, 0, at)
        if at < 0:
            return False
        period = len(tail) - _PROBE - at
        length = max(REPEATS * period, LENGTH_MIN)
        if length > len(tail):
            return False
        if tail[-length:-period] == tail[-length + period :]:
            return True
        at += _PROBE - 1
    return False
