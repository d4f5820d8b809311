"""The agent as a process: which processes the platform is made of, with which arguments, and how the agent ends.

python -m stoker.app.agent_main --home H --port P --gateways N
"""

import argparse
import asyncio
import importlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Final

import msgspec

from stoker.agent import orphans
from stoker.agent.folders import Folders
from stoker.agent.spawn import raise_own_limits
from stoker.agent.supervisor import Supervisor
from stoker.app import keeper_main, settings
from stoker.app.home import Home
from stoker.app.settings import Settings
from stoker.telemetry.logs import configure
from stoker.types.errors import Conflict, StokerError
from stoker.types.process import ProcessSpec

NODE: Final = "local"
LOCK_WAIT_S: Final = 2.0  # a child of the agent before, between fork and exec, may hold the lock a moment longer
SPAWNED_WAIT_S: Final = 0.5
KEEPER_LOOK_S: Final = 2.0
_log: Final = logging.getLogger(__name__)


def folders(home: Home) -> Folders:
    """Return where the agent of `home` keeps things."""
    return Folders(home.id, home.processes, home.logs, home.replicas)


def control_spec(home: Home, chosen: Settings) -> ProcessSpec:
    """Return what runs control."""
    module = ("-m", "stoker.app.control_main", "--home", str(home.root))
    return ProcessSpec(
        name="control",
        kind="control",
        argv=(sys.executable, *module, "--api-port", str(chosen.api_port), "--gateways", str(chosen.gateways)),
        env=chosen.environment(),
        address=home.address("control"),
        work_dir=str(home.root),
        drain_s=chosen.drain_s,
    )


def gateway_spec(home: Home, chosen: Settings, index: int) -> ProcessSpec:
    """Return what runs one gateway."""
    where = ("--home", str(home.root), "--host", chosen.host, "--port", str(chosen.port))
    which = ("--index", str(index), "--gateways", str(chosen.gateways))
    return ProcessSpec(
        name=f"gateway-{index}",
        kind="gateway",
        argv=(sys.executable, "-m", "stoker.app.gateway_main", *where, *which),
        env=chosen.environment(),
        address=home.address(f"gateway-{index}"),
        work_dir=str(home.root),
        drain_s=chosen.drain_s,
        # Requests that wait for slow replicas are no stall of the gateway, and under load some always do.
        stall_s=0.0,
        silent_s=chosen.gateway_silent_s,
    )


def system_specs(home: Home, chosen: Settings) -> tuple[ProcessSpec, ...]:
    """Return the processes that the platform itself is made of."""
    return (control_spec(home, chosen), *(gateway_spec(home, chosen, index) for index in range(chosen.gateways)))


def agent_argv(chosen: Settings) -> tuple[str, ...]:
    """Return what runs the agent; the other settings reach it by its environment."""
    module = ("-m", "stoker.app.agent_main", "--home", str(chosen.home))
    tls: tuple[str, ...] = ()
    if chosen.tls_cert:  # as absolute paths: the agent has another working folder than who started it
        tls = ("--tls-cert", chosen.tls_cert, "--tls-key", chosen.tls_key, "--tls-client-ca", chosen.tls_client_ca)
    return (sys.executable, *module, "--port", str(chosen.port), "--gateways", str(chosen.gateways), *tls)


def take_lock(home: Home, wait_s: float = LOCK_WAIT_S) -> int:
    """Return a descriptor that holds the agent's lock while it is open. Raises Conflict when an agent runs already."""
    lock = keeper_main.take(home.run, keeper_main.AGENT_LOCK, wait_s)
    if lock < 0:
        raise Conflict(f"an agent runs already for {home.root}")
    return lock


class Agent:
    """The running agent: its supervisor, its API, and who looks after it."""

    def __init__(self, home: Home, chosen: Settings) -> None:
        self._home = home
        self._settings = chosen
        system = system_specs(home, chosen)
        self._supervisor = Supervisor(folders(home), NODE, system, pool=chosen.pool, forks=chosen.forks == "on")
        self._endings: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Run until the platform was shut down."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.shut_down, self._settings.drain_s)
        self._supervisor.start()
        # The processes start while this one imports its web framework: they take longer than the agent.
        await self._supervisor.wait_spawned(SPAWNED_WAIT_S)
        module = await asyncio.to_thread(importlib.import_module, "stoker.agent.server")
        server = module.AgentServer(module.Api(self._supervisor, self.shut_down), self._home.run / "agent.sock")
        server.start()
        _log.info("agent ready", extra={"home": str(self._home.root)})
        keeper = asyncio.create_task(self._keep_the_keeper())
        await self._supervisor.ended.wait()
        keeper.cancel()
        await server.close()

    def shut_down(self, drain_s: float) -> None:
        """Begin to end everything; asked again, the shorter time counts."""
        # First of all it is written down that nobody wants this platform: an agent that dies now is not restarted.
        (self._home.run / keeper_main.WANTED).unlink(missing_ok=True)
        self._endings.append(asyncio.get_running_loop().create_task(self._supervisor.shutdown(drain_s)))

    async def _keep_the_keeper(self) -> None:
        """Start the keeper again when it was killed; it and the agent look after each other."""
        while True:
            await asyncio.sleep(KEEPER_LOOK_S)
            if (self._home.run / keeper_main.WANTED).exists() and not keeper_main.is_kept(self._home.run):
                _log.warning("started the keeper again")
                keeper_main.start(self._home.run, self._home.logs, self._home.id)


def main() -> int:
    """Run the agent of the arguments; return its exit code."""
    parser = argparse.ArgumentParser(prog="stoker-agent")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--gateways", type=int)
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    parser.add_argument("--tls-client-ca")
    given = vars(parser.parse_args())
    chosen = settings.load(os.environ, **given)
    home = Home(chosen.home)
    configure("agent", chosen.log_level)
    try:
        home.make()
        lock = take_lock(home)
        (home.run / keeper_main.AGENT_ERROR).unlink(missing_ok=True)
        raise_own_limits()
        orphans.take()
        asyncio.run(Agent(home, chosen).run())
        os.close(lock)
    except Conflict:
        return keeper_main.EXIT_LOCKED
    except (StokerError, OSError) as problem:
        _log.exception("the agent cannot run")
        _leave_words(home, str(problem))
        return 1
    return 0


def _leave_words(home: Home, message: str) -> None:
    """Tell whoever waits for the agent why it does not come."""
    try:
        (home.run / keeper_main.AGENT_ERROR).write_bytes(msgspec.json.encode({"message": message}))
    except OSError:
        _log.warning("nor could it say so in the run folder")


if __name__ == "__main__":
    sys.exit(main())
