"""How the route table reaches a gateway: over a socket that speaks HTTP as control does, which dies and comes back."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stoker.gateway.watch import Watch, save
from stoker.types.routes import RouteTable
from tests.gateway import rig as rigs
from tests.gateway.rig import OLD_KEY, TEAM_KEY, Answer, Rig, ask, counted, infer, run
from tests.streams import Streams


class Control:
    """Answers `GET /internal/v1/routes` from `table`, or with `raw` when that is set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table: dict[str, Any] | None = None
        self.raw: bytes | None = None
        self.asked: list[int] = []
        self.server = Streams(self.serve)

    async def start(self) -> None:
        self.path.unlink(missing_ok=True)
        await self.server.start(self.path)

    async def stop(self) -> None:
        self.path.unlink(missing_ok=True)
        await self.server.stop()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                line = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[0]
                after = int(line.split("after=")[1].split("&")[0])
                self.asked.append(after)
                if self.raw is not None:
                    writer.write(self.raw)
                    continue
                for _ in range(20):
                    if self.table is not None and self.table["version"] > after:
                        break
                    await asyncio.sleep(0.02)
                if self.table is None or self.table["version"] <= after:
                    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                    continue
                body = json.dumps(self.table).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rigs.rig(tmp_path, replicas=2) as made:
        yield made


async def eventually(rig: Rig, status: int, path: str = "/v2/models/digits/infer", **more: Any) -> None:
    """Ask until the status is as expected (bounded by run)."""
    while (await ask(rig, "POST", path, b"{}", **more)).status != status:
        await asyncio.sleep(0.02)


def test_a_gateway_follows_new_tables_keeps_them_and_outlives_control(rig: Rig) -> None:
    async def work() -> None:
        control = Control(rig.home.run / "control-api.sock")
        table = rig.table(["r1"])
        table["keys"] = [key for key in table["keys"] if key["project"] != "team"]
        control.table = table
        await control.start()
        await eventually(rig, 401, key=TEAM_KEY)  # revoked
        before = len(rig.lines("r0"))
        for number in range(10):
            assert (await infer(rig, f"slow:0 {number}")).status == 200
        assert len(rig.lines("r0")) == before  # left the table
        kept = rig.home.gateway / "routes.json"
        while json.loads(kept.read_text())["version"] != table["version"]:
            await asyncio.sleep(0.02)
        assert not [path.name for path in rig.home.gateway.iterdir() if path.name.startswith(".")]

        await control.stop()
        assert (await infer(rig, "{}")).status == 200
        gone = rig.table(["r0", "r1"])
        gone["endpoints"] = [each for each in gone["endpoints"] if each["endpoint"] != "digits"]
        control.table = gone
        await control.start()
        await eventually(rig, 404)

        old = {**rig.table(["r0"]), "version": 1}
        control.table = {**old, "version": 1}
        control.raw = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (
            len(json.dumps(old)),
            json.dumps(old).encode(),
        )
        asked = len(control.asked)
        while len(control.asked) == asked:
            await asyncio.sleep(0.02)
        assert (await infer(rig, "{}")).status == 404  # an older table changes nothing
        control.raw = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{nope"
        asked = len(control.asked)
        while len(control.asked) < asked + 2:
            await asyncio.sleep(0.02)
        assert len(control.asked) < asked + 20  # no busy loop
        control.raw, control.table = None, rig.table(["r0", "r1"])
        await eventually(rig, 200)
        assert (await infer(rig, "{}", key=OLD_KEY)).status == 401
        await control.stop()

    run(work)


def named(rig: Rig, replica: str) -> dict[str, Any]:
    """Return the next table: the process r0, under the name of another `replica`."""
    made = rig.table([replica])
    for endpoint in made["endpoints"]:
        endpoint["revisions"][0]["replicas"][0]["address"] = rig.home.address("r0")
    return made


async def names(rig: Rig) -> set[str]:
    """Return every label of a series that the gateway has."""
    return {label for metric in (await counted(rig)).metrics for series in metric.series for label in series.labels}


async def late(rig: Rig, gate: Path) -> "asyncio.Task[Answer]":
    """Send a request that is refused when `gate` is there, and return when the replica has it."""
    before = len(rig.lines("r0"))
    asked = asyncio.create_task(infer(rig, f"until:{gate} refuse:invalid_input"))
    while len(rig.lines("r0")) == before:
        await asyncio.sleep(0.005)
    return asked


def test_replicas_that_come_and_go_under_load_leave_no_series(rig: Rig, tmp_path: Path) -> None:
    async def work() -> None:
        control = Control(rig.home.run / "control-api.sock")
        control.table = named(rig, "name-0")
        await control.start()
        for number in range(6):
            while f"name-{number}" not in await names(rig):
                await asyncio.sleep(0.01)
            await eventually(rig, 200)
            gate = tmp_path / f"gate-{number}"
            asked = await late(rig, gate)
            control.table = named(rig, f"name-{number + 1}")
            while f"name-{number}" in await names(rig):
                await asyncio.sleep(0.01)
            gate.touch()  # its first answer of that kind comes when it has left
            assert (await asked).status == 400
        assert {each for each in await names(rig) if each.startswith("name-")} == {"name-6"}

        await eventually(rig, 200)
        asked = await late(rig, tmp_path / "last")
        gone = named(rig, "name-6")
        gone["endpoints"] = [each for each in gone["endpoints"] if each["endpoint"] != "digits"]
        control.table = gone
        while "digits" in await names(rig):
            await asyncio.sleep(0.01)
        (tmp_path / "last").touch()
        assert (await asked).status == 400
        assert "digits" not in await names(rig)
        await control.stop()

    run(work)


def test_a_gateway_begins_with_controls_table_if_it_answers_and_with_the_kept_one_if_not(tmp_path: Path) -> None:
    kept = tmp_path / "routes.json"
    save(kept, msgspec.json.encode(RouteTable(3)))

    def begun() -> tuple[Watch, list[int]]:
        followed: list[int] = []

        def apply(table: RouteTable) -> bool:
            followed.append(table.version)
            return True

        return Watch(tmp_path / "c.sock", kept, apply, "gateway-0"), followed

    async def work() -> None:
        watch, followed = begun()
        await watch.start()
        assert followed == [3]
        control = Control(tmp_path / "c.sock")
        control.table = {"version": 5}
        await control.start()
        watch, followed = begun()
        await watch.start()
        assert followed == [3, 5]
        assert control.asked == [3]
        watch, followed = begun()  # kept, and newest by now
        control.raw = b"HTTP/1.1 204 No Content\r\n\r\n"
        await watch.start()
        assert followed == [5]
        await control.stop()

    asyncio.run(work())


def test_a_new_endpoint_is_served_the_moment_its_replica_is_ready(rig: Rig) -> None:
    async def work() -> None:
        control = Control(rig.home.run / "control-api.sock")
        table = rig.table(["r0", "r1"])
        revision = {
            **table["endpoints"][0]["revisions"][0],
            "revision": "default.new-1",
            "replicas": [{"replica": "r9", "address": rig.home.address("r9")}],
        }
        table["endpoints"].append({**table["endpoints"][0], "endpoint": "new", "revisions": [revision]})
        control.table = table
        await control.start()
        path = "/v2/models/new/infer"
        while (await ask(rig, "GET", "/v2/models/new")).status == 404:
            await asyncio.sleep(0.02)
        waiting = asyncio.create_task(ask(rig, "POST", path, b"{}"))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(rig.start_replica, "r9")
        assert (await waiting).status == 200
        await control.stop()

    run(work)


def test_revisions_share_by_weight_and_a_version_can_be_named(rig: Rig) -> None:
    async def work() -> None:
        control = Control(rig.home.run / "control-api.sock")
        table = rig.table([])
        digits = table["endpoints"][0]
        first = digits["revisions"][0]
        digits["revisions"] = [
            {
                **first,
                "revision": f"default.digits-{number}",
                "version": str(number),
                "weight": weight,
                "replicas": [{"replica": name, "address": rig.home.address(name)}],
            }
            for number, weight, name in ((1, 30, "r0"), (2, 10, "r1"))
        ]
        control.table = table
        await control.start()
        while (await ask(rig, "GET", "/v2/models/digits")).json["versions"] != ["1", "2"]:
            await asyncio.sleep(0.02)
        while (await ask(rig, "GET", "/v2/models/digits/versions/2/ready")).status != 200:
            await asyncio.sleep(0.02)
        for number in range(200):
            assert (await infer(rig, f"slow:0 w{number}")).status == 200
        shares = [sum(" infer " in f" {line} " for line in rig.lines(name)) for name in ("r0", "r1")]
        assert 20 < shares[1] < 90, shares
        for _ in range(5):
            await ask(rig, "POST", "/v2/models/digits/versions/2/infer", b"slow:0 pinned")
        assert sum(" infer " in f" {line} " for line in rig.lines("r1")) == shares[1] + 5
        await control.stop()

    run(work)


def test_a_gateway_does_not_load_a_whole_http_client() -> None:
    code = "import sys, stoker.app.gateway_main; print('aiohttp' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
