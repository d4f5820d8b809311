"""Two gateways, and most of a tenant's requests in one of them: its part is of the places of both."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.app.home import Home
from stoker.core.turns import AHEAD
from tests.gateway import rig as rigs
from tests.gateway.rig import Answer, Client, Rig, holds, infer, run, until
from tests.gateway.talkers import metric, metrics

PLACES = 8  # four for each gateway while somebody waits in both
PATH = "/v2/models/digits/infer"


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    return {}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, str]) -> Iterator[Rig]:
    """Two gateways, and a replica that works on PLACES requests at once."""
    home = Home(tmp_path_factory.mktemp("apart") / "home")
    home.make()
    made = Rig(home)
    try:
        keys.update({name: made.add_key(name) for name in ("noisy", "quiet")})
        made.write_table(["r0"], queue_max=100)
        made.start_replica("r0", "--slots", f"{PLACES}")
        for index in range(2):
            made.start_gateway(index, gateways=2)
        until(lambda: asyncio.run(infer(made, "ready?")).status == 200, "the first answer")
        yield made
    finally:
        made.close()


class Asking:
    """Requests of tenants through gateways that are chosen, a connection each."""

    def __init__(self, rig: Rig, keys: dict[str, str]) -> None:
        self.rig = rig
        self.keys = keys
        self.idle: dict[str, list[Client]] = {}
        self.all: list[Client] = []
        self.calls: list[asyncio.Task[Answer]] = []

    async def connect(self) -> None:
        """Have a dozen connections to each gateway."""
        while len(self.idle) < 2 or min(map(len, self.idle.values())) < 12:
            one = Client(*await rigs.connect(self.rig))
            self.all.append(one)
            made = (await one.request("GET", "/healthz")).headers["x-request-id"].split("-")[1]
            self.idle.setdefault(made, []).append(one)

    def begin(self, name: str, text: str, gateway: str) -> None:
        one = self.idle[gateway].pop()
        self.calls.append(asyncio.create_task(one.request("POST", PATH, text.encode(), self.keys[name])))

    async def ask(self, name: str, text: str, gateway: str) -> None:
        one = self.idle[gateway][0]
        assert (await one.request("POST", PATH, text.encode(), self.keys[name])).status == 200

    def turns(self, name: str) -> list[int]:
        """Return the turns of the requests of a tenant that reached the replica."""
        return [int(line.split()[2]) for line in self.rig.lines("r0") if line.startswith(f"turn {name} ")]

    async def waits(self, name: str, count: int) -> None:
        """Wait until all of `count` requests of a tenant are in the replica or wait, and the others are none."""
        while int(metric(await metrics(self.rig), "stoker_queue_depth", endpoint="digits")) != count - len(
            self.turns(name)
        ):
            await asyncio.sleep(0.002)


def test_a_tenant_that_asks_one_gateway_alone_goes_past_to_its_part_of_all_places(
    rig: Rig, keys: dict[str, str], tmp_path: Path
) -> None:
    text = f"turn: until:{tmp_path / 'gate'}"
    asking = Asking(rig, keys)

    async def work() -> None:
        await asking.connect()
        here, there = asking.idle
        for _ in range(3):
            asking.begin("noisy", text, here)
        for _ in range(PLACES + 1):  # more than it can have
            asking.begin("noisy", text, there)
        await asking.waits("noisy", PLACES + 4)
        while AHEAD not in asking.turns("quiet"):  # a place is free here: but somebody waits there, and told so
            await asking.ask("quiet", "turn: slow:0", here)
        before = len(asking.turns("quiet"))
        for _ in range(3):
            asking.begin("noisy", text, here)
        await asking.waits("noisy", PLACES + 7)
        assert asking.turns("noisy").count(0) == len(asking.turns("noisy")), "it holds more than its part"
        for number in range(PLACES // 2):  # of the four places that are this gateway's its part is two
            asking.begin("quiet", text, here)
            await holds(
                lambda number=number: asking.turns("quiet")[before:] == [AHEAD] * (number + 1)  # type: ignore[misc]
            )
        asking.begin("quiet", text, here)
        await asking.waits("noisy", PLACES + 8)  # it waits with them
        assert len(asking.turns("quiet")) == before + PLACES // 2
        (tmp_path / "gate").touch()
        assert {answer.status for answer in await asyncio.gather(*asking.calls)} == {200}
        for each in asking.all:
            each.close()

    run(work)
