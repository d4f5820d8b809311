"""Several replicas: who gets what, who is left out, who comes back. Real processes, real signals."""

import asyncio
import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stoker.protocol.link import connect
from tests.gateway import rig as rigs
from tests.gateway.beside import beside
from tests.gateway.rig import Rig, all_see, ask, client, holds, infer, run
from tests.gateway.talkers import metric


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Rig]:
    with rigs.rig(tmp_path, replicas=4) as made:
        yield made


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Rig]:
    with rigs.rig(tmp_path, replicas=3) as made:
        yield made


class Loads:
    """Connections that ask again and again. `seen` holds when each request began, how long it took, and its status."""

    def __init__(self, rig: Rig, text: str, connections: int) -> None:
        self.seen: list[tuple[float, float, int]] = []
        self.counts = [0] * connections  # of answers
        self._stop = asyncio.Event()
        self._tasks = [asyncio.create_task(self._ask(rig, text, at)) for at in range(connections)]

    async def _ask(self, rig: Rig, text: str, at: int) -> None:
        async with client(rig) as one:
            while not self._stop.is_set():
                began_s = time.monotonic()
                answer = await one.request("POST", "/v2/models/digits/infer", text.encode())
                self.seen.append((began_s, time.monotonic() - began_s, answer.status))
                self.counts[at] += 1

    async def end(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    def statuses(self) -> set[int]:
        return {status for _, _, status in self.seen}

    def took_s(self, after_s: float) -> list[float]:
        """Return how long requests took that began after `after_s`, quickest first."""
        return sorted(took_s for began_s, took_s, _ in self.seen if began_s > after_s)


async def metrics(rig: Rig) -> str:
    return (await ask(rig, "GET", "/metrics")).body.decode()


async def until(claim: Callable[[str], bool], rig: Rig) -> None:
    """Wait until the metrics say so; bounded by run."""
    while not claim(await metrics(rig)):
        await asyncio.sleep(0.05)


async def ready(rig: Rig, count: int, endpoint: str = "digits") -> None:
    """Wait until every gateway knows of `count` replicas that take requests."""
    while not await all_see(rig, count, endpoint):
        await asyncio.sleep(0.05)


@pytest.mark.alone
def test_a_hung_replica_of_four_is_out_in_two_seconds_and_no_request_is_lost(four: Rig) -> None:
    async def work() -> None:
        await ready(four, 4)
        loads = Loads(four, "slow:0.02", 16)
        await asyncio.sleep(1)
        four.kill("r0", signal.SIGSTOP)
        hung_s = time.monotonic()
        await until(lambda text: 'reason="silent"} 1' in text, four)
        out_s = time.monotonic()
        assert out_s - hung_s < 2.8  # 1.5 s of silence, the rhythm of pings and looks, a slow machine
        await asyncio.sleep(1)
        await loads.end()
        assert loads.statuses() == {200}
        assert max(loads.took_s(hung_s)) < 3.5  # those it held were moved
        assert max(loads.took_s(out_s)) < 1.0  # and later ones never saw it
        await ready(four, 3)
        four.kill("r0", signal.SIGCONT)
        await ready(four, 4)

    run(work)


@pytest.mark.alone
def test_a_replica_ten_times_slower_gets_little_then_nothing_and_comes_back(four: Rig) -> None:
    four.kill("r3")
    four.start_replica("r3", "--pace", "10")

    async def work() -> None:
        await ready(four, 4)
        began_s = time.monotonic()
        loads = Loads(four, "slow:0.02", 32)
        await until(lambda text: 'endpoint="digits",reason="slow"} 1' in text, four)
        assert time.monotonic() - began_s < 4
        out_s = time.monotonic()
        four.kill("r3", signal.SIGUSR1)  # well again
        await ready(four, 4)
        assert time.monotonic() - out_s < 12  # after the first trial, not after thirty seconds
        await loads.end()
        assert loads.statuses() == {200}
        total, slow = len(loads.seen), sum(took_s > 0.2 for _, took_s, _ in loads.seen)
        assert slow < 0.05 * total, (slow, total)
        late = loads.took_s(out_s + 0.3)
        assert sum(took_s > 0.2 for took_s in late) < 0.01 * len(late)

    run(work)


@beside
def test_a_replica_that_fails_everything_is_left_out_and_tried_until_it_is_well(folder: Path) -> None:
    async def work() -> None:
        await ready(three, 3)
        for number in range(30):
            assert (await infer(three, f"{number}")).status == 200
        three.kill("r1", signal.SIGHUP)
        loads = Loads(three, "slow:0.005", 8)
        await until(lambda text: 'endpoint="digits",reason="errors"} 1' in text, three)
        goals = [count + 2 for count in loads.counts]  # for those on their way
        await holds(lambda: all(count >= goal for count, goal in zip(loads.counts, goals, strict=True)))
        out_s = time.monotonic()
        await asyncio.sleep(0.5)
        three.kill("r1", signal.SIGHUP)
        await ready(three, 3)
        back_s = time.monotonic() - out_s
        await loads.end()
        assert 2 < back_s < 12  # the first trial is after five seconds; the ejection would have lasted 30
        failed = [began_s for began_s, _, status in loads.seen if status != 200]
        assert 1 <= len(failed) < 30
        assert max(failed) < out_s
        assert 'why="probe"' in await metrics(three)

    with rigs.rig(folder, replicas=3) as three:
        run(work)


@beside
def test_errors_that_every_replica_gives_empty_no_fleet(folder: Path) -> None:
    async def work() -> None:
        for _ in range(60):
            assert (await infer(three, "refuse:engine_failed")).status == 500
        await asyncio.sleep(0.6)  # two looks
        assert (await infer(three, "{}")).status == 200
        assert 'stoker_ejections_total{project="default",endpoint="digits",reason="errors"}' not in await metrics(three)

    with rigs.rig(folder, replicas=3) as three:
        run(work)


@pytest.mark.alone
def test_two_gateways_fill_replicas_evenly(tmp_path: Path) -> None:
    with rigs.rig(tmp_path, replicas=4, gateways=2) as rig:

        async def work() -> None:
            await ready(rig, 4)
            links = [await connect(rig.home.address(f"r{number}")) for number in range(4)]
            loads = Loads(rig, "slow:0.1", 64)  # the kernel spreads the connections over both
            excess: list[float] = []
            ends_s = time.monotonic() + 2
            while time.monotonic() < ends_s:
                for link in links:
                    link.ping()
                await asyncio.sleep(0.02)
                held = [link.stats.others for link in links]
                if sum(held) > 32:
                    excess.append(max(held) - sum(held) / 4)
            await loads.end()
            for link in links:
                link.close()
            assert loads.statuses() == {200}
            excess.sort()
            assert len(excess) > 20
            assert excess[len(excess) // 2] < 8, excess  # of 16 in the mean
            text = await metrics(rig)
            assert 'process="gateway-0"' in text
            assert 'process="gateway-1"' in text

        run(work)


def chat(messages: list[dict[str, str]]) -> bytes:
    return json.dumps({"model": "smol", "messages": messages}).encode()


def served_by(rig: Rig, replicas: int) -> dict[str, list[str]]:
    """Return the replicas that took each request id's conversation (`conversation-turn`), in the order of turns."""
    turns: dict[str, dict[int, str]] = {}
    for name in (f"r{number}" for number in range(replicas)):
        for line in rig.lines(name):
            if line.startswith("request chat"):
                conversation, _, turn = line.split()[2].rpartition("-")
                turns.setdefault(conversation, {})[int(turn)] = name
    return {each: [found[turn] for turn in sorted(found)] for each, found in turns.items()}


def test_a_conversation_stays_where_its_beginning_is_known(three: Rig) -> None:
    async def converse(number: int) -> None:
        messages = [{"role": "system", "content": f"You are clerk {number % 3}. " + "Rules apply. " * 60}]
        for turn in range(5):
            messages.append({"role": "user", "content": f"Question {number} {turn}: " + "why so? " * 40})
            answer = await ask(three, "POST", "/v1/chat/completions", chat(messages), x_request_id=f"c{number}-{turn}")
            assert answer.status == 200
            messages.append({"role": "assistant", "content": "Because of this: " + "that is why. " * 20})

    async def work() -> None:
        await ready(three, 3, "smol")
        for number in range(3):  # one of each clerk first
            await converse(number)
        await asyncio.gather(*(converse(number) for number in range(3, 9)))
        text = await metrics(three)
        assert 'stoker_route_choices_total{project="default",endpoint="smol",why="affinity"}' in text

    run(work)
    explored = int(metric(asyncio.run(metrics(three)), "stoker_route_choices_total", endpoint="smol", why="explore"))
    moves = sum(one != other for turns in served_by(three, 3).values() for one, other in itertools.pairwise(turns))
    assert len(served_by(three, 3)) == 9
    assert moves <= explored <= 10  # of 36: one in a hundred explores, and stays; by chance alone 24 would move


def test_a_prompt_that_is_asked_often_becomes_known_to_a_second_replica(three: Rig) -> None:
    body = chat([{"role": "user", "content": "Who wrote this, and where? " * 60 + "slow:0"}])

    async def work() -> None:
        await ready(three, 3, "smol")
        async with client(three) as one:
            for number in range(1500):  # by chance none of so many explores once in three million runs
                answer = await one.request("POST", "/v1/chat/completions", body, x_request_id=f"c-{number}")
                assert answer.status == 200
        explored = metric(await metrics(three), "stoker_route_choices_total", endpoint="smol", why="explore")
        assert explored in (1, 2), "once all three know it there is nothing left to explore"
        assert len(set(served_by(three, 3)["c"])) == 1 + explored, "each went to one that knew less"

    run(work)


def test_a_session_stays_with_its_replica_whichever_gateway_and_those_of_a_dead_one_move_alone(tmp_path: Path) -> None:
    with rigs.rig(tmp_path, replicas=3, gateways=2) as rig:
        talk_in_sessions(rig)


def talk_in_sessions(three: Rig) -> None:
    messages = [{"role": "user", "content": "hello"}]

    async def talk(first: int) -> None:
        for turn in range(first, first + 3):
            for session in range(16):
                more = {"x_session_id": f"s{session}", "x_request_id": f"s{session}-{turn}"}
                assert (await ask(three, "POST", "/v1/chat/completions", chat(messages), **more)).status == 200

    async def work() -> None:
        await ready(three, 3, "smol")
        await talk(0)
        three.kill("r2")
        await talk(3)

    run(work)
    served = served_by(three, 3)
    assert len(served) == 16
    assert len({turns[0] for turns in served.values()}) == 3
    for turns in served.values():
        assert len(set(turns[:3])) == 1
        assert turns[3:] == turns[:3] or turns[0] == "r2"


def test_predictions_follow_a_session_where_the_manifest_says_so(tmp_path: Path) -> None:
    with rigs.rig(tmp_path, replicas=3, affinity="session") as rig:

        async def work() -> None:
            await ready(rig, 3)
            for number in range(12):
                for session in "abc":
                    more = {"x_session_id": session, "x_request_id": f"{session}-{number}"}
                    assert (await infer(rig, "slow:0.001", **more)).status == 200

        run(work)
        takers = [
            {line.split()[2].partition("-")[0] for line in rig.lines(f"r{number}") if line.startswith("request")}
            for number in range(3)
        ]
        assert sum(len(sessions & {"a", "b", "c"}) for sessions in takers) == 3


def test_a_session_whose_replica_is_full_spills_to_one_other_and_is_counted(tmp_path: Path) -> None:
    def taken() -> list[int]:
        return [sum(line.startswith("request") for line in rig.lines(f"r{number}")) for number in range(3)]

    with rigs.rig(tmp_path, replicas=3, affinity="session", concurrency=2) as rig:

        async def work() -> None:
            await ready(rig, 3)
            more = {"x_session_id": "busy"}
            tasks = [asyncio.create_task(infer(rig, f"until:{tmp_path / 'gate'}", **more)) for _ in range(4)]
            await holds(lambda: sum(taken()) == 4)
            (tmp_path / "gate").touch()
            assert {answer.status for answer in await asyncio.gather(*tasks)} == {200}
            text = await metrics(rig)
            for why in ("session", "overloaded_owner"):
                assert f'stoker_route_choices_total{{project="default",endpoint="digits",why="{why}"}} 2' in text

        run(work)
        assert sorted(taken()) == [0, 2, 2]


@beside
def test_a_gateway_that_was_held_up_blames_no_replica(folder: Path) -> None:
    async def work() -> None:
        await ready(three, 3)
        loads = Loads(three, "slow:0.02", 8)
        await asyncio.sleep(0.3)
        three.kill("gateway-0", signal.SIGSTOP)
        await asyncio.sleep(5.5)  # longer than any replica may be silent
        three.kill("gateway-0", signal.SIGCONT)
        await asyncio.sleep(0.5)
        await loads.end()
        assert loads.statuses() == {200}
        assert "stoker_ejections_total{" not in await metrics(three)

    with rigs.rig(folder, replicas=3) as three:
        run(work)
