"""A fault that is put into a process on purpose, for a bounded time: what `stoker gameday` asks of an agent."""

from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta

# kill: SIGKILL, once. hang: it stands still (SIGSTOP). slow: it stands still for a share of the time.
FaultKind = Literal["kill", "hang", "slow"]
KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)
FAULT_MAX_S: Final = 600.0


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault. `seconds` is the longest it lasts, whoever forgets it; a kill has no duration."""

    kind: FaultKind
    seconds: Annotated[float, Meta(gt=0, le=FAULT_MAX_S)] = 60.0
    still_ratio: Annotated[float, Meta(gt=0, le=0.99, description="slow: share of the time it stands still")] = 0.9
