"""What a tenant that fills every place costs the others: who goes past full places, who is told to go behind."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.app.home import Home
from stoker.core.turns import BEHIND
from tests.gateway.rig import Answer, Rig, holds, infer, run, until
from tests.gateway.talkers import metric, metrics

PLACES = 4


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    return {}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, str]) -> Iterator[Rig]:
    """A gateway, and a replica that works on PLACES requests at once."""
    home = Home(tmp_path_factory.mktemp("passing") / "home")
    home.make()
    made = Rig(home)
    try:
        limits = {"noisy": {}, "quiet": {}, "limited": {"requests_per_s": 50.0, "burst": 1}}
        keys.update({name: made.add_key(name, **limits[name]) for name in limits})
        made.write_table(["r0"], queue_max=100)
        made.start_replica("r0", "--slots", f"{PLACES}")
        made.start_gateway()
        until(lambda: asyncio.run(infer(made, "ready?")).status == 200, "the first answer")
        yield made
    finally:
        made.close()


def turns(rig: Rig, name: str) -> list[int]:
    """Return the turns of the requests of a tenant that reached the replica."""
    return [int(line.split()[2]) for line in rig.lines("r0") if line.startswith(f"turn {name} ")]


async def waits(rig: Rig, count: int) -> None:
    while int(metric(await metrics(rig), "stoker_queue_depth", endpoint="digits")) != count:
        await asyncio.sleep(0.002)


def test_who_holds_less_than_its_part_goes_past_full_places_and_before_what_waits_there(
    rig: Rig, keys: dict[str, str], tmp_path: Path
) -> None:
    text = f"turn: until:{tmp_path / 'gate'}"
    calls: list[asyncio.Task[Answer]] = []

    def ask(name: str) -> None:
        calls.append(asyncio.create_task(infer(rig, text, key=keys[name])))

    async def work() -> None:
        for _ in range(PLACES):
            ask("noisy")
        await holds(lambda: turns(rig, "noisy") == [0] * PLACES)
        for _ in range(3):
            ask("noisy")
        await waits(rig, 3)
        for number in range(PLACES // 2):
            ask("quiet")
            await holds(lambda number=number: turns(rig, "quiet") == [1] * (number + 1))  # type: ignore[misc]
        ask("quiet")
        await waits(rig, 4)  # with its half of the places it has what it is owed
        assert (len(turns(rig, "noisy")), len(turns(rig, "quiet"))) == (PLACES, PLACES // 2)
        (tmp_path / "gate").touch()
        assert {answer.status for answer in await asyncio.gather(*calls)} == {200}

    run(work)


def test_a_key_that_is_refused_by_its_limit_goes_behind_and_one_within_it_does_not(
    rig: Rig, keys: dict[str, str]
) -> None:
    async def work() -> None:
        statuses: list[int] = []
        while BEHIND not in turns(rig, "limited"):
            statuses.append((await infer(rig, "turn: slow:0", key=keys["limited"])).status)
        seen = turns(rig, "limited")
        assert seen[0] == 0, "nothing was refused yet"
        assert 429 in statuses
        assert set(statuses) == {200, 429}
        assert (await infer(rig, "turn: slow:0", key=keys["quiet"])).status == 200
        assert turns(rig, "quiet")[-1] == 0

    run(work)
