"""The queue where requests leave in the very moment in which a place comes."""

import asyncio
from typing import Any, cast

import pytest

from stoker.gateway.exchange import Exchange
from stoker.gateway.fleet.replica import Replica
from stoker.gateway.http.incoming import HttpRequest
from stoker.gateway.protocols.oip_http import OipShapes
from stoker.gateway.queue import AHEAD_REQUESTS, Queue, Waiting
from stoker.gateway.router import Route
from stoker.types.errors import DeadlineExceeded
from stoker.types.ids import KeyId, ProjectName
from stoker.types.routes import KeyRoute


def waiting(version: str, band: int = 1, tenant: str = "k") -> Waiting:
    async def never(_: Exchange) -> None: ...

    request = HttpRequest(b"POST", b"/", {}, 0.0)
    exchange = Exchange(cast(Any, None), request, Route(OipShapes(), never, "infer"), "m", version)
    exchange.band = band
    exchange.key = KeyRoute("0", KeyId(tenant), ProjectName("p"))
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


def test_who_asks_for_a_version_has_the_same_order_as_all_others() -> None:
    """Urgent before what can be shed; given up at the head; passed over while only another version has places."""

    async def work() -> None:
        queue, free = Queue(), ["1", "1", "2"]
        replica = cast(Replica, object())
        late = DeadlineExceeded("too late")

        def take(exchange: Exchange) -> Replica | None:
            found = next((version for version in free if exchange.version in ("", version)), None)
            if found is None:
                return None
            free.remove(found)
            return replica

        def serve() -> None:
            queue.serve(lambda: bool(free), take, lambda exchange: late if exchange is lost.exchange else None)

        background, any_version, lost, urgent = (waiting("2", 2), waiting("", 2), waiting("2", 0), waiting("2", 0))
        for each in (background, any_version, lost, urgent):
            queue.put(each, in_front=False)
        serve()
        assert lost.place.exception() is late
        assert [each.place.done() for each in (urgent, any_version, background)] == [True, True, False]
        assert free == ["1"], "no place of version 1 for who asked for version 2"
        assert len(queue) == 1
        free.append("2")
        serve()
        assert background.place.result() is replica

    asyncio.run(work())


def test_a_try_that_nobody_needed_is_paid_by_the_tenant_it_was_for() -> None:
    async def work() -> None:
        queue = Queue()
        hedged, other = waiting("", tenant="a"), waiting("", tenant="b")
        queue.put(hedged, in_front=False)
        queue.put(other, in_front=False)
        queue.charge(hedged.exchange, 5.0)
        free = [cast(Replica, object())]
        queue.serve(lambda: bool(free), lambda _: free.pop(), lambda _: None)
        assert other.place.done(), "the other tenant had less"

    asyncio.run(work())


def test_where_no_place_is_free_only_who_is_owed_one_goes_and_as_long_as_there_is_room_past_them() -> None:
    async def work() -> None:
        queue, room = Queue(), [cast(Replica, object())] * 2
        busy, owed = [waiting("", tenant="busy") for _ in range(3)], [waiting("", tenant="owed") for _ in range(3)]
        for each in (*busy, *owed):
            queue.put(each, in_front=False)

        def taken(_: Exchange) -> Replica | None:
            raise AssertionError("no place is free")

        def serve() -> None:
            queue.serve(
                lambda: False,
                taken,
                lambda _: None,
                lambda _: room.pop() if room else None,
                lambda ticket: ticket.tenant == "owed",
            )

        serve()
        assert [each.place.done() for each in owed] == [True, True, False]
        assert not any(each.place.done() for each in busy)
        room.append(cast(Replica, object()))
        queue.charge(owed[0].exchange, AHEAD_REQUESTS + 1.0)
        serve()
        assert not owed[2].place.done(), "it was served more than who waits"
        queue.charge(busy[0].exchange, AHEAD_REQUESTS + 1.0)
        serve()
        assert owed[2].place.done()

    asyncio.run(work())
