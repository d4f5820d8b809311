"""Operations on the platform itself: health, nodes, journal, logs, numbers, and the gateways' route table."""

import time
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from starlette.responses import Response, StreamingResponse

from stoker.api.bodies import decoded, flag, nothing, number, reply
from stoker.api.operations import Call, Operation, Parameter
from stoker.api.queries import ENDPOINT
from stoker.client.views import JournalEntry, Stats
from stoker.control.views import journal_views
from stoker.core.shares import Answer, Question
from stoker.store import journal
from stoker.store.engine import Connection
from stoker.telemetry import exposition
from stoker.telemetry.metrics import merge
from stoker.types.access import EVERYWHERE
from stoker.types.errors import InvalidInput, NotFound, Unavailable
from stoker.types.ids import DEFAULT_PROJECT
from stoker.types.process import NodeStatus
from stoker.types.routes import RouteTable

JOURNAL_LIMIT_MAX: Final = 1000
TAIL_MAX: Final = 10_000
ROUTES_WAIT_MAX_S: Final = 60.0


class NodeList(msgspec.Struct, frozen=True):
    """Nodes: those that answer, and those that joined and do not."""

    items: list[NodeStatus]


class JournalList(msgspec.Struct, frozen=True):
    """Decisions, newest first."""

    items: list[JournalEntry]


class Health(msgspec.Struct, frozen=True):
    """Whether this process lives, or can be used."""

    status: str


async def _healthz(_call: Call) -> Response:
    return reply(Health("ok"))


async def _readyz(call: Call) -> Response:
    if not call.plane.is_ready:
        raise Unavailable("control starts", retry_after_s=1.0)
    return reply(Health("ready"))


async def _metrics(call: Call) -> Response:
    merged = merge(await call.plane.numbers.around(), process=call.plane.process)
    kind, pieces = exposition.answer(merged, call.request.headers.get("accept", ""))
    return Response(b"".join(pieces), headers={"content-type": kind})


async def _nodes(call: Call) -> Response:
    return reply(NodeList(call.plane.nodes.shown(call.plane.observer.statuses)))


async def _journal(call: Call) -> Response:
    limit = int(number(call.request, "limit", 100, 1, JOURNAL_LIMIT_MAX))
    which = call.request.query_params.get("endpoint")
    project, _, name = (which or "").rpartition("/")
    project = project or call.grant.only or DEFAULT_PROJECT
    if which is not None:
        call.require("audit:read", project)

    def ask(connection: Connection) -> list[journal.Entry]:
        if which is None:
            return journal.last(connection, limit, call.grant.only)
        return journal.last(connection, limit, project, name)

    return reply(JournalList(journal_views(await call.plane.database.reading(ask))))


async def _stats(call: Call) -> Response:
    found = await call.plane.stats.read()
    if call.grant.only is not None or call.grant.endpoints:
        mine = [each for each in found.endpoints if call.may("endpoints:read", each.project, each.endpoint)]
        found = Stats(tuple(mine))
    return reply(found)


async def _logs(call: Call) -> Response:
    name = call.request.path_params["replica"]
    tail = int(number(call.request, "tail", 200, 0, TAIL_MAX))
    follow = flag(call.request, "follow")
    nodes = call.plane.observer.statuses
    if not nodes:
        raise Unavailable("no node answers, so no log can be read", retry_after_s=1.0)
    holders = [node for node in nodes if any(process.name == name for process in node.processes)]
    mine = next((each for holder in holders for each in holder.processes if each.name == name), None)
    if not call.may("logs:read", mine.labels.get("project") or EVERYWHERE if mine is not None else EVERYWHERE):
        raise NotFound(f"no log of {name!r}")  # of another project, or of no process that runs
    node = (holders or nodes)[0].node
    pieces = call.plane.driver.logs(node, name, tail=tail, follow=follow)
    try:
        first = await anext(pieces, b"")  # what is refused is refused before the answer begins
    except NotFound as unknown:
        raise NotFound(f"no log of {name!r}") from unknown
    return StreamingResponse(_joined(first, pieces), media_type="text/plain; charset=utf-8")


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


async def _shares(call: Call) -> Response:
    question = await decoded(call.request, Question)
    if not 0 <= question.gateway < call.plane.shares.gateways:
        raise InvalidInput(f"there is no gateway {question.gateway} here", field="gateway")
    return reply(call.plane.shares.answer(question, time.monotonic()))


async def _wake(call: Call) -> Response:
    call.plane.scaling.wake()
    return nothing()


async def _routes(call: Call) -> Response:
    after = int(number(call.request, "after", 0, -1, 2**53))
    wait_s = number(call.request, "wait_s", 0, 0, ROUTES_WAIT_MAX_S)
    encoded = await call.plane.routes.wait(after, wait_s, call.request.query_params.get("gateway", ""))
    if encoded is None:
        return nothing()
    return Response(encoded, media_type="application/json")


OPERATIONS: Final = (
    Operation("GET", "/healthz", _healthz, "Whether control lives", "open", answer=Health),
    Operation("GET", "/readyz", _readyz, "Whether control can be used", "open", answer=Health),
    Operation(
        "GET",
        "/metrics",
        _metrics,
        "Metrics as Prometheus text",
        "metrics:read",
        where="platform",
        media="text/plain",
        is_local=True,
    ),
    Operation(
        "GET", "/api/v1/nodes", _nodes, "Nodes and their processes", "platform:read", where="platform", answer=NodeList
    ),
    Operation(
        "GET",
        "/api/v1/journal",
        _journal,
        "Decisions and why, newest first",
        "audit:read",
        where="each",
        answer=JournalList,
        query=(
            Parameter("endpoint", str, "NAME or PROJECT/NAME", pattern=ENDPOINT),
            Parameter("limit", int, f"1 to {JOURNAL_LIMIT_MAX}", 1, JOURNAL_LIMIT_MAX),
        ),
    ),
    Operation(
        "GET",
        "/api/v1/stats",
        _stats,
        "What every endpoint did in the last seconds",
        "endpoints:read",
        where="each",
        answer=Stats,
    ),
    Operation(
        "GET",
        "/api/v1/replicas/{replica}/logs",
        _logs,
        "The log of a replica, or of another process",
        "logs:read",
        where="each",
        media="text/plain",
        query=(Parameter("tail", int, "last lines", 0, TAIL_MAX), Parameter("follow", bool, "go on as it grows")),
    ),
    Operation(
        "GET",
        "/internal/v1/routes",
        _routes,
        "The route table, once it is newer",
        "socket",
        answer=RouteTable,
        query=(
            Parameter("after", int, "version the caller has", -1, 2**53),
            Parameter("wait_s", float, "how long to wait", 0, ROUTES_WAIT_MAX_S),
            Parameter("gateway", str, "who asks: it follows that version", pattern="gateway-[0-9]{1,4}"),
        ),
    ),
    Operation(
        "POST",
        "/internal/v1/shares",
        _shares,
        "The part of each key's limit that a gateway may let through",
        "socket",
        body=Question,
        answer=Answer,
    ),
    Operation(
        "POST",
        "/internal/v1/wake",
        _wake,
        "Look at the load now: a gateway has a request that waits where nothing runs",
        "socket",
    ),
)
