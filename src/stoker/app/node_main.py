"""The agent of a node that joined: its processes are replicas only; control speaks to it over mutual TLS.

python -m stoker.app.node_main --home H

It renews the certificates of its node, and its replicas find them in their folder. A signal ends everything; a kill
leaves replicas running, for the next agent to adopt.
"""

import argparse
import asyncio
import logging
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from stoker.agent import orphans
from stoker.agent.intake import Intake, Places
from stoker.agent.pull import Puller
from stoker.agent.server import AgentServer, Api
from stoker.agent.spawn import raise_own_limits
from stoker.agent.supervisor import Supervisor
from stoker.app import agent_main, join, settings
from stoker.app.far_http import FarServer, expecting
from stoker.app.home import Home
from stoker.app.settings import Settings
from stoker.blob.folder import FolderBlobs
from stoker.control.files import write_whole
from stoker.core.certificates import AGENT_DOOR, is_due
from stoker.protocol import certificates, secure
from stoker.protocol.secure import Far, Identity
from stoker.protocol.unixhttp import request
from stoker.telemetry.logs import configure
from stoker.types.errors import NotReachable, StokerError, Unauthenticated
from stoker.types.models import sha256_digest
from stoker.types.nodes import Issued, Joined, Requests, SyncBody, Synced
from stoker.types.peers import OWN

SYNC_S: Final = 2.0
TIMEOUT_S: Final = 10.0
_log: Final = logging.getLogger(__name__)


class Keeper:
    """Keeps the certificates of a node fresh, and whom it trusts."""

    def __init__(self, home: Home, joined: Joined) -> None:
        self._home = home
        self._mine = Identity(home.tls / "agent")
        host, _, port = joined.control.removeprefix("https://").rpartition(":")
        self.control = Far(host.strip("[]"), int(port), OWN, "control", "control", str(home.tls / "agent")).address
        self._is_away = False

    async def run(self) -> None:
        """Look until cancelled; return when control says that this is no node any more."""
        while True:
            try:
                await self._look()
                self._is_away = False
            except Unauthenticated as removed:
                _log.error("this is no node any more: %s", removed.message)
                return
            except (StokerError, OSError) as problem:
                if not self._is_away:
                    _log.warning("control does not answer a node", extra={"reason": str(problem)})
                self._is_away = True
            await asyncio.sleep(SYNC_S * random.uniform(0.8, 1.2))

    async def _look(self) -> None:
        folder = self._home.tls / "agent"
        trust = (folder / secure.TRUST).read_bytes()
        said = await self._ask("/v1/sync", SyncBody(sha256_digest(trust)))
        found = msgspec.json.decode(said, type=Synced)
        if found.trust:
            for role in ("agent", "replica"):
                write_whole(self._home.tls / role / secure.TRUST, found.trust.encode())
            _log.info("the authorities are others")
        begins_s, until_s = certificates.times((folder / secure.IDENTITY).read_text("ascii"))
        if found.renew or is_due(begins_s, until_s, time.time()):
            await self._renew()

    async def _renew(self) -> None:
        keys = {role: certificates.new_key() for role in ("agent", "replica")}
        wish = Requests(*(certificates.request(keys[role]) for role in ("agent", "replica")))
        issued = msgspec.json.decode(await self._ask("/v1/renew", wish), type=Issued)
        join.keep(self._home, issued, keys)
        _log.info("certificates renewed")

    async def _ask(self, path: str, body: msgspec.Struct) -> bytes:
        headers = {"content-type": "application/json"}
        told = msgspec.json.encode(body)
        status, answer = await request(self.control, "POST", path, body=told, headers=headers, timeout_s=TIMEOUT_S)
        if status == Unauthenticated.status:
            raise Unauthenticated(answer.decode("utf-8", "replace")[:500])
        if status != 200:
            raise NotReachable(f"control answered {status} for {path}: {answer[:200]!r}")
        return answer


class NodeAgent:
    """The running agent of a node that joined."""

    def __init__(self, home: Home, joined: Joined, chosen: Settings) -> None:
        self._home = home
        self._joined = joined
        self._settings = chosen
        self._keeper = Keeper(home, joined)
        self._supervisor = Supervisor(
            agent_main.folders(home), joined.name, (), pool=joined.pool, forks=chosen.forks == "on"
        )
        blobs = FolderBlobs(home.blobs, home.tmp)
        blobs.clean()
        places = Places(home.replicas, home.models)
        self._intake = Intake(self._supervisor, Puller(self._keeper.control, blobs), blobs, places)
        self._endings: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Run until told to end, or removed from the platform."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.shut_down, self._settings.drain_s)
        self._supervisor.start()
        api = Api(self._supervisor, self.shut_down, self._intake)
        near = AgentServer(api, self._home.run / "agent.sock")
        near.start()
        mine = Identity(self._home.tls / "agent")
        far = FarServer(api.app(), mine, expecting(mine, AGENT_DOOR))
        far.start(self._joined.host, self._joined.port)
        works = [
            asyncio.create_task(secure.keep_looking(mine, lambda: None)),
            asyncio.create_task(self._intake.run()),
        ]
        keeping = asyncio.create_task(self._keeper.run())
        keeping.add_done_callback(lambda done: None if done.cancelled() else self.shut_down(self._settings.drain_s))
        _log.info("agent ready", extra={"home": str(self._home.root), "node": self._joined.name})
        await self._supervisor.ended.wait()
        for work in (*works, keeping):
            work.cancel()
        await far.close()
        await near.close()

    def shut_down(self, drain_s: float) -> None:
        """Begin to end everything; asked again, the shorter time counts."""
        self._intake.close()
        self._endings.append(asyncio.get_running_loop().create_task(self._supervisor.shutdown(drain_s)))


def run(home: Home, chosen: Settings) -> None:
    """Run the agent of the node in `home`. Raises StokerError, OSError."""
    joined = join.read(home)
    home.make()
    lock = agent_main.take_lock(home)
    raise_own_limits()
    orphans.take()
    try:
        asyncio.run(NodeAgent(home, joined, chosen).run())
    finally:
        with suppress(OSError):
            os.close(lock)


def main() -> int:
    """Run the node of the arguments; return its exit code."""
    parser = argparse.ArgumentParser(prog="stoker-node")
    parser.add_argument("--home", type=Path, required=True)
    chosen = settings.load(os.environ, **vars(parser.parse_args()))
    configure("agent", chosen.log_level)
    try:
        run(Home(chosen.home), chosen)
    except (StokerError, OSError) as problem:
        _log.error("the node cannot run: %s", problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
