"""What an operation of the API is: a method and path, who may call it, what goes in and what comes out.

The same list makes the routes and the OpenAPI document, so that neither can say what the other does not.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stoker.control.plane import ControlPlane
from stoker.control.policies import actor
from stoker.core.access import allows, decide
from stoker.store.keys import KeyRow
from stoker.store.sessions import SessionRow
from stoker.types.access import EVERYTHING, EVERYWHERE, Grant, Permission
from stoker.types.errors import Forbidden, NotFound
from stoker.types.policies import Actor

# socket: only over the Unix socket, which only this user can open. known: any caller with a key, token or session,
# whatever they may do.
Access = Permission | Literal["open", "socket", "known"]
# Where the permission must hold. path: in the project, and for the endpoint, that the path names. platform: everywhere.
# each: somewhere; the handler asks `Call.require` or `Call.may` about each thing it shows or changes.
Where = Literal["path", "each", "platform"]
# What the audit holds of an operation. changes: a row in each transaction that changed something (store/recording.py).
# begins: a row before it does anything, because its effects are outside of the database. reads: a row before its
# answer. By default what is no GET changes something.
Audited = Literal["changes", "begins", "reads", "nothing"]


@dataclass(frozen=True, slots=True)
class Call:
    """One request with its caller; `key` is None on operations that need none.

    Who comes with a token or a session has a key that stands in for them. session: and what opens it, by cookie too.
    """

    request: Request
    plane: ControlPlane
    key: KeyRow | None = None
    grant: Grant = EVERYTHING
    session: SessionRow | None = None
    cookie: str = ""
    email: str = ""

    def may(self, permission: Permission, project: str, endpoint: str = "") -> bool:
        """Return whether the caller may do that there."""
        return allows(self.grant, permission, project, endpoint)

    def require(self, permission: Permission, project: str, endpoint: str = "") -> None:
        """Raise Forbidden, or NotFound where the caller sees nothing, unless they may do that there."""
        match decide(self.grant, permission, project, endpoint):
            case "hidden":
                where = f"{project}/{endpoint}" if endpoint else project
                raise NotFound(f"there is nothing at {where[:200]!r} that this key may see")
            case "forbidden":
                whole = "everywhere" if project == EVERYWHERE else f"in project {project!r}"
                raise Forbidden(f"this needs the permission {permission} {whole}; key {self.caller} does not have it")

    @property
    def caller(self) -> str:
        """The id of the caller's key; "" over the socket."""
        return self.key.id if self.key is not None else ""

    @property
    def actor(self) -> Actor:
        """The caller as policies see it."""
        return actor(self.key, self.grant)

    @property
    def because(self) -> str:
        """Why something is done, for the journal."""
        if self.key is None:
            return "asked to"
        return f"asked to by {self.key.subject}" if not self.key.sha256 else f"asked to by key {self.caller}"


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter, or a header: what is published of it, and held (api/queries.py) before its handler sees it.

    low, high: of a number. pattern: of a text, as a whole; form: the same, but its handler says what is wrong with one.
    one_of: its only values. longest: in characters. is_required: without it, 400.
    """

    name: str
    kind: type
    meaning: str
    low: float | None = None
    high: float | None = None
    pattern: str = ""
    form: str = ""
    longest: int = 4000
    one_of: tuple[str, ...] = ()
    is_required: bool = False


def partly(kind: type[msgspec.Struct], name: str, meaning: str) -> type[msgspec.Struct]:
    """Return a struct of the fields of `kind`, of which each may be left out, or null."""
    fields = [(each.name, each.type | None | msgspec.UnsetType, msgspec.UNSET) for each in msgspec.structs.fields(kind)]
    return msgspec.defstruct(name, fields, frozen=True, forbid_unknown_fields=True, namespace={"__doc__": meaning})


@dataclass(frozen=True, slots=True)
class Operation:
    """One route. `answer` is the struct of its JSON answer, None for none or another kind of body.

    access: the permission it needs; of several, any opens the door, and the handler asks for the one that is meant.
    status: of what it did; also: another one, of the same answer: for what was there already.
    is_local: whoever sits on this machine may call it without a key.
    headers: request headers that it reads. is_tagged: its answers have an ETag.
    """

    method: Literal["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"]
    path: str
    handler: Handler
    summary: str
    access: Access | tuple[Permission, ...]
    where: Where = "path"
    body: Any = None  # struct of the JSON body, or a media type in a string
    answer: Any = None
    status: int = 200
    also: int | None = None
    query: tuple[Parameter, ...] = ()
    media: str = "application/json"
    is_local: bool = False
    audit: Audited | None = None
    headers: tuple[Parameter, ...] = ()
    is_tagged: bool = False

    @property
    def permissions(self) -> tuple[Permission, ...]:
        """The permissions of which one opens the door; none: it needs no key."""
        if self.access in ("open", "socket", "known"):
            return ()
        return self.access if isinstance(self.access, tuple) else (self.access,)  # type: ignore[return-value]

    @property
    def audited(self) -> Audited:
        """What the audit holds of it."""
        if self.audit is not None:
            return self.audit
        return "nothing" if self.method in ("GET", "HEAD") or self.access == "socket" else "changes"
