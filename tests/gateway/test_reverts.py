"""A gateway goes back to the earlier revision without control, by itself or told so, until a table has news.

Real processes; control is dead unless a test is it.
"""

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stoker.types.errors import Conflict, NotFound
from stoker.types.rollouts import GoBack, Reverted
from tests.cli.run import STOKER
from tests.gateway.rig import Rig, all_see, infer, keep_alive, run, until
from tests.gateway.rollouts import all_counts, call, control, counts, follow, scene, table
from tests.gateway.talkers import metric, metrics

CANARY, BASELINE = "default.digits-2", "default.digits-1"
BAD = "refuse:engine_failed at:c0"
WATCHED: dict[str, Any] = {"first_failed": 5}


async def who(rig: Rig, text: str = '{"n":1}', times: int = 20) -> set[str]:
    """Return which revisions answer, when asked often."""
    answers = [await infer(rig, text) for _ in range(times)]
    assert {one.status for one in answers} == {200}
    return {rig_name(one.body.decode()) for one in answers}


def rig_name(said: str) -> str:
    return {"r": BASELINE, "c": CANARY}[said[0]]


def restart(rig: Rig, shown: int = 1) -> None:
    """Start the gateway again, and wait until it sees as many replicas as get traffic."""
    rig.kill("gateway-0")
    rig.start_gateway()
    until(lambda: asyncio.run(all_see(rig, shown, "digits")), "it sees those that get traffic")


async def written(rig: Rig) -> None:
    """Wait until what the gateway went back to is on the disk."""
    while not (rig.home.gateway / "reverts-gateway-0.json").exists():
        await asyncio.sleep(0.01)


def test_a_canary_whose_first_tries_all_fail_gets_nothing_more_until_control_has_news(tmp_path: Path) -> None:
    with scene(tmp_path, ("r0", "c0"), (50, 50), WATCHED) as rig:

        async def fails() -> None:
            answers = [await infer(rig, f"{BAD} n:{n}") for n in range(60)]
            assert {one.status for one in answers} == {200}, "the baseline answered"
            found = await counts(rig)
            assert found.arms.canary.total == 5
            assert found.arms.canary.bad == {"error": 5}
            assert found.reverted == f"the first 5 requests of {CANARY} all failed, the last: error"
            assert metric(await metrics(rig), "stoker_rollout_reverted", endpoint="digits") == 1
            await written(rig)

        async def stands() -> None:
            assert await who(rig, "who: n:1") == {BASELINE}
            assert "all failed" in (await counts(rig)).reverted
            async with control(rig) as one:
                await follow(rig, one, table(rig, (50, 50), WATCHED, timeout_s=50.0))
                assert await who(rig, "who: n:1") == {BASELINE}, "that was no news of its traffic"
                await follow(rig, one, table(rig, (40, 60), WATCHED))
                assert await who(rig, "who: n:1", 40) == {BASELINE, CANARY}
                assert (await counts(rig)).reverted == ""
                assert metric(await metrics(rig), "stoker_rollout_reverted", endpoint="digits") == 0

        run(fails)
        restart(rig)
        run(stands)
        restart(rig, shown=2)

        async def is_forgotten() -> None:
            assert await who(rig, "who: n:1", 40) == {BASELINE, CANARY}

        run(is_forgotten)


def test_a_canary_that_answered_once_is_left_to_the_verdict(tmp_path: Path) -> None:
    with scene(tmp_path, ("r0", "c0"), (0, 100), WATCHED) as rig:

        async def work() -> None:
            for n in range(4):
                await infer(rig, f"{BAD} n:{n}")
            await infer(rig, '{"n":1}')
            for n in range(20):
                assert (await infer(rig, f"{BAD} n:{n}")).status == 200
            found = await counts(rig)
            assert found.reverted == ""
            assert 4 < found.arms.canary.bad["error"] <= 24, "it is ejected at some point, and the baseline serves"
            assert sum(found.arms.canary.latencies.values()) == 1

        run(work)


def test_a_canary_that_crashes_with_every_request_is_given_up(tmp_path: Path) -> None:
    with scene(tmp_path, ("r0", "c0"), (0, 100), {"first_failed": 3}) as rig:

        async def work() -> None:
            stop = asyncio.Event()
            keeper = keep_alive(rig, "c0", stop)
            number = 0
            while not (found := await counts(rig)).reverted:
                number += 1
                assert (await infer(rig, f"die at:c0 n:{number}")).status == 200
            assert found.arms.canary.bad == {"error": 3}
            assert found.arms.canary.total == 3
            stop.set()
            await keeper

        run(work)


def order(endpoint: str = "digits", to: str = "") -> bytes:
    return msgspec.msgpack.encode(GoBack("default", endpoint, "said so", to))


def test_whoever_says_so_gets_the_revision_before_with_or_without_a_rollout(tmp_path: Path) -> None:
    with scene(tmp_path, ("r0", "c0"), (0, 100), None) as rig:

        async def told() -> None:
            assert await who(rig, "who: n:1") == {CANARY}
            done = msgspec.json.decode(await call(rig, "revert", order()), type=Reverted)
            assert done == Reverted("default", "digits", BASELINE, "said so", 0, {CANARY: 100})
            assert await who(rig, "who: n:1") == {BASELINE}
            (found,) = await all_counts(rig)
            assert (found.number, found.reverted, found.endpoint) == (0, "said so", "digits")
            await written(rig)

        async def stands() -> None:
            assert await who(rig, "who: n:1") == {BASELINE}
            with pytest.raises(Conflict, match="nothing was changed"):
                await call(rig, "revert", order(to="default.digits-9"))
            with pytest.raises(NotFound):
                await call(rig, "revert", order("nobody"))
            async with control(rig) as one:
                await follow(rig, one, table(rig, (0, 100), {}))
                assert await who(rig, "who: n:1") == {CANARY}, "a rollout is news"
                await call(rig, "revert", order())
                assert await who(rig, "who: n:1") == {BASELINE}
                assert (await counts(rig)).reverted == "said so"
                await follow(rig, one, table(rig, (100, 0), None))
                assert await all_counts(rig) == []

        run(told)
        restart(rig)
        run(stands)


def test_a_file_of_reverts_that_is_none_costs_nothing_but_itself(tmp_path: Path) -> None:
    with scene(tmp_path, ("r0", "c0"), (0, 100), None) as rig:
        for rubbish in (b"", b"{", b'[{"project":1}]', b"\xff" * 100):
            (rig.home.gateway / "reverts-gateway-0.json").write_bytes(rubbish)
            restart(rig)

            async def serves() -> None:
                assert await who(rig, "who: n:1") == {CANARY}

            run(serves)


def stoker(rig: Rig, *arguments: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    clean["STOKER_HOME"] = str(rig.home.root)
    return subprocess.run([str(STOKER), *arguments], env=clean, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_reaches_the_gateways_when_control_is_dead(tmp_path: Path) -> None:
    with scene(tmp_path, ("r0", "c0"), (0, 100), None) as rig:
        dead = {"api": "http://127.0.0.1:9", "gateway": f"http://127.0.0.1:{rig.port}", "key": "k"}
        rig.home.credentials.write_text(json.dumps(dead))
        done = stoker(rig, "rollback", "digits")
        assert done.returncode == 0, done.stderr
        assert "control cannot be reached" in done.stderr
        assert f"gateway-0: all traffic goes to {BASELINE}" in done.stdout
        assert "until control says something new" in done.stdout

        async def back() -> None:
            assert await who(rig, "who: n:1") == {BASELINE}

        run(back)
        again = stoker(rig, "rollback", "digits", "--to", "2", "--by-gateways")
        assert again.returncode == 0, again.stderr
        assert f"gateway-0: all traffic goes to {CANARY}" in again.stdout
        missing = stoker(rig, "rollback", "digits", "--to", "7")
        assert missing.returncode == 4
        assert "nothing was changed" in missing.stdout
        rig.kill("gateway-0")
        gone = stoker(rig, "rollback", "digits")
        assert gone.returncode == 5
