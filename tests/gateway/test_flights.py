"""Who shares a call and what each is told, over random orders of coming, leaving and ending that no network reaches."""

import asyncio
import copy
import random
import time
from dataclasses import dataclass, field

import pytest

from stoker.gateway.exchange import Exchange
from stoker.gateway.http.incoming import HttpRequest
from stoker.gateway.lane import Lane
from stoker.gateway.layers.coalesce import Flight, Flights, coalesce
from stoker.gateway.meters import Meters
from stoker.gateway.protocols.oip_http import OipShapes
from stoker.gateway.router import Route
from stoker.telemetry.metrics import Registry
from stoker.types.errors import Busy, DeadlineExceeded, InvalidInput, ReplicaLost, StokerError
from stoker.types.ids import EndpointName, KeyId, ProjectName
from stoker.types.routes import EndpointRoute, KeyRoute
from tests.gateway.rig import run
from tests.gateway.test_cache import Listener

ENDINGS: tuple[StokerError | None, ...] = (
    None,
    None,
    InvalidInput("the request is wrong", field="x"),
    Busy("full", retry_after_s=3.0),
    ReplicaLost("gone"),
    DeadlineExceeded("late"),
)


def table() -> EndpointRoute:
    return EndpointRoute(ProjectName("p"), EndpointName("e"), "predict", 0.0, (), coalesce=True)


@dataclass
class Call:
    """What reached the layer below."""

    exchange: Exchange
    route: EndpointRoute
    ending: "asyncio.Future[None]"
    is_cancelled: bool = False


@dataclass
class Caller:
    """One request, and how it ended."""

    exchange: Exchange
    client: Listener
    task: "asyncio.Task[None]" = field(init=False)
    has_left: bool = False


class World:
    """The layer over an endpoint without replicas; `below` is ended by hand."""

    def __init__(self) -> None:
        self.lane = Lane(table(), Meters(Registry("t"), "p", "e"), lambda lane, shape: None)
        self.handle = coalesce(Flights(), self.below)
        self.calls: list[Call] = []
        self.callers: list[Caller] = []

    async def below(self, exchange: Exchange) -> None:
        assert isinstance(exchange.connection, Flight)
        call = Call(exchange, exchange.connection.route, asyncio.get_running_loop().create_future())
        self.calls.append(call)
        try:
            await call.ending
        except asyncio.CancelledError:
            call.is_cancelled = True
            raise
        exchange.send(200, b"", exchange.body + b" %d" % self.calls.index(call))

    def arrive(self, body: bytes) -> None:
        client = Listener()
        request = HttpRequest(b"POST", b"/", {}, time.monotonic())
        request.body = body
        exchange = Exchange(client, request, Route(OipShapes(), self.handle, "infer"), "e", "")
        exchange.lane, exchange.key = self.lane, KeyRoute("", KeyId("k"), ProjectName("p"))
        exchange.deadline_s = time.monotonic() + 60
        caller = Caller(exchange, client)
        caller.task = asyncio.ensure_future(self.handle(exchange))
        self.callers.append(caller)

    def live(self) -> list[Call]:
        return [call for call in self.calls if not call.ending.done()]


def end(call: Call, ending: StokerError | None) -> None:
    if ending is None:
        call.ending.set_result(None)
    else:
        call.ending.set_exception(copy.copy(ending))


@pytest.mark.parametrize("seed", range(300))
def test_everybody_is_told_one_end_whatever_the_others_do(seed: int) -> None:
    async def work() -> None:
        draw, world = random.Random(seed), World()
        for _ in range(60):
            step = draw.random()
            waiting = [caller for caller in world.callers if not caller.task.done()]
            if step < 0.45:
                world.arrive(draw.choice((b"a", b"b")))
            elif step < 0.6 and waiting:
                for caller in draw.sample(waiting, draw.choice((1, len(waiting)))):
                    caller.has_left = True
                    caller.task.cancel()
            elif step < 0.75 and world.live():
                end(draw.choice(world.live()), draw.choice(ENDINGS))
            elif step < 0.8:
                world.lane.update(table())
            if draw.random() < 0.6:
                await asyncio.sleep(0)
                bodies = [(call.exchange.body, id(call.route)) for call in world.live()]
                assert len(bodies) == len(set(bodies)), "two calls for the same request"
        while any(not caller.task.done() for caller in world.callers):
            for call in world.live():
                end(call, None)
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        for caller in world.callers:
            if caller.task.cancelled():
                assert caller.has_left, "ended by somebody else's leaving"
            elif (problem := caller.task.exception()) is not None:
                assert isinstance(problem, StokerError)
                assert not caller.client.pieces
            else:
                (answer,) = caller.client.pieces
                body, _, number = answer.partition(b" ")
                assert body == caller.exchange.body
                assert world.calls[int(number)].exchange is not caller.exchange
        assert not world.live()

    run(work)


def test_who_comes_as_the_last_one_leaves_begins_a_call_of_his_own() -> None:
    async def work() -> None:
        world = World()
        world.arrive(b"a")
        while not world.calls:
            await asyncio.sleep(0)
        world.callers[0].task.cancel()
        await asyncio.sleep(0)  # the call is being cancelled, and has not noticed yet
        world.arrive(b"a")
        while len(world.calls) < 2:
            await asyncio.sleep(0)
        assert world.calls[0].is_cancelled
        end(world.calls[1], None)
        await world.callers[1].task
        assert world.callers[1].client.pieces == [b"a 1"]

    run(work)


def test_an_answer_of_before_a_new_route_table_is_for_those_who_came_before_it() -> None:
    async def work() -> None:
        world = World()
        world.arrive(b"a")
        while not world.calls:
            await asyncio.sleep(0)
        world.lane.update(table())
        world.arrive(b"a")
        while len(world.calls) < 2:
            await asyncio.sleep(0)
        end(world.calls[0], None)
        end(world.calls[1], None)
        await asyncio.gather(*(caller.task for caller in world.callers))
        assert [caller.client.pieces for caller in world.callers] == [[b"a 0"], [b"a 1"]]

    run(work)
