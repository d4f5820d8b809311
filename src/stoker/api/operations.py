"""What an operation of the API is: a method and path, who may call it, what goes in and what comes out.

The same list makes the routes and the OpenAPI document, so that neither can say what the other does not.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from stoker.control.plane import ControlPlane
from stoker.store.keys import KeyRow

# key: any good key, and the handler shows it no other project's. socket: only over the Unix socket, which only this
# user can open.
Access = Literal["open", "key", "admin", "socket"]


@dataclass(frozen=True, slots=True)
class Call:
    """One request with its caller; `key` is None on open operations."""

    request: Request
    plane: ControlPlane
    key: KeyRow | None = None


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter."""

    name: str
    kind: type
    meaning: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One route. `answer` is the struct of its JSON answer, None for none or another kind of body."""

    method: Literal["GET", "HEAD", "PUT", "POST", "DELETE"]
    path: str
    handler: Handler
    summary: str
    access: Access = "admin"
    body: Any = None  # struct of the JSON body, or a media type in a string
    answer: Any = None
    status: int = 200
    query: tuple[Parameter, ...] = ()
    media: str = "application/json"
