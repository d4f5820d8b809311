"""Operations on rollouts: how they stand and went, what people say to them, and what judges count."""

import re
import time
from functools import partial
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.responses import Response

from stoker.api.bodies import decoded, number, reply
from stoker.api.operations import Call, Operation, Parameter
from stoker.api.queries import NAME
from stoker.client.rollouts import RolloutDetail, RolloutView, Said, Told
from stoker.control import steering
from stoker.store.engine import Connection
from stoker.store.rollouts import ENTRIES_MAX
from stoker.types.errors import InvalidInput, NotFound
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.rollouts import ArmCounts, Arms
from stoker.types.slos import METRIC_PATTERN

ACTED_WAIT_S: Final = 2.0  # for the decision, so that an answer shows it
LIMIT_MAX: Final = 1000
REASON_MAX: Final = 500  # characters
COUNT_MAX: Final = 10_000_000  # of one call
_METRIC: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")

Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]


class RolloutList(msgspec.Struct, frozen=True):
    """Rollouts, the newest first."""

    items: list[RolloutView]


class OrderBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said to a rollout.

    reason: for the journal and the timeline. over_budget: also where the policy of an error budget freezes rollouts.
    rollout: its number, so that nobody says to the next one what was meant for this; 0: whichever is the newest.
    """

    order: Said
    reason: Annotated[str, Meta(max_length=REASON_MAX)] = ""
    over_budget: bool = False
    rollout: Annotated[int, Meta(ge=0, le=999_999_999)] = 0


class CountsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one arm was counted to have."""

    total: Count = 0
    bad: Count = 0


class JudgedBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a judge counted since it told last. The same `id` again counts nothing: send until it is answered."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]
    metric: Annotated[str, Meta(extra_json_schema={"pattern": METRIC_PATTERN})]
    canary: CountsBody = CountsBody()
    baseline: CountsBody = CountsBody()


async def _rollouts_of(call: Call) -> Response:
    limit = int(number(call.request, "limit", 100, 1, LIMIT_MAX))
    project, endpoint = call.request.path_params["project"], call.request.query_params.get("endpoint")
    found = await call.plane.database.reading(partial(steering.listed, project=project, endpoint=endpoint, limit=limit))
    return reply(RolloutList(found))


async def _rollout(call: Call) -> Response:
    text = call.request.path_params["number"]
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise NotFound(f"no rollout {text!r}; rollouts have numbers")
    which = partial(
        steering.numbered, project=call.request.path_params["project"], number=int(text), entries=_entries(call)
    )
    return reply(await call.plane.database.reading(which))


async def _newest_rollout(call: Call) -> Response:
    return reply(await _detail(call))


async def _steer(call: Call) -> Response:
    body = await decoded(call.request, OrderBody)
    project, name = _whose(call)
    frozen = call.plane.watch.frozen.get((ProjectName(project), EndpointName(name)), "")
    word = steering.Word(" ".join(body.reason.split()), frozen, body.over_budget, _name(call), body.rollout)
    await call.plane.loop.turned(ACTED_WAIT_S)  # what was applied just now may have begun it

    def change(connection: Connection) -> None:
        if body.order == "retry":
            steering.retry(connection, project, name, word, time.time())
        else:
            steering.say(connection, project, name, body.order, word, time.time())

    await call.plane.database.writing(change)
    await call.plane.loop.turned(ACTED_WAIT_S)
    return reply(await _detail(call))


async def _judged(call: Call) -> Response:
    body = await decoded(call.request, JudgedBody)
    if not _METRIC.fullmatch(body.metric):
        raise InvalidInput(
            f"{body.metric[:80]!r} is no name of a metric: lower-case letters, digits and _, 63 at most", field="metric"
        )
    project, name = _whose(call)
    more = Arms(_arm(body.canary, body.metric), _arm(body.baseline, body.metric))
    told = await call.plane.database.writing(
        partial(steering.judged, project=project, name=name, metric=body.metric, more=more, id_=body.id)
    )
    call.plane.loop.wake()
    return reply(told)


async def _detail(call: Call) -> RolloutDetail:
    project, name = _whose(call)
    which = partial(steering.newest, project=project, name=name, entries=_entries(call))
    return await call.plane.database.reading(which)


def _entries(call: Call) -> int | None:
    wanted = int(number(call.request, "entries", -1, -1, ENTRIES_MAX))
    return wanted if wanted >= 0 else None


def _whose(call: Call) -> tuple[str, str]:
    return call.request.path_params["project"], call.request.path_params["name"]


def _name(call: Call) -> str:
    """Return who asks, as timelines say it."""
    if call.key is None:
        return "the platform's own user"
    return call.key.subject or f"the key {call.key.name}"


def _arm(counts: CountsBody, metric: str) -> ArmCounts:
    return ArmCounts(counts.total, {metric: counts.bad})


_ROLLOUTS: Final = "/api/v1/projects/{project}/rollouts"
_ROLLOUT: Final = "/api/v1/projects/{project}/endpoints/{name}/rollout"
_ENTRIES: Final = Parameter("entries", int, "of the timeline, the newest; by default all", -1, ENTRIES_MAX)

OPERATIONS: Final = (
    Operation(
        "GET",
        _ROLLOUTS,
        _rollouts_of,
        "Rollouts, newest first",
        "endpoints:read",
        answer=RolloutList,
        query=(
            Parameter("endpoint", str, "only those of this endpoint", pattern=NAME),
            Parameter("limit", int, f"1 to {LIMIT_MAX}", 1, LIMIT_MAX),
        ),
    ),
    Operation(
        "GET",
        _ROLLOUTS + "/{number}",
        _rollout,
        "A rollout with its verdict and timeline",
        "endpoints:read",
        answer=RolloutDetail,
        query=(_ENTRIES,),
    ),
    Operation(
        "GET",
        _ROLLOUT,
        _newest_rollout,
        "An endpoint's newest rollout",
        "endpoints:read",
        answer=RolloutDetail,
        query=(_ENTRIES,),
    ),
    Operation(
        "POST",
        _ROLLOUT,
        _steer,
        "Pause, resume, promote, abort, approve, deny or retry an endpoint's newest rollout",
        "releases:decide",
        body=OrderBody,
        answer=RolloutDetail,
    ),
    Operation(
        "POST",
        _ROLLOUT + "/judged",
        _judged,
        "Tell what a judge of your own counted of both revisions",
        "releases:decide",
        body=JudgedBody,
        answer=Told,
    ),
)
