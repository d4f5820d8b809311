"""What becomes of an answer that arrives when its endpoint is gone, replaced, or keeps nothing any more."""

import time

import msgspec
import pytest

from stoker.gateway.answers import Answers
from stoker.gateway.exchange import Exchange
from stoker.gateway.http.incoming import HttpRequest
from stoker.gateway.lane import Lane
from stoker.gateway.layers.upstream import upstream
from stoker.gateway.meters import Meters
from stoker.gateway.protocols.oip_http import OipShapes
from stoker.gateway.router import Route
from stoker.protocol.frames import EndHead
from stoker.telemetry.metrics import Registry
from stoker.types.ids import EndpointName, ProjectName, RevisionId
from stoker.types.routes import CacheRoute, EndpointRoute, RevisionRoute
from tests.gateway.rig import run
from tests.gateway.test_cache import Listener

TABLE = EndpointRoute(
    ProjectName("p"),
    EndpointName("e"),
    "predict",
    1.0,
    (RevisionRoute(RevisionId("e-1"), "1", 100, ()),),
    cache=CacheRoute(600.0, 1 << 20, shared=False),
)


def exchange(lane: Lane) -> Exchange:
    made = Exchange(Listener(), HttpRequest(b"POST", b"/", {}, 0.0), Route(OipShapes(), upstream, "infer"), "e", "")
    made.lane, made.revision, made.identity = lane, "e-1", b"same"
    return made


@pytest.mark.parametrize(
    ("change", "is_kept"),
    [
        ({}, True),
        ({"timeout_s": 1.0}, True),
        ({"cache": None}, False),
        ({"created_at_s": 2.0}, False),
        ({"revisions": (RevisionRoute(RevisionId("e-2"), "1", 100, ()),)}, False),
    ],
)
def test_an_answer_is_kept_when_it_arrives_if_its_endpoint_is_still_the_one_that_was_asked(
    change: dict[str, object], is_kept: bool
) -> None:
    async def work() -> None:
        answers = Answers(1 << 20)
        lane = Lane(TABLE, Meters(Registry("t"), "p", "e"), lambda lane, shape: None)
        shelf = answers.shelf(lane)
        asked = exchange(lane)
        lane.update(msgspec.structs.replace(TABLE, **change))
        shelf.keep(asked, TABLE, EndHead(), b"x" * 100, time.monotonic())
        assert (answers.allowance.used_bytes > 0) == is_kept

    run(work)


def test_what_arrives_after_its_shelf_was_closed_takes_no_bytes_that_nobody_gives_back() -> None:
    async def work() -> None:
        answers = Answers(1 << 20)
        lane = Lane(TABLE, Meters(Registry("t"), "p", "e"), lambda lane, shape: None)
        shelf = answers.shelf(lane)
        shelf.keep(exchange(lane), TABLE, EndHead(), b"x", 0.0)
        assert answers.allowance.used_bytes > 0
        answers.sweep([], 1.0)  # the endpoint was deleted
        assert answers.allowance.used_bytes == 0
        shelf.keep(exchange(lane), TABLE, EndHead(), b"x", 1.0)
        lane.update(msgspec.structs.replace(TABLE, cache=CacheRoute(5.0, 1 << 20, shared=True)))
        shelf.keep(exchange(lane), TABLE, EndHead(), b"x", 1.0)
        assert answers.allowance.used_bytes == 0

    run(work)
