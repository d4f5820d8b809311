"""Replicas that die, hang, drain or kill; full queues, deadlines, clients that leave. Real processes, real signals."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.gateway.http.server import DRAIN_GRACE_S
from tests.gateway import rig as rigs
from tests.gateway.beside import beside
from tests.gateway.rig import Answer, Rig, ask, chat, client, counted, holds, infer, keep_alive, run
from tests.gateway.talkers import metric, metrics


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rigs.rig(tmp_path, replicas=2) as made:
        yield made


@contextlib.contextmanager
def lone(folder: Path) -> Iterator[Rig]:
    """Start one replica with four places, before which eight may wait."""
    with rigs.rig(folder, replicas=1, concurrency=4, queue_max=8) as made:
        yield made


@pytest.fixture
def single(tmp_path: Path) -> Iterator[Rig]:
    with lone(tmp_path) as made:
        yield made


async def load(rig: Rig, stop: asyncio.Event, bodies: list[str], answers: list[Answer]) -> None:
    """Send `bodies` in turn over one connection until `stop`."""
    async with client(rig) as one:
        number = 0
        while not stop.is_set():
            number += 1
            text = bodies[number % len(bodies)].encode()
            answers.append(await one.request("POST", "/v2/models/digits/infer", text))


async def more(rig: Rig, answers: list[list[Answer]], count: int = 10) -> None:
    """Wait until every replica runs and each connection has `count` more answers.

    So what was in a replica that died was answered, after its trial: a kill during that would look like its fault.
    """
    await holds(lambda: all(process.poll() is None for process in rig.processes.values()))
    goals = [len(mine) + count for mine in answers]
    await holds(lambda: all(len(mine) >= goal for mine, goal in zip(answers, goals, strict=True)))


def reached(rig: Rig, *names: str) -> list[str]:
    """Return the ids of the requests that came to replicas, in order."""
    return [line.split()[2] for name in names for line in rig.lines(name) if line.startswith("request ")]


@pytest.mark.parametrize("kind", ["alike", "different", "slow"])
def test_a_replica_killed_under_load_loses_nothing(rig: Rig, kind: str) -> None:
    async def work() -> None:
        stop, answers = asyncio.Event(), [list[Answer]() for _ in range(32)]
        bodies = {"alike": ["{}"], "different": [], "slow": ["slow:0.05 a", "slow:0.03 b"]}[kind]
        loads = [
            asyncio.create_task(load(rig, stop, bodies or [f"{{{at}-{n}}}" for n in range(50)], mine))
            for at, mine in enumerate(answers)
        ]
        keepers = [keep_alive(rig, name, stop) for name in ("r0", "r1")]
        for name in ("r0", "r1", "r0"):
            await more(rig, answers)
            rig.kill(name)
        await more(rig, answers)
        stop.set()
        await asyncio.gather(*loads, *keepers)
        lost = [answer.body for mine in answers for answer in mine if answer.status != 200]
        assert lost == []

    run(work)


def test_the_only_replica_killed_under_load_is_waited_for(single: Rig) -> None:
    async def work() -> None:
        stop, answers = asyncio.Event(), [list[Answer]() for _ in range(8)]
        loads = [asyncio.create_task(load(single, stop, [f"{{{at}}}"], mine)) for at, mine in enumerate(answers)]
        keeper = keep_alive(single, "r0", stop)
        for _ in range(3):
            await more(single, answers)
            single.kill("r0")
        await more(single, answers)
        stop.set()
        await asyncio.gather(*loads, keeper)
        assert {answer.status for mine in answers for answer in mine} == {200}

    run(work)


@pytest.mark.parametrize("innocent", ["slow:0.02 {}", "{}"])
def test_one_killer_among_64_innocents_is_convicted_and_nobody_else_notices(rig: Rig, innocent: str) -> None:
    async def work() -> None:
        stop = asyncio.Event()
        keepers = [keep_alive(rig, name, stop) for name in ("r0", "r1")]
        innocents = [asyncio.create_task(infer(rig, f"{innocent} {number}")) for number in range(63)]
        killer = asyncio.create_task(infer(rig, "please die now"))
        answers = await asyncio.gather(*innocents)
        assert {answer.status for answer in answers} == {200}, [a.body for a in answers if a.status != 200]
        refused = await killer
        assert refused.status == 422
        assert "killed" in refused.json["error"]
        again = await asyncio.gather(*(infer(rig, "please die now") for _ in range(5)))
        assert {answer.status for answer in again} == {422}
        deaths = [line for name in ("r0", "r1") for line in rig.lines(name) if line.startswith("died")]
        assert deaths == ["died alone=False", "died alone=True"] or sorted(deaths) == sorted(
            ["died alone=False", "died alone=True"]
        )
        assert (await infer(rig, "{}")).status == 200
        stop.set()
        await asyncio.gather(*keepers)

    run(work)


def test_several_killers_each_cost_two_deaths_and_innocents_are_served(rig: Rig) -> None:
    async def work() -> None:
        stop = asyncio.Event()
        keepers = [keep_alive(rig, name, stop) for name in ("r0", "r1")]
        killers = [asyncio.create_task(infer(rig, f"die {number}")) for number in range(3)]
        innocents = [asyncio.create_task(infer(rig, f"slow:0.02 {number}")) for number in range(60)]
        assert {answer.status for answer in await asyncio.gather(*innocents)} == {200}
        assert [answer.status for answer in await asyncio.gather(*killers)] == [422] * 3
        stop.set()
        await asyncio.gather(*keepers)

    run(work)


def test_a_stream_cut_by_a_death_ends_with_a_typed_error_event(rig: Rig) -> None:
    async def work() -> None:
        body = chat("chunks:50 every:0.01 cut-after:5", stream=True)
        answer = await ask(rig, "POST", "/v1/chat/completions", body)
        assert answer.status == 200
        events = answer.body.strip().split(b"\n\n")
        assert b'"code":"replica_lost"' in events[-1]
        assert len(events) == 6

    run(work)


def test_a_stream_that_dies_before_its_first_piece_goes_elsewhere(rig: Rig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def work() -> None:
        tasks = [
            asyncio.create_task(ask(rig, "POST", "/v1/chat/completions", chat(f"until:{gate} {n}", stream=True)))
            for n in range(6)
        ]
        await holds(lambda: len(reached(rig, "r0", "r1")) == 6)
        rig.kill("r0")
        gate.touch()
        answers = await asyncio.gather(*tasks)
        assert all(answer.body.endswith(b"[DONE]\n\n") for answer in answers)

    run(work)


@pytest.mark.alone
def test_the_deadline_is_the_clients_or_the_endpoints(rig: Rig) -> None:
    async def work() -> None:
        began_s = time.monotonic()
        late = await infer(rig, "hang", x_request_timeout_ms="150")
        assert late.status == 504
        assert 0.14 < time.monotonic() - began_s < 1
        assert "not finished in 0.15 s" in late.json["error"]
        for timeout_ms in (200, 1000, 5000):  # before its first piece it is a status, as above
            body = chat(f"chunks:{timeout_ms} every:0.05", stream=True)
            cut = await ask(rig, "POST", "/v1/chat/completions", body, x_request_timeout_ms=f"{timeout_ms}")
            if cut.status != 504:
                break
        assert cut.status == 200
        assert b'"code":"deadline_exceeded"' in cut.body.strip().split(b"\n\n")[-1]
        rigs.until(lambda: sum("cancelled" in rig.lines(name) for name in ("r0", "r1")) >= 1, "the engine is told")

    run(work)


@pytest.mark.parametrize("text", ["hang", "chunks:1000 every:0.05"])
def test_a_client_that_leaves_is_cancelled_down_to_the_engine(rig: Rig, text: str) -> None:
    async def work() -> None:
        def count(word: str) -> int:
            return sum(line.startswith(word) for name in ("r0", "r1") for line in rig.lines(name))

        async with client(rig) as one:
            one.send("POST", "/v1/chat/completions", chat(text, stream="chunks" in text))
            while count("request chat") == 0:
                await asyncio.sleep(0.01)
        while count("cancelled") == 0:  # bounded by run
            await asyncio.sleep(0.01)

    run(work)


def test_a_full_queue_refuses_with_the_time_to_come_back_and_keeps_the_order(single: Rig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def held() -> float:
        """Return how many hold a place or wait for one."""
        text = await metrics(single)
        return sum(metric(text, name, endpoint="digits") for name in ("stoker_in_flight", "stoker_queue_depth"))

    async def work() -> None:
        names = [f"n{number:02d}" for number in range(12)]  # four places and eight in the queue
        tasks = []
        for count, name in enumerate(names, 1):
            tasks.append(asyncio.create_task(infer(single, f"until:{gate}", x_request_id=name)))
            while await held() < count or len(reached(single, "r0")) < min(count, 4):  # bounded by run
                await asyncio.sleep(0.002)
        refused = [await infer(single, f"until:{gate}") for _ in range(8)]
        assert {answer.status for answer in refused} == {429}
        assert all(1 <= int(answer.headers["retry-after"]) <= 120 for answer in refused)
        gate.touch()
        assert {answer.status for answer in await asyncio.gather(*tasks)} == {200}
        assert reached(single, "r0") == names

    run(work)


def test_what_cannot_make_its_deadline_is_refused_at_once(single: Rig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def waiting(count: int) -> None:
        while metric(await metrics(single), "stoker_queue_depth", endpoint="digits") < count:
            await asyncio.sleep(0.005)

    async def work() -> None:
        await asyncio.gather(*(infer(single, f"slow:0.5 learn {number}") for number in range(4)))
        tasks = [asyncio.create_task(infer(single, f"until:{gate} {number}")) for number in range(10)]
        await waiting(6)
        refused = await infer(single, "{}", x_request_timeout_ms="300")
        assert refused.status == 429, "had it waited for its deadline, it would be 504"
        late = asyncio.create_task(infer(single, "{}", x_request_timeout_ms="50000"))
        await waiting(7)
        gate.touch()
        assert {answer.status for answer in await asyncio.gather(*tasks, late)} == {200}

    run(work)


def test_a_draining_replica_is_left_without_an_error(rig: Rig) -> None:
    async def work() -> None:
        answers = [await infer(rig, "refuse:draining") for _ in range(1)]
        assert answers[0].status == 503  # all drain: nothing is left to try
        assert "retry-after" in answers[0].headers

    run(work)


def test_a_loading_replica_is_waited_for_and_a_failed_one_says_why(tmp_path: Path) -> None:
    with rigs.rig(tmp_path, replicas=0) as rig:
        rig.kill("gateway-0")
        rig.start_replica("r0", "--state", "loading")
        rig.write_table(["r0"])
        rig.start_gateway()

        async def work() -> None:
            waiting = asyncio.create_task(infer(rig, "{}"))
            while not metric(await metrics(rig), "stoker_queue_depth", endpoint="digits"):
                assert not waiting.done()
                await asyncio.sleep(0.01)
            rig.kill("r0", signal.SIGUSR1)
            assert (await waiting).status == 200

        run(work)
        rig.kill("r0")
        rig.start_replica("r0", "--state", "failed")

        async def failed() -> None:
            while (answer := await infer(rig, "{}", x_request_timeout_ms="1000")).status != 503:
                await asyncio.sleep(0.05)
            assert "the weights are missing" in answer.json["error"]
            assert answer.headers["retry-after"] == "10"

        run(failed)


@beside
def test_a_stopped_replica_is_ejected_and_its_requests_move(folder: Path) -> None:
    """How soon, says test_routing.py."""

    async def tries(rig: Rig) -> tuple[float, float]:
        """Return how many requests r1 answered, and how many tries moved."""
        seen = await counted(rig)
        answered = seen.total("stoker_replica_requests_total", endpoint="digits", replica="r1", code="200")
        return answered, seen.total("stoker_retries_total", endpoint="digits")

    async def work() -> None:
        rig.kill("r0", signal.SIGSTOP)
        answers = await asyncio.gather(*(infer(rig, f"{{{number}}}") for number in range(30)))
        assert {answer.status for answer in answers} == {200}
        assert metric(await metrics(rig), "stoker_ejections_total", reason="silent", endpoint="digits") == 1
        answered, moved = await tries(rig)
        assert moved > 0
        assert {a.status for a in await asyncio.gather(*(infer(rig, f"{{{n}}}") for n in range(20)))} == {200}
        assert await tries(rig) == (answered + 20, moved), "none was tried on the one that is out"
        rig.kill("r0", signal.SIGCONT)
        while not await rigs.all_see(rig, 2):
            await asyncio.sleep(0.05)

    with rigs.rig(folder, replicas=2) as rig:
        run(work)


@beside
def test_the_time_in_which_a_lone_replica_stands_still_with_requests_is_counted(folder: Path) -> None:
    async def stalled_s() -> float:
        labels = {"project": "default", "endpoint": "digits", "replica": "r0"}
        return (await counted(single)).total("stoker_replica_stalled_seconds_total", **labels)

    async def work() -> None:
        assert (await infer(single, "{}")).status == 200
        assert await stalled_s() == 0
        single.kill("r0", signal.SIGSTOP)
        waiting = asyncio.create_task(infer(single, "{}"))
        while await stalled_s() < 1.0:
            assert not waiting.done()
            await asyncio.sleep(0.1)
        single.kill("r0", signal.SIGCONT)
        assert (await waiting).status == 200
        before = await stalled_s()
        assert (await infer(single, "slow:0.5")).status == 200
        assert await stalled_s() == before

    with lone(folder) as single:
        run(work)


@beside
def test_a_replica_that_answers_pings_but_finishes_nothing_is_ejected(folder: Path) -> None:
    async def work() -> None:
        rig.kill("r0", signal.SIGUSR2)
        stop, answers = asyncio.Event(), list[Answer]()
        # Its peer goes on finishing work, so it is not the machine: three seconds are enough.
        loads = [asyncio.create_task(load(rig, stop, ["slow:0.01"], answers)) for _ in range(8)]
        while 'reason="stuck"' not in (await ask(rig, "GET", "/metrics")).body.decode():
            await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*loads)
        assert {answer.status for answer in answers} == {200}

    with rigs.rig(folder, replicas=2) as rig:
        run(work)


def test_a_gateway_restarted_without_control_serves_from_the_table_on_disk(rig: Rig) -> None:
    rig.kill("gateway-0")
    rig.start_gateway()

    async def work() -> None:
        assert (await infer(rig, "{}")).status == 200

    run(work)


def test_a_broken_table_on_disk_is_a_gateway_that_is_not_ready(rig: Rig) -> None:
    rig.kill("gateway-0")
    (rig.home.gateway / "routes.json").write_text('{"version": 3, "endpo')
    rig.start_gateway()

    async def work() -> None:
        assert (await ask(rig, "GET", "/readyz")).status == 503
        assert (await ask(rig, "GET", "/healthz")).status == 200
        assert (await infer(rig, "{}")).status == 401

    run(work)


def test_a_drain_finishes_what_is_there_and_exits_well(rig: Rig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def work() -> None:
        answers: list[list[Answer]] = [[] for _ in range(8)]
        slow = [asyncio.create_task(infer(rig, f"until:{gate} {number}")) for number in range(10)]

        async def busy(mine: list[Answer]) -> None:
            async with client(rig) as one:
                while not mine or mine[-1].headers.get("connection") != "close":
                    sent_s = time.monotonic()
                    try:
                        mine.append(await one.request("POST", "/v2/models/digits/infer", b"{}"))
                    except (ConnectionError, asyncio.IncompleteReadError):
                        assert time.monotonic() - sent_s > DRAIN_GRACE_S, "only who did not send for so long is cut"
                        return

        async with client(rig) as streaming:
            streaming.send("POST", "/v1/chat/completions", chat("chunks:30 every:0.05", stream=True))
            assert (await streaming.head())[0] == 200
            loads = [asyncio.create_task(busy(mine)) for mine in answers]
            await holds(lambda: len(reached(rig, "r0", "r1")) >= 10 and all(answers))
            rig.kill("gateway-0", signal.SIGTERM)
            await asyncio.gather(*loads)
            assert {answer.status for mine in answers for answer in mine} == {200}
            gate.touch()
            assert {(await task).status for task in slow} == {200}
            assert [piece async for piece in streaming.chunks()][-1].endswith(b"[DONE]\n\n")
        await holds(lambda: rig.processes["gateway-0"].poll() is not None)
        assert rig.processes["gateway-0"].returncode == 0

    run(work)


def queued(port: int) -> int:
    """Return how many connections to `port` the kernel has made that nobody has accepted."""
    found = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if state == "0A" and int(local.rpartition(":")[2], 16) == port:
            found += int(queues.rpartition(":")[2], 16)
    return found


def test_a_gateway_that_drains_beside_another_loses_no_new_connection(tmp_path: Path) -> None:
    """Connections that the kernel made and it has not accepted yet are taken over, however many wait."""
    with rigs.rig(tmp_path, replicas=1, gateways=2) as rig:

        async def work() -> None:
            rig.kill("gateway-1", signal.SIGSTOP)
            tasks = [asyncio.create_task(infer(rig, f"{{{number}}}")) for number in range(40)]
            await holds(lambda: queued(rig.port) + sum(task.done() for task in tasks) == 40)
            assert 0 < queued(rig.port) < 40, "the kernel gives each of them some"
            rig.kill("gateway-1", signal.SIGTERM)
            rig.kill("gateway-1", signal.SIGCONT)
            assert {answer.status for answer in await asyncio.gather(*tasks)} == {200}
            await holds(lambda: rig.processes["gateway-1"].poll() is not None)
            assert rig.processes["gateway-1"].returncode == 0
            await asyncio.to_thread(rig.start_gateway, 1, 2)
            assert {(await infer(rig, f"{{{number}}}")).status for number in range(20)} == {200}

        run(work)


def test_two_gateways_share_a_port_their_numbers_and_their_convictions(tmp_path: Path) -> None:
    with rigs.rig(tmp_path, replicas=2, gateways=2) as rig:

        async def work() -> None:
            stop = asyncio.Event()
            keepers = [keep_alive(rig, name, stop) for name in ("r0", "r1")]
            innocents = [asyncio.create_task(infer(rig, f"slow:0.02 {number}")) for number in range(63)]
            killer = asyncio.create_task(infer(rig, "die"))
            answers = await asyncio.gather(*innocents)
            assert {answer.status for answer in answers} == {200}, [a.body for a in answers if a.status != 200]
            assert (await killer).status == 422
            await asyncio.sleep(0.3)
            assert {a.status for a in await asyncio.gather(*(infer(rig, "die") for _ in range(12)))} == {422}
            text = (await ask(rig, "GET", "/metrics")).body.decode()
            assert 'process="gateway-0"' in text
            assert 'process="gateway-1"' in text
            rig.kill("gateway-1")
            seen = [await infer(rig, f"{{{number}}}") for number in range(20)]
            assert {answer.status for answer in seen} == {200}
            stop.set()
            await asyncio.gather(*keepers)

        run(work)
