"""What a start of a replica was made of: its phases, from the order to the first answer."""

from typing import Final

import msgspec

ORDER: Final = "order"  # from control's decision to the spawn: signature, layout of the files, the agent's record
PROCESS: Final = "process"  # from the spawn to the interpreter's first line of ours
FORKED: Final = "forked"  # the same, where a fork server made the process: it has its modules then
IMPORTS: Final = "imports"  # modules: ours and the engine's
VERIFY: Final = "verify"  # signature and digests
FIRST_ANSWER: Final = "first answer"  # of the first request, from its arrival in the replica; to the first token
TOTAL: Final = "total"  # from the spawn to ready, as the agent saw both
SPAWNED: Final = "STOKER_SPAWNED_S"  # tells a process what the monotonic clock, one for all, was at its spawn
PHASES_MAX: Final = 32
PHASE_CHARS_MAX: Final = 40


class Start(msgspec.Struct, frozen=True):
    """One start of one replica, in seconds by phase, in their order.

    Between IMPORTS and FIRST_ANSWER stand the stages of the load by the engine's own names: `verify` (signature and
    digests), `weights`, `warm-up`, … TOTAL has no ORDER and no FIRST_ANSWER in it.
    """

    replica: str
    revision: str
    engine: str
    at_s: float  # unix time of the spawn
    phases: dict[str, float]
    total_s: float
    is_restart: bool = False  # by its agent, after a death or when the platform came up again: nobody ordered it


class Took(msgspec.Struct, frozen=True):
    """One start as a plan needs it. at_s: unix time of the spawn. whole_s: from control's decision to ready."""

    at_s: float
    whole_s: float


class PhaseTimes(msgspec.Struct, frozen=True):
    """How long one phase took: in the last start, and over all that are known."""

    phase: str
    last_s: float | None  # None: the last start did not have it (yet)
    median_s: float
    p90_s: float
    starts: int  # that had it


class StartTimes(msgspec.Struct, frozen=True):
    """What the starts of one revision with one engine took; phases in their order, TOTAL last but for FIRST_ANSWER.

    lately: the newest that were ordered, oldest first, of those whose process was made as the last one's was (forked or
    not): what the next ones take.
    """

    revision: str
    engine: str
    last_at_s: float
    phases: tuple[PhaseTimes, ...]
    lately: tuple[Took, ...] = ()
