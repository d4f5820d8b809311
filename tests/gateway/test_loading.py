"""What clients see of an endpoint whose replica loads: progress in streams, a time to come back for others."""

import asyncio
import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import openai
import pytest

from stoker.app.home import Home
from stoker.gateway.admission import TELL_AFTER_S
from stoker.gateway.exchange import Exchange
from stoker.gateway.http.incoming import HttpRequest
from stoker.gateway.lane import Lane
from stoker.gateway.layers.admit import admit
from stoker.gateway.meters import Meters
from stoker.gateway.protocols.openai_http import OpenAIShapes
from stoker.gateway.router import Route
from stoker.telemetry.metrics import Registry
from stoker.types.errors import StillLoading
from stoker.types.ids import EndpointName, KeyId, ProjectName, RevisionId
from stoker.types.loading import Usual
from stoker.types.routes import EndpointRoute, KeyRoute, RevisionRoute
from stoker.types.scaling import LaneLoad
from tests.gateway.rig import KEY, Rig, ask, chat, client, run
from tests.gateway.rollouts import call
from tests.gateway.test_cache import Listener

USUAL: Usual = (("weights", 3.4), ("warm-up", 0.9))
CUT_MS = "3500"  # long enough to be waited for (core/loading.SURE_RATIO), and to be told of progress before


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A gateway in front of one replica that loads until it is told that it is ready."""
    home = Home(tmp_path / "home")
    home.make()
    made = Rig(home)
    table = made.table(["r0"])
    for each in table["endpoints"]:
        each["start"] = USUAL
    (home.gateway / "routes.json").write_text(json.dumps(table))
    try:
        made.start_replica("r0", "--state", "loading", "--stage", "weights")
        made.start_gateway()
        yield made
    finally:
        made.close()


def test_streams_are_told_how_far_the_load_is_and_others_when_to_come_back(rig: Rig) -> None:
    async def listen(**headers: str) -> tuple[int, dict[str, str], bytes]:
        async with client(rig) as one:
            one.send("POST", "/v1/chat/completions", chat("x:", stream=True), **headers)
            return *await one.head(), b"".join([piece async for piece in one.chunks()])

    def sdk(timeout_ms: str) -> list[str]:
        """Return the words of a stream as OpenAI's own client reads it."""
        with openai.OpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{rig.port}/v1", max_retries=0) as made:
            said = made.chat.completions.create(
                model="smol",
                messages=[{"role": "user", "content": "x:"}],
                stream=True,
                extra_headers={"x-request-timeout-ms": timeout_ms},
            )
            return [each.choices[0].delta.content or "" for each in said]

    async def work() -> None:
        told, quiet = asyncio.create_task(listen()), asyncio.create_task(listen(x_stoker_progress="none"))
        by_sdk, cut = (asyncio.create_task(asyncio.to_thread(sdk, timeout_ms)) for timeout_ms in ("60000", CUT_MS))
        refused = await ask(rig, "POST", "/v1/chat/completions", chat("x"), x_request_timeout_ms="100")
        assert refused.status == 503
        assert refused.json["error"]["code"] == "loading"
        loads = msgspec.json.decode(await call(rig, "loads"), type=list[LaneLoad])
        assert [each.endpoint for each in loads if each.is_expected] == ["smol"]
        assert "smol is loading" in refused.json["error"]["message"]
        assert 1 <= int(refused.headers["retry-after"]) <= 7  # 4.3 s and what spreads a herd
        status, _, body = await listen(x_request_timeout_ms=CUT_MS)
        assert status == 200
        comments, event = after_comments(body)
        assert comments
        assert json.loads(event.partition(b"data: ")[2])["error"]["code"] == "deadline_exceeded"
        with pytest.raises(openai.APIError) as error:
            await cut
        assert error.value.code == "deadline_exceeded"
        rig.kill("r0", signal.SIGUSR1)
        status, headers, body = await told
        assert status == 200
        assert headers["content-type"].startswith("text/event-stream")
        assert headers["x-request-id"]
        comments, event = after_comments(body)
        assert comments
        assert event.startswith(b"data: ")
        assert body.endswith(b"data: [DONE]\n\n")
        status, _, body = await quiet
        assert (status, body[:6]) == (200, b"data: ")
        assert await by_sdk == ["tok"] * 3

    run(work)


def after_comments(body: bytes) -> tuple[list[bytes], bytes]:
    """Return what a stream tells of its load, and its first event."""
    pieces = body.split(b"\n\n")
    comments = list(itertools.takewhile(lambda each: each.startswith(b": loading "), pieces))
    return comments, pieces[len(comments)]


def lane(told: Callable[[], None], **limits: Any) -> Lane:
    """Return an endpoint that sleeps."""
    revision = RevisionRoute(RevisionId("p.e-1"), "1", 100, ())
    route = EndpointRoute(
        ProjectName("p"), EndpointName("e"), "chat", 0.0, (revision,), holds=True, start=USUAL, **limits
    )
    return Lane(route, Meters(Registry("t"), "p", "e"), lambda *_: None, asleep=told)


def exchange(lane: Lane, deadline_s: float, headers: dict[bytes, bytes]) -> Exchange:
    async def never(_: Exchange) -> None: ...

    made = Exchange(Listener(), HttpRequest(b"POST", b"/", headers, 0.0), Route(OpenAIShapes(), never, "chat"), "e", "")
    made.key = KeyRoute("0", KeyId("k"), ProjectName("p"))
    made.lane, made.deadline_s, made.routed_s = lane, time.monotonic() + deadline_s, time.monotonic()
    return made


def test_who_cannot_wait_wakes_what_sleeps_all_the_same() -> None:
    async def work() -> None:
        told: list[int] = []
        sleeps = lane(lambda: told.append(1))
        with pytest.raises(StillLoading, match=r"e is loading 0 %, about 4 s; the deadline is in 0\.5 s"):
            admit(cast(Any, None))(exchange(sleeps, 0.5, {}))
        assert told
        full = lane(lambda: told.append(2), queue_max=0)
        with pytest.raises(StillLoading, match="0 requests wait for it already"):
            admit(cast(Any, None))(exchange(full, 60.0, {}))

    run(work)


@pytest.mark.parametrize(
    ("waited_s", "stream", "can_move", "is_started", "is_stalled", "headers", "is_told"),
    [
        (TELL_AFTER_S, True, False, False, False, {}, True),
        (TELL_AFTER_S / 2, True, False, False, False, {}, False),  # an error may still have a status of its own
        (TELL_AFTER_S, False, False, False, False, {}, False),
        (TELL_AFTER_S, True, True, False, False, {}, False),  # another endpoint may serve it yet
        (TELL_AFTER_S, True, False, True, False, {}, False),  # it goes on after a cut
        (TELL_AFTER_S, True, False, False, True, {}, False),
        (TELL_AFTER_S, True, False, False, False, {b"x-stoker-progress": b"none"}, False),
    ],
)
def test_who_is_told(
    waited_s: float,
    stream: bool,
    can_move: bool,
    is_started: bool,
    is_stalled: bool,
    headers: dict[bytes, bytes],
    is_told: bool,
) -> None:
    async def work() -> None:
        sleeps = lane(lambda: None)
        one = exchange(sleeps, 60.0, headers)
        one.stream, one.can_move, one.is_started = stream, can_move, is_started
        listener = cast(Listener, one.connection)
        listener.is_stalled = is_stalled
        waits = asyncio.create_task(sleeps.admission.wait(one))
        await asyncio.sleep(0)
        sleeps.sweep(one.routed_s + waited_s)
        assert one.is_opened is is_told
        waits.cancel()

    run(work)


def test_an_endpoint_whose_replica_is_ready_but_out_is_not_said_to_load() -> None:
    class Out:
        """A replica that a trial has for itself."""

        state, is_connected, revision = "ready", True, "p.e-1"

    async def work() -> None:
        sleeps = lane(lambda: None)
        assert sleeps.loading(1.0) is not None
        sleeps._replicas["r"] = cast(Any, Out())
        assert sleeps.loading(1.0) is None
        sleeps._replicas.clear()
        sleeps.update(msgspec.structs.replace(sleeps.route, revisions=()))
        assert sleeps.loading(1.0) is not None

    run(work)
