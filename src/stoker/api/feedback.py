"""Operations on feedback: what turned out to be true of predictions, and how good an endpoint is by it."""

import re
import time
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.responses import Response

from stoker.api.bodies import decoded, number, reply
from stoker.api.operations import Call, Operation, Parameter
from stoker.api.queries import NAME
from stoker.client.views import QualityView
from stoker.core.feedback import Amount, Label, Outcome, class_text, number_of
from stoker.types.errors import InvalidInput, NotFound
from stoker.types.feedback import CLASS_MAX, ID_MAX
from stoker.types.slos import METRIC_PATTERN

ITEMS_MAX: Final = 1_000
METRICS_MAX: Final = 8  # of one item
_RANK: Final[tuple[Outcome, ...]] = ("unknown", "joined", "duplicate")
WINDOW_S_MAX: Final = 90 * 86_400.0
WINDOW_S: Final = 86_400.0


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of one prediction: its class, its value, or (0 to 1) how good somebody found it, one of them; and
    what the answer was worth.
    """

    id: Annotated[str, Meta(min_length=1, max_length=ID_MAX, description="the x-request-id; `ID#3` is its row 3")]
    label: Annotated[str, Meta(max_length=CLASS_MAX)] | float | bool | None = None
    value: float | None = None
    score: Annotated[float, Meta(ge=0, le=1)] | None = None
    metrics: Annotated[
        dict[str, Annotated[float, Meta(ge=0)]],
        Meta(max_length=METRICS_MAX, description="business metrics, such as revenue; not negative"),
    ] = {}
    at: Annotated[float, Meta(ge=0, description="unix time when it was known; by default now")] | None = None


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Labels of one project."""

    items: Annotated[list[Item], Meta(max_length=ITEMS_MAX)]


class Result(msgspec.Struct, frozen=True):
    """What became of a label. unknown: no prediction of that id is known; should it come within a minute, it joins."""

    id: str
    outcome: Outcome


class Results(msgspec.Struct, frozen=True):
    """The results, in the order of the items."""

    items: list[Result]


async def _feedback(call: Call) -> Response:
    assert call.key is not None
    project = call.request.query_params.get("project", str(call.key.project))
    if call.grant.only not in (None, project):
        raise NotFound(f"there is nothing at {project[:200]!r} that this key may see")
    batch = await decoded(call.request, Batch)
    now_s = time.time()
    labels = [_label(at, item, now_s) for at, item in enumerate(batch.items)]
    amounts = [amount for at, item in enumerate(batch.items) for amount in _amounts(at, item, now_s)]
    found: dict[int, list[Outcome]] = {}
    known = [one for one in labels if one is not None]
    places = [at for at, one in enumerate(labels) if one is not None]
    for at, outcome in zip(places, await call.plane.feedback.label(project, known) if known else [], strict=True):
        found.setdefault(at, []).append(outcome)
    places = [at for at, item in enumerate(batch.items) for _ in item.metrics]
    for at, outcome in zip(places, await call.plane.feedback.add(project, amounts) if amounts else [], strict=True):
        found.setdefault(at, []).append(outcome)
    return reply(Results([Result(one.id, min(found[at], key=_RANK.index)) for at, one in enumerate(batch.items)]))


def _amounts(at: int, item: Item, now_s: float) -> list[Amount]:
    """Return what an item says its answer was worth. Raises InvalidInput."""
    for name in item.metrics:
        if not re.fullmatch(METRIC_PATTERN, name):
            problem = f"{name[:64]!r} is no name of a metric; write one such as revenue, in small letters"
            raise InvalidInput(problem, field=f"items[{at}].metrics")
    when_s = min(item.at, now_s) if item.at is not None else now_s
    return [Amount(item.id, name, amount, when_s) for name, amount in item.metrics.items()]


def _label(at: int, item: Item, now_s: float) -> Label | None:
    """Return an item as a label, None if it has metrics alone. Raises InvalidInput.

    A time in the future is now: it would win for ever.
    """
    given = [one for one in (item.label, item.value, item.score) if one is not None]
    if not given and item.metrics:
        return None
    if len(given) != 1:
        raise InvalidInput("name one of label, value and score, or metrics", field=f"items[{at}]")
    if not isinstance(given[0], str) and number_of(given[0]) is None:
        raise InvalidInput("is no finite number", field=f"items[{at}]")
    when_s = min(item.at, now_s) if item.at is not None else now_s
    if item.label is not None:
        return Label(item.id, "label", class_text(item.label), when_s)
    return Label(item.id, "value" if item.value is not None else "score", float(given[0]), when_s)


async def _quality(call: Call) -> Response:
    where = call.request.path_params
    window_s = number(call.request, "window_s", WINDOW_S, 60, WINDOW_S_MAX)
    return reply(await call.plane.feedback.view(where["project"], where["name"], window_s))


OPERATIONS: Final = (
    Operation(
        "POST",
        "/api/v1/feedback",
        _feedback,
        "Tell what turned out to be true of predictions",
        "endpoints:call",
        where="each",
        body=Batch,
        answer=Results,
        query=(Parameter("project", str, "of the predictions; by default the key's own", pattern=NAME),),
        audit="nothing",
    ),
    Operation(
        "GET",
        "/api/v1/projects/{project}/endpoints/{name}/quality",
        _quality,
        "How good an endpoint's predictions were, by their labels",
        "endpoints:read",
        answer=QualityView,
        query=(Parameter("window_s", float, "how far back; by default a day, at most what is kept", 60, WINDOW_S_MAX),),
    ),
)
