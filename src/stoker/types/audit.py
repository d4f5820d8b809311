"""What the audit holds: who did what to which resource, from where; and the signed checkpoints that close it."""

from typing import Any, Final, Literal

import msgspec

PLATFORM: Final = "platform"  # the actor of what nobody asked for: remedies, rollouts that end, keys that expire
UNKNOWN: Final = "unknown"  # the actor of a request without a good key
OUTSIDE: Final = "outside"  # what a project is told of an actor that is not its own
EVERY_PROJECT: Final = "*"  # a hold of everything

# done: in the transaction of the change. began: before an effect outside of the database, or one that takes a while;
# failed: it was begun and did not go well. read: somebody saw what clients sent. refused: somebody may not do it.
Outcome = Literal["done", "began", "failed", "read", "refused"]
Did = Literal["create", "update", "delete"]


class FieldChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """One field of a resource, by its path. What opens a door is hidden in both values."""

    field: str
    before: Any = None
    after: Any = None


class ResourceChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happened to one resource. `more`: fields over the maximum; `sha256` is of those, before and after."""

    what: str  # `endpoint default/digits`
    did: Did
    fields: tuple[FieldChange, ...] = ()
    more: int = 0
    sha256: str = ""


class Act(msgspec.Struct, frozen=True):
    """What somebody does, before it has its place in the audit.

    actor: the id of a key, PLATFORM or UNKNOWN. subject: whose key it is (`user:ann`), "" for nobody's. origin: an
    address, or `socket`. request: the id that its answer has. within: the project whose right they use, EVERY_PROJECT
    for one that holds everywhere, "" where there is none, or the row is older than this field.
    action: an operation of the API (`PUT /projects/{project}/…`), or what the platform calls it.
    resources: what it is about, as in `what`; where there are no words for it, the path that was asked for.
    """

    at_us: int
    actor: str
    origin: str
    request: str
    action: str
    outcome: Outcome
    because: str = ""
    resources: tuple[str, ...] = ()
    changes: tuple[ResourceChange, ...] = ()
    subject: str = ""
    within: str = ""


class AuditEvent(Act, frozen=True, kw_only=True):
    """An act at its place: `sequence` counts from 1 without gaps."""

    sequence: int


class ProjectEvent(msgspec.Struct, frozen=True):
    """What one project may see of an event (core/audit/views.py): nothing of others, and nothing that counts them.

    row: its name in this project. actor: OUTSIDE for who acts by no right in the project; origin, request and because
    are "" then. receipt: SHA-256 (hex) over the row's hash: who has the whole audit can find the row by it.
    """

    row: str
    at_us: int
    actor: str
    origin: str
    request: str
    action: str
    outcome: Outcome
    because: str
    resources: tuple[str, ...]
    changes: tuple[ResourceChange, ...]
    subject: str
    receipt: str


class Row(msgspec.Struct, frozen=True):
    """An event as stored. `event` is its canonical JSON, the very bytes that `hash` (hex) covers; the rest is for
    questions, and must say what the event says. `resources`: a line each.
    """

    sequence: int
    at_us: int
    actor: str
    action: str
    resources: str
    event: str
    hash: str


class Checkpoint(msgspec.Struct, frozen=True):
    """What the platform's key signs: so many rows there were, and this was the hash of the last.

    number: counts from 1. kind: `root` where older rows were dropped: the audit begins after `sequence` now.
    previous: the SHA-256 (hex) of the line of the checkpoint before, "" for the first. key: its fingerprint.
    """

    number: int
    kind: Literal["checkpoint", "root"]
    sequence: int
    hash: str
    at_us: int
    previous: str
    key: str
    signature: str = ""  # hex


class Hold(msgspec.Struct, frozen=True):
    """While it stands, no row about its project (EVERY_PROJECT: no row at all) is dropped."""

    project: str
    because: str
    at_s: float
    by: str


class AuditVerdict(msgspec.Struct, frozen=True):
    """What an audit is worth. No problem: every row from `first` to `last` is as it was written, in its place.

    sealed: the last row under a checkpoint; what came after it could be cut off unseen.
    """

    problems: tuple[str, ...]
    first: int
    last: int
    sealed: int
    sealed_at_us: int
    checkpoints: int
    key: str

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems
