"""A fault that is put into a process on purpose, for a bounded time: what `stoker gameday` asks of an agent.

Who does it: the agent from outside (FROM_OUTSIDE), by signals, limits and files; or the process itself when its agent
asks it to, for what nobody can do to it from outside.
"""

from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta

# kill: SIGKILL, once. hang: it stands still (SIGSTOP). slow: it stands still for a share of the time.
# disk: it can write to no file. corrupt: it is started again, from a copy of its model with one byte changed.
# memory: it takes memory until it is over its limit. clock: its wall clock is set. network: what it is sent, and what
# it sends, is late, and some of it later. dependency: the server behind it cannot be reached.
FaultKind = Literal["kill", "hang", "slow", "disk", "corrupt", "memory", "clock", "network", "dependency"]
KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)
FROM_OUTSIDE: Final[tuple[FaultKind, ...]] = ("kill", "hang", "slow", "disk", "corrupt")
FAULT_MAX_S: Final = 600.0
METHOD: Final = "fault"  # of the CALL that puts a fault into a process; without a body it ends the one that is there

BAD_REVISION: Final = "STOKER_GAMEDAY"  # in a revision's environment: a BadRevision, as JSON


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault. `seconds` is the longest it lasts, whoever forgets it; a kill has no duration."""

    kind: FaultKind
    seconds: Annotated[float, Meta(gt=0, le=FAULT_MAX_S)] = 60.0
    still_ratio: Annotated[float, Meta(gt=0, le=0.99, description="slow: share of the time it stands still")] = 0.9
    step_s: Annotated[float, Meta(ge=-1e9, le=1e9, description="clock: so much later it is at once")] = 3600.0
    delay_s: Annotated[float, Meta(ge=0, le=5, description="network: so much later each way")] = 0.1
    loss_ratio: Annotated[float, Meta(ge=0, le=0.5, description="network: share of what has to be sent again")] = 0.05


class BadRevision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A revision that fails on purpose, up to `until_s` (unix time) and not a moment longer.

    failed_ratio: of its requests; the same request fails wherever it is tried again, as with a bug.
    """

    until_s: float
    failed_ratio: Annotated[float, Meta(gt=0, le=1)] = 0.5
