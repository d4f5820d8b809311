"""In which order those that wait are served, seen at the replica: deadlines, bands, shares, versions, full caches.

A gate holds the only place until all that a test is about wait; then what was waiting leaves one by one.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stoker.app.home import Home
from tests.gateway.rig import Answer, Rig, ask, infer, run, until
from tests.gateway.talkers import metric, metrics

Task = asyncio.Task[Answer]


class TwoVersions(Rig):
    """Version 1 of digits is r0 and has all the weight; version 2 is v2."""

    def table(self, replicas: list[str], **limits: Any) -> dict[str, Any]:
        made = super().table(replicas, **limits)
        digits = made["endpoints"][0]
        places = [{"replica": "v2", "address": self.home.address("v2")}]
        second = {"revision": "default.digits-2", "version": "2", "weight": 0, "replicas": places}
        digits["revisions"].append({**digits["revisions"][0], **second})
        return made


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    return {}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, str]) -> Iterator[Rig]:
    """A gateway and a replica of each version, which work on one request at once; r0's cache can be full."""
    folder = tmp_path_factory.mktemp("order")
    home = Home(folder / "home")
    home.make()
    made = TwoVersions(home)
    try:
        limits = {
            "urgent": {"priority": "critical"},
            "cheap": {},
            "dear": {},
            "double": {"weight": 2.0},
            "background": {"priority": "sheddable"},
        }
        keys.update({name: made.add_key(name, **limits[name]) for name in limits})
        made.write_table(["r0"], queue_max=100)
        for name in ("r0", "v2"):
            made.start_replica(name, "--slots", "1")
        made.start_gateway()
        until(lambda: asyncio.run(infer(made, "ready?")).status == 200, "the first answer")
        until(lambda: asyncio.run(to_version(made, "2", "ready?")).status == 200, "an answer of version 2")
        yield made
    finally:
        made.close()


async def to_version(rig: Rig, version: str, text: str, **more: Any) -> Answer:
    return await ask(rig, "POST", f"/v2/models/digits/versions/{version}/infer", text.encode(), **more)


async def depth(rig: Rig) -> int:
    return int(metric(await metrics(rig), "stoker_queue_depth", endpoint="digits"))


def requests(rig: Rig, name: str = "r0") -> list[str]:
    """Return the ids of the requests that reached a replica, in order."""
    return [line.split()[2] for line in rig.lines(name) if line.startswith("request infer")]


class Waiting:
    """Requests that wait, each sent when the one before it does."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.tasks: list[Task] = []

    async def add(self, text: str, *, version: str = "", **more: Any) -> Task:
        wanted = await depth(self._rig) + 1
        call = to_version(self._rig, version, text, **more) if version else infer(self._rig, text, **more)
        task = asyncio.create_task(call)
        self.tasks.append(task)
        while await depth(self._rig) < wanted:
            assert not task.done(), task.result()
            await asyncio.sleep(0.002)
        return task


@asynccontextmanager
async def gate(rig: Rig, path: Path, version: str = "") -> AsyncIterator[Waiting]:
    """Hold the only place of a version while requests are made to wait; then let all of them be answered."""
    name = "v2" if version == "2" else "r0"
    before = len(requests(rig, name))
    held = f"until:{path}"
    holder = asyncio.create_task(to_version(rig, version, held) if version else infer(rig, held))
    while len(requests(rig, name)) == before:
        await asyncio.sleep(0.002)
    waiting = Waiting(rig)
    yield waiting
    path.touch()
    answers = await asyncio.gather(holder, *waiting.tasks)
    assert {answer.status for answer in answers} == {200}


def test_the_nearest_deadline_of_a_tenant_goes_first(rig: Rig, keys: dict[str, str], tmp_path: Path) -> None:
    seconds = (30, 20, 36, 24, 33, 21, 27)

    async def work() -> None:
        async with gate(rig, tmp_path / "gate") as waiting:
            for each in seconds:
                await waiting.add(
                    "slow:0", key=keys["cheap"], x_request_id=f"{each}", x_request_timeout_ms=f"{each}000"
                )
        assert requests(rig)[-len(seconds) :] == [f"{each}" for each in sorted(seconds)]

    run(work)


def test_a_band_that_is_passed_over_has_its_reserved_turn(rig: Rig, keys: dict[str, str], tmp_path: Path) -> None:
    async def work() -> None:
        async with gate(rig, tmp_path / "gate") as waiting:
            for name in ("background", "cheap"):
                await waiting.add("slow:0", key=keys[name], x_request_id=name)
            for number in range(40):
                await waiting.add("slow:0", key=keys["urgent"], x_request_id=f"urgent-{number}")
        order = requests(rig)[-42:]
        assert order.index("cheap") == 8, "one turn of nine"
        assert order.index("background") == 32, "and one of 33"

    run(work)


@pytest.mark.parametrize(("name", "costs", "share"), [("dear", 0.1, 10), ("double", 0.01, 0.5)])
def test_tenants_share_the_engines_time_and_not_the_number_of_requests(
    rig: Rig, keys: dict[str, str], tmp_path: Path, name: str, costs: float, share: float
) -> None:
    """`share`: how many requests of `cheap`, of 10 ms each, are served for one of `name`."""

    async def work() -> None:
        async with gate(rig, tmp_path / "gate") as waiting:
            for number in range(20):
                await waiting.add(f"cost:{costs}", key=keys[name], x_request_id=f"other-{number}")
                await waiting.add("cost:0.01", key=keys["cheap"], x_request_id=f"cheap-{number}")
        order = [each.partition("-")[0] for each in requests(rig)[-40:]]
        first = order[:22]
        expected = 22 / (1 + share)
        assert abs(first.count("other") - expected) <= 1.5, order

    run(work)


def test_who_names_a_version_goes_by_its_band_too(rig: Rig, keys: dict[str, str], tmp_path: Path) -> None:
    async def work() -> None:
        async with gate(rig, tmp_path / "gate", version="2") as waiting:
            for name in ("background", "cheap", "urgent"):
                await waiting.add("slow:0", version="2", key=keys[name], x_request_id=name)
        assert requests(rig, "v2")[-3:] == ["urgent", "cheap", "background"]

    run(work)


def test_what_waits_for_a_full_version_holds_up_no_other(rig: Rig, keys: dict[str, str], tmp_path: Path) -> None:
    async def work() -> None:
        async with gate(rig, tmp_path / "gate", version="2") as waiting:
            for _ in range(3):
                await waiting.add("slow:0", version="2", key=keys["urgent"])
            for call in (infer(rig, "slow:0"), to_version(rig, "1", "slow:0")):
                assert (await call).status == 200
            assert await depth(rig) == 3

    run(work)


def test_a_replica_whose_cache_is_full_takes_nothing_beside_what_it_has(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    rig, full = Rig(home), tmp_path / "full"
    gates = [tmp_path / f"gate-{number}" for number in range(3)]

    async def sees(ratio: float) -> None:
        """Wait until the gateway has heard how full the cache is."""
        while metric(await metrics(rig), "stoker_kv_cache_usage_ratio", endpoint="digits") != ratio:
            await asyncio.sleep(0.01)

    async def work() -> None:
        since = len(requests(rig))
        first = asyncio.create_task(infer(rig, f"until:{gates[0]}", x_request_id="first"))
        while len(requests(rig)) == since:
            await asyncio.sleep(0.002)
        full.touch()
        await sees(0.97)
        waiting = Waiting(rig)
        for number, name in ((1, "second"), (2, "third")):
            await waiting.add(f"until:{gates[number]}", x_request_id=name)
        assert requests(rig)[since:] == ["first"], "there are slots for four"
        gates[0].touch()
        assert (await first).status == 200
        while len(requests(rig)) < since + 2:
            await asyncio.sleep(0.002)
        assert await depth(rig) == 1, "one goes on, so that the cache can empty"
        full.unlink()
        while len(requests(rig)) < since + 3:
            await asyncio.sleep(0.002)
        assert requests(rig)[since:] == ["first", "second", "third"]
        for each in gates:
            each.touch()
        assert {answer.status for answer in await asyncio.gather(*waiting.tasks)} == {200}

    try:
        rig.write_table(["r0"])
        rig.start_replica("r0", "--slots", "4", "--full-cache", str(full))
        rig.start_gateway()
        until(lambda: asyncio.run(infer(rig, "ready?")).status == 200, "the first answer")
        run(work)
    finally:
        rig.close()
