"""Changing a thing only if it is still what the caller saw: ETag, If-Match and If-None-Match of HTTP (RFC 9110, 13.1).

The tag of an endpoint is of what was asked for: it changes with each new generation, when its end is asked for, and
when another is made under its name; not with its status, which changes all the time. So it is for If-Match, and no
answer is ever 304.
"""

import zlib
from typing import Final

from starlette.requests import Request

from stoker.api.operations import Parameter
from stoker.core.snapshot import EndpointState
from stoker.types.errors import PreconditionFailed

_ONE: Final = '(W/)?"[!#-~]{0,80}"'
IF_MATCH: Final = Parameter(
    "If-Match",
    str,
    "ETags as GET says them, or *: change it only if it is there and has one of them; otherwise 412",
    pattern=rf"\*|{_ONE}( ?, ?{_ONE}){{0,7}}",
    longest=800,
)
IF_NONE_MATCH: Final = Parameter(
    "If-None-Match", str, "*: make it only if it is not there; otherwise 412", one_of=("*",), longest=800
)
HEADERS: Final = (IF_MATCH, IF_NONE_MATCH)
EACH_MATCHES: Final = Parameter(
    "If-Match",
    str,
    "ETags of endpoints: only if each endpoint in the body is there and has one of them; otherwise 412",
    pattern=rf"{_ONE}( ?, ?{_ONE}){{0,99}}",
    longest=8000,
)


def tag(state: EndpointState) -> str:
    """Return the ETag of an endpoint, quoted. Callers give it back as it is, and read nothing in it."""
    whose = zlib.crc32(f"{state.project}/{state.name}".encode())  # several may be made at one moment
    leaving = ".leaving" if state.is_deleting else ""
    return f'"{state.generation}.{int(state.created_at_s * 1000):x}.{whose:x}{leaving}"'


def check(request: Request, state: EndpointState | None, what: str) -> None:
    """Raise PreconditionFailed unless the request's preconditions hold of `state`; None: it is not there.

    A weak tag is never equal to another in If-Match, as the RFC has it.
    """
    wanted = [each.strip() for line in request.headers.getlist("if-match") for each in line.split(",")]
    if wanted and state is None:
        raise PreconditionFailed(f"endpoint {what} is not there (any more); nothing was changed")
    if wanted and "*" not in wanted and state is not None and tag(state) not in wanted:
        now = "its end was asked for" if state.is_deleting else f"it is at generation {state.generation}"
        raise PreconditionFailed(
            f"endpoint {what} is not what it was when it was read: {now}; nothing was changed, read it again"
        )
    if state is not None and "if-none-match" in request.headers:
        raise PreconditionFailed(f"endpoint {what} is there already; nothing was changed")
