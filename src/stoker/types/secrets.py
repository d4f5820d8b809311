"""Secrets by reference: where a value is, never the value; and what is told of one that is in use.

`env:NAME` is a variable of the platform's environment, `file:/path[#field]` a file (with a field, one of JSON),
`vault:MOUNT/PATH#field` a field of a secret in a server that speaks Vault's KV version 2.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

Kind = Literal["env", "file", "vault"]
ENV_PREFIX: Final = "STOKER_SECRET_"  # no other variable of who starts the platform reaches its processes
VALUE_BYTES_MAX: Final = 64 << 10
REFERENCE_MAX: Final = 1_200  # characters
REFERENCE_PATTERN: Final = (
    r"^(env:[A-Za-z_][A-Za-z0-9_]{0,127}"
    r"|file:/[^\0#\n]{1,1000}(#[A-Za-z0-9_.-]{1,128})?"
    r"|vault:[A-Za-z0-9_.-]{1,128}(/[A-Za-z0-9_.-]{1,128}){1,16}#[A-Za-z0-9_.-]{1,128})$"
)
SecretRef = Annotated[
    str,
    Meta(
        pattern=REFERENCE_PATTERN,
        description="env:NAME, file:/path[#field] or vault:MOUNT/PATH#field; the value itself is never written here",
    ),
]
# As in a project's manifest: what it may name besides its own area. A star at the end stands for anything.
SecretPattern = Annotated[
    str,
    Meta(
        pattern=r"^(env:STOKER_SECRET_[A-Za-z0-9_]{0,128}\*?|file:/[^\0#\n]{1,1000}|vault:[A-Za-z0-9_./-]{1,1000}\*?)$",
        description="env:STOKER_SECRET_NAME, file:/path or vault:MOUNT/PATH, without a field; * at its end: any rest",
    ),
]


class Reference(msgspec.Struct, frozen=True):
    """A reference, taken apart. name: of the variable, file or path; field: "" for the whole of a file or variable."""

    kind: Kind
    name: str
    field: str = ""

    @property
    def place(self) -> str:
        """Where it is, without the field: what patterns are compared with."""
        return f"{self.kind}:{self.name}"


class SecretState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one process knows of a secret that it uses. Never the value, nor how long it is. Times are unix seconds.

    read: how many different values it saw; 0: none yet. read_at_s: when it last read one; changed_at_s: when it last
    was another. problem: why the last try failed; the value before is used until `stale_until_s`, or is gone.
    """

    reference: str
    process: str = ""
    read: int = 0
    read_at_s: float = 0.0
    changed_at_s: float = 0.0
    tried_at_s: float = 0.0
    stale_until_s: float = 0.0
    problem: str = ""
    is_usable: bool = False


class SecretUse(msgspec.Struct, frozen=True):
    """One place that names a secret. kind: Endpoint or Notifier. refusal: why the platform does not resolve it."""

    project: str
    kind: Literal["Endpoint", "Notifier"]
    name: str
    field: str
    reference: str
    refusal: str = ""


Health = Literal["good", "stale", "missing", "refused", "unread"]


class SecretView(msgspec.Struct, frozen=True):
    """A place that names a secret, and how that stands in the processes that resolve it."""

    use: SecretUse
    health: Health
    message: str
    states: tuple[SecretState, ...] = ()


class SecretList(msgspec.Struct, frozen=True):
    """All of them that the caller may see."""

    items: tuple[SecretView, ...]
