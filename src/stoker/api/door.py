"""Who may enter: the caller's key, what it comes to, and whether that is enough for an operation.

Every refusal here depends on the key and on the names in the request, never on what exists.
"""

import ipaddress
import time
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request

from stoker.api.operations import Call, Operation
from stoker.control.keys import digest, verify
from stoker.control.plane import ControlPlane
from stoker.core.guesses import Guesses
from stoker.store import roles
from stoker.store.engine import Connection
from stoker.store.keys import KeyRow
from stoker.types.access import EVERYWHERE, Grant
from stoker.types.errors import Forbidden, NotFound, RateLimited, Unauthenticated

TOO_MANY: Final = "too many keys from this address were none; wait, then send the right one"
_OF_ENDPOINT: Final = "/endpoints/{name}"


@dataclass(frozen=True, slots=True)
class Door:
    """The door of one control process."""

    plane: ControlPlane
    guesses: Guesses = field(default_factory=Guesses)

    async def enter(self, operation: Operation, request: Request) -> Call:
        """Return the call with its caller, who may still not do it: `permit` says.

        Raises NotFound, Unauthenticated or RateLimited.
        """
        if operation.access == "socket":
            if not _is_socket(request):
                raise NotFound("not here")
            return Call(request, self.plane)
        if operation.access == "open" or (operation.is_local and is_local(request)):
            return Call(request, self.plane)
        key, grant = await self._identified(request)
        return Call(request, self.plane, key, grant)

    async def _identified(self, request: Request) -> tuple[KeyRow, Grant]:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        offered = text.strip() if scheme.lower() == "bearer" else ""
        if not offered:
            raise Unauthenticated("no key; send the header Authorization: Bearer stk_…")
        address = request.client.host if request.client is not None else ""
        hashed, now_s = digest(offered), time.time()
        # Over the socket comes who may read the folder with the keys: nobody else can be kept out by them there.
        wait_s = 0.0 if _is_socket(request) else self.guesses.wait_s(address, now_s)
        if wait_s and not self.guesses.knows(hashed):
            raise self._refused(wait_s)

        def find(connection: Connection) -> tuple[KeyRow, Grant]:
            key = verify(connection, offered, now_s)
            return key, roles.grant(connection, key)

        try:
            found = await self.plane.database.reading(find)
        except Unauthenticated:
            if not _is_socket(request) and (wait_s := self.guesses.failed(address, now_s)):
                raise self._refused(wait_s) from None
            raise
        self.guesses.succeeded(hashed)
        self.plane.used.add(found[0].id, now_s)
        return found

    def _refused(self, wait_s: float) -> RateLimited:
        self.plane.metrics.counter("stoker_guesses_refused_total", process=self.plane.process).add()
        return RateLimited(TOO_MANY, retry_after_s=wait_s)


def permit(operation: Operation, call: Call) -> None:
    """Raise Forbidden or NotFound unless the caller has a permission that opens the operation."""
    if call.key is None:
        return  # what needs no key, or comes from this machine
    if operation.where == "each":
        if not call.grant.permissions.intersection(operation.permissions):
            wanted = " or ".join(operation.permissions)
            raise Forbidden(f"this needs the permission {wanted}; key {call.caller} does not have it")
        return
    (permission,) = operation.permissions
    if operation.where == "platform":
        call.require(permission, EVERYWHERE)
        return
    named = call.request.path_params
    call.require(permission, named["project"], named["name"] if _OF_ENDPOINT in operation.path else "")


def is_local(request: Request) -> bool:
    """Return whether the request came from this machine, and through no proxy on it."""
    headers = request.headers
    if "forwarded" in headers or "x-forwarded-for" in headers:
        return False
    if _is_socket(request):
        return True
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _is_socket(request: Request) -> bool:
    """Return whether it came over the Unix socket, which has no port and lies where only this user can enter."""
    return request.scope["server"][1] is None
