"""Keys of other people's servers by reference: real gateways and a real door-keeper, and a key that is replaced."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stoker.core.secrets import REREAD_S
from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import connect as link_to
from stoker.secrets import keeper
from stoker.types.secrets import SecretState
from tests.engines_llm.upstream import Upstream
from tests.gateway.rig import Client, client, run
from tests.gateway.test_remote import CHAT, DoorRig, begun, body, doors
from tests.secrets import vault_server
from tests.secrets.vault_server import TOKEN

OLD, NEW = "sk-planted-old", "sk-planted-new"
FRESH_S = 30.0  # a replaced value is used by then


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    server.keys = {OLD}
    yield server
    server.close()


def secret_file(folder: Path, value: str) -> str:
    place = folder / "home" / "secrets" / "default"
    place.mkdir(parents=True, exist_ok=True)
    (place / "next").write_text(value)
    (place / "next").replace(place / "openai")
    return f"file:{place}/openai"


async def states(rig: DoorRig, *, insists: bool = False) -> list[SecretState]:
    link = await link_to(rig.home.address("gateway-0"))
    try:
        _, told = await link.call(RequestHead(method="secrets"), b"again" if insists else b"", kind=Kind.CALL).answer()
    finally:
        link.close()
    return keeper.decode(told)


async def say(one: Client, **fields: object) -> int:
    return (await one.request("POST", CHAT, body(**fields))).status


def test_a_key_is_handed_over_replaced_at_once_when_refused_and_in_no_file(upstream: Upstream, tmp_path: Path) -> None:
    """A stream that runs is not cut, and the request that found out is answered."""

    async def work() -> None:
        async with client(rig) as streaming, client(rig) as one:
            assert await say(one) == 200
            chunks: AsyncIterator[bytes] = await begun(streaming)
            (before,) = await states(rig)
            assert (before.read, before.is_usable, before.problem) == (1, True, "")
            secret_file(tmp_path, NEW)
            upstream.keys = {NEW}
            await asyncio.sleep(max(0.0, before.tried_at_s + REREAD_S + 0.05 - time.time()))
            assert [await say(one) for _ in range(5)] == [200] * 5
            assert upstream.headers[-1]["Authorization"] == f"Bearer {NEW}"
            form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
            await say(one, response_format=form)  # through the replica, which was told too
            assert upstream.headers[-1]["Authorization"] == f"Bearer {NEW}"
            assert b"more" in await anext(chunks)
            (after,) = await states(rig)
            assert (after.read, after.problem) == (2, "")
            streaming.close()

    reference = secret_file(tmp_path, OLD)
    with doors(tmp_path, url=upstream.url, secret=reference, model="long") as rig:
        run(work)
        written = [path for path in rig.home.root.rglob("*") if path.is_file() and path.name != "openai"]
        assert not [path for path in written if b"sk-planted" in path.read_bytes()]
        told = json.dumps([str(each) for each in asyncio.run(states(rig))])
        assert "planted" not in told


def test_a_vaults_key_outlives_the_vault_and_a_door_keeper_that_died(upstream: Upstream, tmp_path: Path) -> None:
    async def goes_on() -> None:
        async with client(rig) as one:
            assert await say(one) == 200
            vault.fault = "503"
            (state,) = await states(rig, insists=True)
            assert "sealed" in state.problem
            assert state.is_usable
            assert state.stale_until_s > time.time()
            assert await say(one) == 200
            rig.kill("r0", signal.SIGKILL)
            rig.start_door("r0", url=upstream.url, model="plain")
            await asyncio.to_thread(rig.ready, 1)  # it was handed the value that the gateway still has
            assert await say(one) == 200
            vault.fault = ""
            vault.put("secret/stoker/default/openai", key=NEW)
            upstream.keys = {OLD, NEW}
            async with asyncio.timeout(60):
                while (await states(rig, insists=True))[0].read < 2:  # it leaves a sealed Vault alone for a second
                    await asyncio.sleep(0.05)
            assert await say(one) == 200
            assert upstream.headers[-1]["Authorization"] == f"Bearer {NEW}"

    with vault_server.serving() as vault:
        vault.put("secret/stoker/default/openai", key=OLD)
        token = tmp_path / "token"
        token.write_text(TOKEN)
        reference = "vault:secret/stoker/default/openai#key"
        environ = {"STOKER_VAULT_ADDR": vault.url, "STOKER_VAULT_TOKEN_FILE": str(token)}
        with doors(tmp_path, environ=environ, url=upstream.url, secret=reference, model="plain") as rig:
            run(goes_on)


def test_a_server_that_refuses_a_right_key_is_asked_again_once_and_no_more(upstream: Upstream, tmp_path: Path) -> None:
    async def work() -> None:
        async with client(rig) as one:
            upstream.keys = set()
            seen = len(upstream.seen)
            refused = await one.request("POST", CHAT, body())
            assert refused.status == 500
            assert "secrets list" in refused.json["error"]["message"]
            assert OLD not in refused.body.decode()
            assert len(upstream.seen) - seen <= 2

    reference = secret_file(tmp_path, OLD)
    with doors(tmp_path, url=upstream.url, secret=reference, model="plain") as rig:
        run(work)
