"""When a process that died is started again.

A process that had worked for a while and dies once is started at once: that is an accident. One that dies again and
again waits 1 s, 2 s, 4 s … 60 s, so that a crash loop costs nothing and its log can be read.
"""

from typing import Final

import msgspec

DELAY_FIRST_S: Final = 1.0
DELAY_MAX_S: Final = 60.0
# Control and gateways load in half a second and everything needs them: a loop of theirs may cost that much.
DELAY_MAX_SYSTEM_S: Final = 5.0
SETTLED_S: Final = 60.0  # ready for so long: earlier deaths are forgotten
ACCIDENT_S: Final = 10.0  # ready for longer than this before its first death: an accident
# Spread, so that replicas that died together do not load their models in the same second.
JITTER_SHARE: Final = 0.2


class Restart(msgspec.Struct, frozen=True):
    """When to start again, and the counts that the next decision must be given."""

    delay_s: float
    crashes_in_row: int
    ready_crashes: int = 0


def after_death(
    crashes_in_row: int, ready_crashes: int = 0, *, ready_s: float, jitter: float, delay_max_s: float = DELAY_MAX_S
) -> Restart:
    """Return when a process that just died starts again.

    Args:
        crashes_in_row: deaths before this one, as the last decision returned it.
        ready_crashes: those of them that came after it had been ready.
        ready_s: how long this life had been ready; 0 when it never was.
        jitter: a random number in 0–1.
        delay_max_s: the longest wait.
    """
    before = 0 if ready_s >= SETTLED_S else crashes_in_row
    after_ready = (ready_crashes if before else 0) + (ready_s > 0.0)
    if before == 0 and ready_s > ACCIDENT_S:
        return Restart(delay_s=0.0, crashes_in_row=1, ready_crashes=after_ready)
    # 2**6 is over the longest delay already; a larger exponent would only be a larger number.
    delay_s = DELAY_FIRST_S * 2.0 ** min(before, 6)
    return Restart(
        delay_s=min(delay_max_s, delay_s * (1.0 + JITTER_SHARE * jitter)),
        crashes_in_row=before + 1,
        ready_crashes=after_ready,
    )
