"""Scenes of rollouts for the tests of the gateway: two revisions of digits, a table that says so, what was counted."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec

from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import connect as link_to
from stoker.types.rollouts import RolloutCounts
from tests.gateway import rig as rigs
from tests.gateway.rig import Rig, all_see, until
from tests.gateway.test_watch import Control

BASELINE, CANARY = "default.digits-1", "default.digits-2"


def table(rig: Rig, weights: tuple[int, int], rollout: dict[str, Any] | None, **limits: Any) -> dict[str, Any]:
    """Return the next table: r0 and r1 are the baseline, c0 and c1 the canary of every endpoint of default."""
    made = rig.table([], **limits)
    for endpoint in made["endpoints"]:
        (revision,) = endpoint["revisions"]
        name = revision["revision"].removesuffix("-1")
        endpoint["revisions"] = [
            {
                **revision,
                "revision": f"{name}-{number}",
                "version": str(number),
                "weight": weight,
                "replicas": [
                    {"replica": each, "address": rig.home.address(each)}
                    for each in rig.processes
                    if each.startswith(letter)
                ],
            }
            for number, letter, weight in ((1, "r", weights[0]), (2, "c", weights[1]))
        ]
        if rollout is not None:
            endpoint["rollout"] = {"number": 7, "baseline": f"{name}-1", "canary": f"{name}-2", **rollout}
    return made


@contextlib.contextmanager
def scene(
    folder: Path, replicas: tuple[str, ...], weights: tuple[int, int], rollout: dict[str, Any] | None, **limits: Any
) -> Iterator[Rig]:
    """Start a gateway and `replicas` (r…: baseline, c…: canary) of a table with `weights`."""
    with rigs.rig(folder, replicas=0) as rig:
        rig.kill("gateway-0")
        for name in replicas:
            rig.spawn_replica(name)
        write(rig, table(rig, weights, rollout, **limits))
        rig.start_gateway()
        shown = sum(bool(weights[name.startswith("c")]) for name in replicas)
        until(lambda: asyncio.run(all_see(rig, shown)), "the gateway sees every replica that has a weight")
        versions = {{"r": "1", "c": "2"}[name[0]] for name in replicas}
        until(
            lambda: asyncio.run(_serve(rig, versions)), "the gateway sees replicas of every version, also of a shadow"
        )
        yield rig


async def _serve(rig: Rig, versions: set[str]) -> bool:
    """Return whether each version of each endpoint has a replica that takes requests, whatever its weight is."""
    return all(
        [
            (await rigs.ask(rig, "GET", f"/v2/models/{name}/versions/{version}/ready")).status == 200
            for name in ("digits", "smol", "mini")
            for version in versions
        ]
    )


def write(rig: Rig, made: dict[str, Any]) -> None:
    """Write the table that the next gateway starts from."""
    (rig.home.gateway / "routes.json").write_bytes(msgspec.json.encode(made))


@contextlib.asynccontextmanager
async def control(rig: Rig) -> AsyncIterator[Control]:
    """Be control: what is put into `table` is what gateways follow."""
    made = Control(rig.home.run / "control-api.sock")
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def follow(rig: Rig, one: Control, made: dict[str, Any]) -> None:
    """Publish a table, and wait until the gateway follows it."""
    one.table = made
    while (await rigs.counted(rig)).total("stoker_route_table_version") != made["version"]:
        await asyncio.sleep(0.01)


async def call(rig: Rig, method: str, body: bytes = b"", name: str = "gateway-0") -> bytes:
    """Ask a gateway on its frames address."""
    link = await link_to(rig.home.address(name))
    try:
        head = RequestHead(method=method, body_bytes=len(body))
        return (await link.call(head, body, kind=Kind.CALL).answer())[1]
    finally:
        link.close()


async def all_counts(rig: Rig, name: str = "gateway-0") -> list[RolloutCounts]:
    """Return what a gateway counted of every rollout."""
    return msgspec.json.decode(await call(rig, "rollouts", name=name), type=list[RolloutCounts])


async def counts(rig: Rig, endpoint: str = "digits") -> RolloutCounts:
    """Return what the gateway counted of the one rollout."""
    (found,) = [each for each in await all_counts(rig) if each.endpoint == endpoint]
    return found
