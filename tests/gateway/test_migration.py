"""Streams whose replica is killed, stopped or killed twice: real processes, a real client, every byte looked at."""

import asyncio
import contextlib
import fcntl
import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.rig import WAIT_S, counted, keep_alive, kept, run, until
from tests.gateway.talkers import TalkerRig, ask_body, expected, made_ready, metric, metrics, stream, talkers, words_in

TOKENS = 80


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TalkerRig]:
    with talkers(tmp_path_factory.mktemp("talkers")) as made:
        yield made


@pytest.fixture(autouse=True)
def all_are_there(request: pytest.FixtureRequest) -> None:
    if "rig" in request.fixturenames:
        rig: TalkerRig = request.getfixturevalue("rig")
        for name in ("r0", "r1"):
            if rig.processes[name].poll() is not None:
                rig.start_replica(name)
        until(lambda: asyncio.run(made_ready(rig)) == 2, "both talkers are ready")


def test_streams_of_a_killed_replica_go_on_elsewhere_token_for_token(rig: TalkerRig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def work() -> None:
        before = await metrics(rig)
        prompts = [f"every:0.002 hold:{TOKENS // 2}:{gate} number {number}" for number in range(12)]
        seen = 0

        def count(piece: bytes) -> None:
            nonlocal seen
            seen += words_in(piece)
            if seen == 12 * TOKENS // 2:  # each has half of its answer
                rig.kill("r0")
                gate.touch()

        answers = await asyncio.gather(*(stream(rig, ask_body(prompt, TOKENS), count) for prompt in prompts))
        for prompt, answer in zip(prompts, answers, strict=True):
            assert answer.error is None
            assert answer.text == expected(prompt, TOKENS)
            assert answer.faults() == []
            assert answer.chunks[-1]["usage"]["completion_tokens"] == TOKENS
        after = await metrics(rig)
        moved = metric(after, "stoker_migrations_total", outcome="done") - metric(
            before, "stoker_migrations_total", outcome="done"
        )
        assert 1 <= moved <= 11
        made = metric(after, "stoker_tokens_total", kind="output") - metric(
            before, "stoker_tokens_total", kind="output"
        )
        assert made == 12 * TOKENS  # billed once
        traces = [each for each in await kept(rig, limit=100) if each.because == "migrated"]
        assert len(traces) == moved
        for each in traces:
            assert [(one.kind, one.replica, one.outcome) for one in each.tries] == [
                ("first", "r0", "replica_lost"),
                ("migration", "r1", "ok"),
            ]

    run(work)


def test_a_stopped_replica_is_given_up_and_what_it_says_later_is_not_heard(rig: TalkerRig, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def work() -> None:
        prompts = [f"every:0.02 hold:70:{gate} again {number}" for number in range(6)]
        bodies = [ask_body(prompt, 80) for prompt in prompts]
        seen, before = 0, await metrics(rig)

        def count(piece: bytes) -> None:
            nonlocal seen
            seen += words_in(piece)

        async def more(name: str, **labels: str) -> float:
            return metric(await metrics(rig), name, **labels) - metric(before, name, **labels)

        tasks = [asyncio.create_task(stream(rig, body, count)) for body in bodies]
        while seen < 60:  # none of them can end before the gate is there
            await asyncio.sleep(0.01)
        running = {name: (await counted(rig, name)).total("stoker_engine_running") for name in ("r0", "r1")}
        stopped = max(running, key=lambda name: running[name])  # either may have none of them
        assert running[stopped] >= 3
        rig.kill(stopped, signal.SIGSTOP)
        while not await more("stoker_ejections_total", endpoint="smol"):
            await asyncio.sleep(0.05)
        gate.touch()
        rig.kill(stopped, signal.SIGCONT)  # all that lay in its buffers comes now
        for prompt, answer in zip(prompts, await asyncio.gather(*tasks), strict=True):
            assert answer.text == expected(prompt, 80)
            assert answer.faults() == []
        assert await more("stoker_migrations_total", reason="unavailable", outcome="done") >= running[stopped]

    run(work)


@pytest.mark.parametrize("fields", [{"temperature": 0.7}, {"n": 1, "logprobs": True}])
def test_a_stream_that_cannot_go_on_ends_with_an_error_event(rig: TalkerRig, fields: dict[str, object]) -> None:
    async def work() -> None:
        body = ask_body("every:0.02 by chance", TOKENS, **fields)

        def kill(_piece: bytes) -> None:
            for name in ("r0", "r1"):
                rig.processes[name].kill()

        answer = await stream(rig, body, kill)
        assert answer.error["code"] == "replica_lost"
        assert not answer.has_ended

    run(work)
    for name in ("r0", "r1"):
        rig.processes[name].wait(WAIT_S)


async def no_trial(rig: TalkerRig) -> None:
    """Wait until nobody is tried alone: who dies then is not to blame (bounded by run)."""
    name = hashlib.sha256(b"default/smol").hexdigest()[:16]
    with (rig.home.gateway / f"trial-{name}.lock").open("ab") as file:
        while True:
            with contextlib.suppress(BlockingIOError):
                return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            await asyncio.sleep(0.01)


def test_the_second_cut_of_a_stream_is_its_end(rig: TalkerRig, tmp_path: Path) -> None:
    gates = {40: tmp_path / "first", 80: tmp_path / "second"}
    prompt = f"every:0.002 hold:40:{gates[40]} hold:80:{gates[80]} twice"

    async def work() -> None:
        seen = 0

        def count(piece: bytes) -> None:
            nonlocal seen
            seen += words_in(piece)

        stop = asyncio.Event()
        keepers = [keep_alive(rig, name, stop) for name in ("r0", "r1")]
        answer = asyncio.create_task(stream(rig, ask_body(prompt, 200), count))
        for words, gate in gates.items():
            while seen < words:
                assert not answer.done(), answer.result().error
                await asyncio.sleep(0.005)
            await no_trial(rig)
            rig.kill("gateway-0", signal.SIGSTOP)  # or it would be moved to the other one before that is killed too
            for name in ("r0", "r1"):  # whoever has it
                rig.kill(name)
            rig.kill("gateway-0", signal.SIGCONT)
            gate.touch()
        cut = await answer
        stop.set()
        await asyncio.gather(*keepers)
        assert cut.error["code"] == "replica_lost"
        assert cut.text == expected(prompt, 80)

    run(work)


def test_an_endpoint_may_let_chance_go_on_and_a_model_may_be_unable_to(tmp_path: Path) -> None:
    async def ask(rig: TalkerRig, temperature: float) -> object:
        # One kill when half is there; with a single replica it goes on in the one that is started again.
        seen, gate = 0, rig.home.root / "gate"
        prompt = f"every:0.002 hold:20:{gate} chance"

        def kill(piece: bytes) -> None:
            nonlocal seen
            seen += words_in(piece)
            if seen == 20:
                rig.processes["r0"].kill()
                gate.touch()

        answer = await stream(rig, ask_body(prompt, 40, temperature=temperature), kill)
        return answer.error and answer.error["code"], answer.text == expected(prompt, 40)

    async def work(rig: TalkerRig, temperature: float) -> object:
        stop = asyncio.Event()
        keeper = keep_alive(rig, "r0", stop)
        try:
            return await ask(rig, temperature)
        finally:
            stop.set()
            await keeper

    with talkers(tmp_path / "best", 1, resume="best_effort") as rig:
        assert asyncio.run(work(rig, 0.9)) == (None, True)
    with talkers(tmp_path / "cannot", 1, resuming=False) as rig:
        assert asyncio.run(work(rig, 0)) == ("replica_lost", False)
