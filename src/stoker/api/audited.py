"""What the audit hears of an operation: who asks, from where, under which id, and whether they might.

What a change did is seen in its own transaction (store/recording.py). Here is written down what is no transaction:
reads, before their answer; what begins outside of the database, before it does; and attempts that were refused.
"""

import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from stoker.api.operations import Call, Operation
from stoker.store import audit
from stoker.store.engine import Database
from stoker.store.keys import KeyRow
from stoker.store.recording import Actor, acting
from stoker.types.audit import UNKNOWN, Act
from stoker.types.errors import Forbidden, PolicyDenied, StokerError, Unauthenticated

# Of attempts that were refused so many are written down at once, and after that one each REFUSED_EVERY_S: whoever
# knocks all day costs the audit 1,440 rows. The others are counted in the next.
REFUSED_AT_ONCE: Final = 30
REFUSED_EVERY_S: Final = 60.0
ROOT: Final = "/api/v1"
ABOUT_MAX: Final = 300  # characters
_KINDS: Final = {
    "": "project",
    "endpoints": "endpoint",
    "notifiers": "notifier",
    "policies": "policy",
    "trust": "trust",
    "models": "model",
    "nodes": "node",
}
_ID: Final = re.compile(r"[A-Za-z0-9._\-]{1,64}")


class Refusals:
    """How many attempts that were refused are written down."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = float(REFUSED_AT_ONCE)
        self._at_s = clock()
        self._skipped = 0

    def take(self) -> int | None:
        """Return how many went unwritten since the last that was written down; None for one more of them."""
        now_s = self._clock()
        self._left = min(self._left + (now_s - self._at_s) / REFUSED_EVERY_S, float(REFUSED_AT_ONCE))
        self._at_s = now_s
        if self._left < 1.0:
            self._skipped += 1
            return None
        self._left -= 1.0
        skipped, self._skipped = self._skipped, 0
        return skipped


def request_id(request: Request) -> str:
    """Return the id that the caller gave its request, or a new one."""
    given = request.headers.get("x-request-id", "")
    return given if _ID.fullmatch(given) else secrets.token_hex(8)


def actor(operation: Operation, request: Request, key: KeyRow | None, named: str, within: str = "") -> Actor:
    """Return who asks for an operation. `named`: the request's id. `within`: the project of the right that they use."""
    client = request.client
    path = operation.path.removeprefix(ROOT)
    return Actor(
        name=str(key.id) if key is not None else UNKNOWN,
        action=f"{operation.method} {path}",
        subject=key.subject if key is not None else "",
        origin=client.host if client is not None and client.host else "socket",
        request=named,
        resources=(_about(path, request.path_params),) if request.path_params else (),
        within=within,
    )


def _about(path: str, values: Mapping[str, str]) -> str:
    """Return what a path is about, in the words that changes have for it: `endpoint default/digits`."""
    _, first, _, *rest = (*path.split("/"), "", "")
    kind = rest[0] if first == "projects" and rest else first
    where = "/".join(values[name] for name in ("project", "name") if name in values)
    if kind not in _KINDS or not where:
        return " ".join(path.lstrip("/").format(**values).split())[:ABOUT_MAX]
    return f"{_KINDS[kind]} {' '.join(where.split())}"[:ABOUT_MAX]


async def answered(operation: Operation, call: Call, who: Actor) -> Response:
    """Return the answer of an operation, and have the audit hear of it. Raises what its handler does."""
    database = call.plane.database
    match operation.audited:
        case "nothing":
            return await operation.handler(call)
        case "reads":
            answer = await operation.handler(call)
            await _write(database, who.act("read"))
            return answer
        case "changes":
            with acting(who):
                return await operation.handler(call)
        case "begins":
            await _write(database, who.act("began"))
            try:
                with acting(who):
                    return await operation.handler(call)
            except StokerError as problem:
                await _write(database, who.act("failed", problem.message))
                raise


async def refused(problem: StokerError, who: Actor, database: Database, refusals: Refusals) -> None:
    """Write down that somebody may not do what they asked for, unless there were too many of those."""
    if not isinstance(problem, Unauthenticated | Forbidden | PolicyDenied):
        return
    skipped = refusals.take()
    if skipped is not None:
        more = f"; {skipped} attempts before it were not written down" if skipped else ""
        await _write(database, who.act("refused", f"{problem.code}: {problem.message}{more}"))


async def _write(database: Database, act: Act) -> None:
    await database.writing(lambda connection: audit.append(connection, act))
