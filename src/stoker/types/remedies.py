"""What an incident may do by itself, as a manifest allows it, and what it did, as its record keeps it."""

from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta

# The words of an error budget's policy (types/slos.py) where the act is the same.
ActKind = Literal["restart", "eject", "roll-back", "scale-up", "shed-sheddable"]
ACTS: Final[tuple[ActKind, ...]] = get_args(ActKind)


class Remedy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One act that is allowed, and how sure the diagnosis must be of the cause that it cures."""

    do: Annotated[
        ActKind,
        Meta(
            description="restart (a bad replica, its replacement first), eject (keep it without traffic for ten "
            "minutes), roll-back (to what served before), scale-up (one replica more, within replicas.max), "
            "shed-sheddable (refuse that band)"
        ),
    ]
    when_sure: Annotated[
        Annotated[float, Meta(gt=0, lt=1)] | None,
        Meta(description="confidence of the diagnosis, 0 to 1; by default 0.6 to 0.7, by act"),
    ] = None


class Load(msgspec.Struct, frozen=True):
    """How an endpoint did for a minute: requests, the share that failed or was refused, mean seconds of the others."""

    requests: float = 0.0
    failed_ratio: float = 0.0
    latency_s: float = 0.0


class Act(msgspec.Struct, frozen=True):
    """Something that an incident did. `number` counts from 1 in its incident; with that it is done once.

    subject: the replica or revision, "" for the endpoint. at_s, ended_at_s: unix seconds; ended_at_s is 0 while it is
    in force. outcome: how it ended. before, after: the minute before it began, and the one after it ended (None until
    that is over).
    """

    number: int
    kind: ActKind
    subject: str
    because: str
    at_s: float
    ended_at_s: float = 0.0
    outcome: str = ""
    before: Load = Load()
    after: Load | None = None

    @property
    def is_in_force(self) -> bool:
        """Whether it goes on."""
        return not self.ended_at_s

    @property
    def is_settled(self) -> bool:
        """Whether it is over, and what it changed is known."""
        return not self.is_in_force and self.after is not None

    @property
    def what(self) -> str:
        """What it does, in words: `restart default.chat-1-abcde`."""
        return f"{self.kind} {self.subject}".rstrip()
