"""The queue where requests leave in the very moment in which a place comes."""

import asyncio
from typing import Any, cast

import pytest

from stoker.gateway.exchange import Exchange
from stoker.gateway.fleet.replica import Replica
from stoker.gateway.http.incoming import HttpRequest
from stoker.gateway.protocols.oip_http import OipShapes
from stoker.gateway.queue import Queue, Waiting
from stoker.gateway.router import Route
from stoker.types.ids import KeyId, ProjectName
from stoker.types.routes import KeyRoute


def waiting(version: str) -> Waiting:
    async def never(_: Exchange) -> None: ...

    request = HttpRequest(b"POST", b"/", {}, 0.0)
    exchange = Exchange(cast(Any, None), request, Route(OipShapes(), never, "infer"), "m", version)
    exchange.key = KeyRoute("0", KeyId("k"), ProjectName("p"))
    return Waiting(exchange, asyncio.get_running_loop().create_future())


@pytest.mark.parametrize("version", ["", "2"])
def test_who_leaves_in_the_moment_a_place_comes_takes_none_and_holds_up_nobody(version: str) -> None:
    async def work() -> None:
        queue, taken = Queue(), list[Exchange]()
        replica = cast(Replica, object())

        def take(exchange: Exchange) -> Replica:
            taken.append(exchange)
            return replica

        gone, stays = waiting(version), waiting(version)
        for each in (gone, stays):
            queue.put(each, in_front=False)
        gone.place.cancel()  # as a task's cancel does, before the task itself has run again
        queue.serve(lambda: True, take, lambda _: None)
        assert taken == [stays.exchange]
        assert stays.place.result() is replica

    asyncio.run(work())
