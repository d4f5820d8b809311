"""What a gateway counts of a rollout, and where the tries of its requests go. Real processes, real deaths."""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.gateway.arms import FORGIVE_S
from tests.gateway import rig as rigs
from tests.gateway.beside import beside
from tests.gateway.rig import Answer, Rig, ask, chat, client, holds, infer, keep_alive, kept, run, until
from tests.gateway.rollouts import all_counts, control, counts, follow, scene, table
from tests.gateway.talkers import metric, metrics

BOTH = ("r0", "r1", "c0", "c1")
NEVER_SLOW = {"slow_s": 60.0}  # nor is it on a machine that others keep busy


@pytest.fixture
def even(tmp_path: Path) -> Iterator[Rig]:
    """Half of the requests each."""
    with scene(tmp_path, BOTH, (50, 50), {**NEVER_SLOW, "segments": ["tenant", "size", "header:X-Region"]}) as made:
        yield made


@pytest.fixture
def one_each(tmp_path: Path) -> Iterator[Rig]:
    with scene(tmp_path, ("r0", "c0"), (50, 50), NEVER_SLOW) as made:
        yield made


def asked(rig: Rig, letter: str, word: str = "request infer") -> int:
    """Return how many requests the replicas of one arm saw."""
    return sum(line.startswith(word) for name in rig.processes if name[0] == letter for line in rig.lines(name))


def test_every_answer_counts_once_for_the_arm_that_gave_it_and_the_client_is_told_which(even: Rig) -> None:
    async def work() -> None:
        answers = [await infer(even, f'{{"n":{n}}}') for n in range(120)]
        assert {one.status for one in answers} == {200}
        told = [one.headers["x-stoker-revision"] for one in answers]
        found = await counts(even)
        for arm, letter, revision in (
            (found.arms.canary, "c", "default.digits-2"),
            (found.arms.baseline, "r", "default.digits-1"),
        ):
            assert arm.total == asked(even, letter) == told.count(revision) > 30
            assert sum(arm.latencies.values()) == arm.total
            assert arm.bad == {}
        assert found.number == 7
        text = await metrics(even)
        for name, arm in (("canary", found.arms.canary), ("baseline", found.arms.baseline)):
            seen = metric(text, "stoker_rollout_tries_total", endpoint="digits", arm=name, outcome="good")
            assert seen == arm.total

    run(work)


def test_cohorts_are_counted_beside_the_whole_and_their_names_are_plain(even: Rig) -> None:
    async def work() -> None:
        for n in range(10):
            await infer(even, f'{{"n":{n}}}', x_region="eu")
        await infer(even, '{"n":1}', x_region="<b>\\")
        await infer(even, '{"n":1}' + " " * 5000)
        for n in range(60):
            await infer(even, '{"n":1}', x_region=f"r{n}")
        found = await counts(even)
        cohorts = {name: one.canary.total + one.baseline.total for name, one in found.cohorts.items()}
        assert cohorts["header:X-Region=eu"] == 10
        assert cohorts["header:X-Region=_b__"] == 1
        assert cohorts["size=4KiB-16KiB"] == 1
        assert cohorts["tenant=admin000"] == 72 == found.arms.canary.total + found.arms.baseline.total
        assert len(cohorts) == 20
        assert all(not one.canary.latencies and not one.baseline.latencies for one in found.cohorts.values())

    run(work)


def test_what_the_caller_did_wrong_asked_by_version_or_gave_up_in_time_is_not_counted(even: Rig) -> None:
    async def work() -> None:
        assert (await infer(even, "refuse:invalid_input")).status == 400
        assert (await ask(even, "POST", "/v2/models/digits/versions/2/infer", b'{"n":1}')).status == 200
        assert (await ask(even, "POST", "/v2/models/digits/infer", b'{"n":1}', key="wrong")).status == 401
        async with client(even) as one:
            one.send("POST", "/v2/models/digits/infer", b"hang n:1")
            while asked(even, "c") + asked(even, "r") != 3:
                await asyncio.sleep(0.01)
        while not any("cancelled" in even.lines(name) for name in BOTH):
            await asyncio.sleep(0.01)
        found = await counts(even)
        assert found.arms.canary.total + found.arms.baseline.total == 0
        assert found.arms.canary.unjudged + found.arms.baseline.unjudged == 1

    run(work)


@beside
def test_late_slow_empty_and_failed_tries_are_bad_in_their_own_ways(folder: Path) -> None:
    async def slow() -> None:
        late, slow, _ = await asyncio.gather(
            infer(rig, "hang n:1", x_request_timeout_ms="300"), infer(rig, "slow:0.4"), leaves()
        )
        assert (late.status, slow.status) == (504, 200)
        while (await counts(rig)).arms.canary.total < 3:
            await asyncio.sleep(0.01)
        found = (await counts(rig)).arms
        assert found.canary.bad == {"timeout": 2, "slow": 3}
        assert found.canary.total == 3
        assert sum(found.canary.latencies.values()) == 1, "the slow answer was one"
        assert found.baseline.total == 0

    async def leaves() -> None:
        async with client(rig) as one:  # after three times what is slow
            one.send("POST", "/v2/models/digits/infer", b"hang n:2")
            await holds(lambda: asked(rig, "c") == 3)
            await asyncio.sleep(0.4)

    async def quick() -> None:
        assert (await infer(rig, "refuse:engine_failed at:c0")).status == 200, "the baseline answers, weight or not"
        for text, wanted in (("chunks:0", "invalid"), ("chunks:5 loops:1", "invalid"), ("chunks:5", "")):
            await ask(rig, "POST", "/v1/chat/completions", chat(text, stream=True))
            assert (await counts(rig, "smol")).arms.canary.bad.get(wanted, 0) >= bool(wanted)
        cut = await ask(rig, "POST", "/v1/chat/completions", chat("chunks:9 cut-after:3 at:c0", stream=True))
        assert b"replica_lost" in cut.body
        while (await counts(rig, "smol")).arms.canary.bad.get("error", 0) < 1:  # nobody explains this death
            await asyncio.sleep(0.05)
        digits, smol = (await counts(rig)).arms, (await counts(rig, "smol")).arms
        assert (digits.canary.bad, digits.canary.total) == ({"error": 1}, 1)
        assert (smol.canary.bad, smol.canary.total) == ({"invalid": 2, "error": 1}, 4)
        assert sum(smol.canary.latencies.values()) == 1
        assert digits.baseline.total == smol.baseline.total == 0, "a second try is nobody's"

    async def work() -> None:
        await slow()
        async with control(rig) as one:
            await follow(rig, one, table(rig, (0, 100), {"number": 8, **NEVER_SLOW}))
        await quick()

    with scene(folder, ("r0", "c0"), (0, 100), {"slow_s": 0.1}) as rig:
        run(work)


def test_a_canary_that_crashes_is_charged_for_every_try_though_no_client_notices(one_each: Rig) -> None:
    rig = one_each

    async def work() -> None:
        stop = asyncio.Event()
        keeper = keep_alive(rig, "c0", stop)
        answers: list[Answer] = []
        async with client(rig) as one:
            for n in range(140):
                body = f"die at:c0 n:{n}".encode()
                answers.append(await one.request("POST", "/v2/models/digits/infer", body))
                if n % 20 == 0:
                    while rig.processes["c0"].poll() is not None or not await rigs.all_see(rig, 2):
                        await asyncio.sleep(0.01)
        assert {one.status for one in answers} == {200}, "nobody is convicted, and nothing is lost"
        deaths = sum(line.startswith("died") for line in rig.lines("c0"))
        found = (await counts(rig)).arms
        assert found.canary.bad == {"error": deaths}
        assert found.canary.total == deaths > 5
        assert found.baseline.total == 140 - deaths
        assert found.baseline.bad == {}
        assert not any("alone=True" in line for line in rig.lines("c0")), "who killed it is tried in the baseline"
        stop.set()
        await keeper

    run(work)


@beside
def test_a_poison_request_is_not_the_fault_of_the_arm_that_it_kills(folder: Path) -> None:
    gate = folder / "gate"

    async def work() -> None:
        stop = asyncio.Event()
        keepers = [keep_alive(rig, name, stop) for name in ("r0", "c0")]
        innocents = [asyncio.create_task(infer(rig, f"until:{gate} n:{n}")) for n in range(8)]
        await holds(lambda: asked(rig, "c") == 8)
        poison = asyncio.create_task(infer(rig, "die"))
        await holds(lambda: "died alone=False" in rig.lines("c0"))
        gate.touch()
        assert (await poison).status == 422
        assert {one.status for one in await asyncio.gather(*innocents)} == {200}
        assert rig.lines("c0").count("died alone=False") == 1
        assert rig.lines("r0").count("died alone=True") == 1
        await asyncio.sleep(FORGIVE_S + 0.5)  # nothing comes later
        found = (await counts(rig)).arms
        assert found.canary.bad == {}
        assert found.baseline.total == 0
        stop.set()
        await asyncio.gather(*keepers)

    with scene(folder, ("r0", "c0"), (0, 100), NEVER_SLOW) as rig:
        run(work)


def test_a_second_try_goes_to_the_baseline_and_not_to_another_replica_of_the_canary(even: Rig) -> None:
    async def work() -> None:
        words = "refuse:unavailable at:c0", "refuse:unavailable at:c1"
        answers = await asyncio.gather(*(infer(even, f"{words[n % 2]} n:{n}") for n in range(120)))
        assert {one.status for one in answers} == {200}
        found = (await counts(even)).arms
        assert found.canary.bad["error"] > 5
        assert found.canary.total == asked(even, "c"), "no second try came to it"
        assert found.baseline.total == asked(even, "r") - found.canary.bad["error"]

    run(work)


def test_a_full_canary_holds_up_nobody_and_a_full_baseline_spills_nothing_into_it(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with scene(tmp_path, ("r0", "c0"), (50, 50), {}, concurrency=2) as rig:

        async def fill(letter: str) -> "list[asyncio.Task[Answer]]":
            """Send what waits in the replica of one arm only, until that has no place; return what waits."""
            held: list[asyncio.Task[Answer]] = []
            seen = asked(rig, letter)
            while asked(rig, letter) < seen + 2:
                before = asked(rig, "c") + asked(rig, "r")
                task = asyncio.create_task(infer(rig, f"until:{gate} at:{letter}0"))
                while asked(rig, "c") + asked(rig, "r") == before:
                    await asyncio.sleep(0.005)
                held.append(task)
            return held

        async def work() -> None:
            held = await fill("c")
            answers = [await infer(rig, f'{{"n":{n}}}') for n in range(30)]
            assert {one.headers["x-stoker-revision"] for one in answers} == {"default.digits-1"}
            gate.touch()
            assert {one.status for one in await asyncio.gather(*held)} == {200}
            gate.unlink()
            held = await fill("r")
            seen = asked(rig, "c")
            waiting = [asyncio.create_task(infer(rig, f'{{"m":{n}}}')) for n in range(40)]
            while True:
                text = await metrics(rig)
                depth = metric(text, "stoker_queue_depth", endpoint="digits")
                in_flight = metric(text, "stoker_in_flight", endpoint="digits")
                if in_flight == 2 and depth + asked(rig, "c") - seen == 40:  # the canary has done what was its
                    break
                await asyncio.sleep(0.01)
            for _ in range(30):  # whatever else ends there, who waits for the baseline is drawn only once
                assert (await ask(rig, "POST", "/v2/models/digits/versions/2/infer", b'{"n":1}')).status == 200
            assert metric(await metrics(rig), "stoker_queue_depth", endpoint="digits") == depth > 5
            gate.touch()
            assert {one.status for one in await asyncio.gather(*held, *waiting)} == {200}

        run(work)


@pytest.mark.parametrize("is_listed", [True, False])
def test_what_fails_in_the_canary_after_the_rollout_has_ended_is_answered_by_the_baseline_too(
    one_each: Rig, tmp_path: Path, is_listed: bool
) -> None:
    gate = tmp_path / "gate"

    async def work() -> None:
        async with control(one_each) as one:
            await follow(one_each, one, table(one_each, (0, 100), {}))
            held = asyncio.create_task(infer(one_each, f"until:{gate} refuse:engine_failed at:c0"))
            while not asked(one_each, "c"):
                await asyncio.sleep(0.005)
            rolled_back = table(one_each, (100, 0), None)
            for endpoint in rolled_back["endpoints"]:
                endpoint["revisions"] = endpoint["revisions"][: 1 + is_listed]
            await follow(one_each, one, rolled_back)
            gate.touch()
            assert (await held).status == 200
            assert asked(one_each, "r") == 1

    run(work)


def test_what_was_under_way_when_a_rollout_began_or_another_took_its_place_is_dropped(
    even: Rig, tmp_path: Path
) -> None:
    gates = [tmp_path / f"gate{n}" for n in range(3)]

    async def work() -> None:
        async def held(gate: Path) -> "asyncio.Task[Answer]":
            before = asked(even, "c") + asked(even, "r")
            task = asyncio.create_task(infer(even, f"until:{gate} n:1"))
            while asked(even, "c") + asked(even, "r") == before:
                await asyncio.sleep(0.01)
            return task

        async def total() -> int:
            found = (await counts(even)).arms
            return found.canary.total + found.baseline.total

        async with control(even) as one:
            await follow(even, one, table(even, (50, 50), None))
            assert await all_counts(even) == []
            early = await held(gates[0])
            await follow(even, one, table(even, (50, 50), {}))
            gates[0].touch()
            assert (await early).status == 200
            assert await total() == 0
            through = await held(gates[1])
            await follow(even, one, table(even, (90, 10), {}))  # the next step of the same rollout
            gates[1].touch()
            assert (await through).status == 200
            assert await total() == 1
            late = await held(gates[2])
            await follow(even, one, table(even, (90, 10), {"number": 8}))
            gates[2].touch()
            assert (await late).status == 200
            assert await total() == 0
            assert (await counts(even)).number == 8

    run(work)


def test_both_tries_of_a_hedged_request_are_the_same_arms_and_count_as_one(tmp_path: Path) -> None:
    with scene(tmp_path, BOTH, (50, 50), {}, hedge=True) as rig:

        async def work() -> None:
            async with client(rig) as one:
                for n in range(300):
                    await one.request("POST", "/v2/models/digits/infer", b'{"n":%d}' % n)
            before = (await counts(rig)).arms
            rig.kill("c0", signal.SIGUSR2)  # it takes requests, and answers nothing
            told: list[str] = []
            for n in range(10):
                answers = await asyncio.gather(*(infer(rig, f'slow:0.001 {{"m":{n}.{m}}}') for m in range(4)))
                assert {one.status for one in answers} == {200}
                told += [one.headers["x-stoker-revision"] for one in answers]
            after = (await counts(rig)).arms
            saved = after.canary.bad.get("error", 0)  # it was found out to hang: answered by the baseline
            assert after.canary.total - before.canary.total == told.count("default.digits-2") + saved
            assert after.baseline.total - before.baseline.total == told.count("default.digits-1") - saved
            tries = [each.tries for each in await kept(rig, endpoint="digits", limit=1000) if each.because == "hedged"]
            arms = [{one.replica[0] for one in each} for each in tries]
            assert {"c"} in arms
            assert all(len(one) == 1 for one in arms), "no hedge of the canary went to the baseline"

        run(work)


def test_an_arm_of_one_replica_is_no_reason_for_the_longer_tail(tmp_path: Path) -> None:
    with scene(tmp_path, ("r0", "r1", "c0"), (50, 50), {}, hedge=True) as rig:

        async def work() -> None:
            async with client(rig) as one:
                for n in range(300):
                    await one.request("POST", "/v2/models/digits/infer", b'{"n":%d}' % n)
                for _ in range(10):
                    await one.request("POST", "/v2/models/digits/infer", b"slow:0.05")
            assert metric(await metrics(rig), "stoker_hedges_total", endpoint="digits") == 0

        run(work)


def test_no_canary_means_that_the_baseline_serves_and_its_return_that_both_do(one_each: Rig) -> None:
    async def work() -> None:
        one_each.kill("c0")
        answers = [await infer(one_each, json.dumps({"n": n})) for n in range(20)]
        assert {one.status for one in answers} == {200}
        await asyncio.to_thread(one_each.start_replica, "c0")
        while (await counts(one_each)).arms.canary.total == 0:
            assert (await infer(one_each, '{"n":1}')).status == 200

    run(work)


@pytest.mark.parametrize("by", ["header:X-Person", "session", "key"])
def test_whoever_asks_stays_in_one_arm_over_gateways_and_steps(tmp_path: Path, by: str) -> None:
    header = {"header:X-Person": "x_person", "session": "x_session_id"}.get(by, "x_person")
    people = [f"p{n}" for n in range(40 if by != "key" else 1)]

    async def arms(rig: Rig) -> dict[str, str]:
        found = {}
        for person in people:
            answers = [await infer(rig, '{"n":1}', **{header: person}) for _ in range(3)]
            told = {one.headers["x-stoker-revision"] for one in answers}
            assert len(told) == 1, f"{person} was in both arms"
            found[person] = told.pop()
        return found

    with scene(tmp_path, ("r0", "c0"), (70, 30), {"sticky": by}) as rig:
        seen: list[dict[str, str]] = []

        async def look() -> None:
            seen.append(await arms(rig))

        async def grow() -> None:
            async with control(rig) as one:
                await follow(rig, one, table(rig, (40, 60), {"sticky": by}))
                await look()

        run(look)
        rig.kill("gateway-0")
        rig.start_gateway()
        until(lambda: asyncio.run(rigs.all_see(rig, 2)), "the restarted gateway sees both")
        run(look)
        run(grow)
        first, again, grown = ({who for who, arm in each.items() if arm == "default.digits-2"} for each in seen)
        assert first == again
        assert first <= grown
        assert by == "key" or 0 < len(first) < len(grown) < len(people)


def test_requests_wait_while_a_rollout_has_taken_the_old_replicas_away_and_the_new_are_not_there(
    tmp_path: Path,
) -> None:
    with scene(tmp_path, ("r0",), (100, 0), {}) as rig:

        async def work() -> None:
            async with control(rig) as one:

                def without_the_old() -> dict[str, Any]:
                    made = table(rig, (0, 100), {})
                    for endpoint in made["endpoints"]:
                        endpoint["revisions"] = endpoint["revisions"][1:]
                    return made

                await follow(rig, one, without_the_old())
                waiting = [asyncio.create_task(infer(rig, f'{{"n":{n}}}')) for n in range(5)]
                late = await infer(rig, '{"n":9}', x_request_timeout_ms="1500")  # longer than a look at who waits
                assert late.status == 504
                assert "no replica was free" in late.json["error"]
                assert not any(each.done() for each in waiting)
                await asyncio.to_thread(rig.start_replica, "c0")
                await follow(rig, one, without_the_old())
                answers = await asyncio.gather(*waiting)
                assert {each.status for each in answers} == {200}
                assert {each.headers["x-stoker-revision"] for each in answers} == {"default.digits-2"}

        run(work)
