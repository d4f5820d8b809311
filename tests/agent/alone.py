"""An agent that runs no control and no gateway and is less patient: what the tests of this folder start."""

import asyncio
import logging
import signal
import sys
from pathlib import Path

from stoker.agent import orphans
from stoker.agent.pace import Pace
from stoker.agent.server import AgentServer, Api
from stoker.agent.spawn import raise_own_limits
from stoker.agent.supervisor import Supervisor
from stoker.app import agent_main
from stoker.app.home import Home

PACE = Pace(look_every_s=0.25, ping_every_s=0.25, strays_every=1, term_grace_s=1.0)


async def main() -> None:
    home = Home(Path(sys.argv[1]))
    supervisor = Supervisor(agent_main.folders(home), "test", (), PACE, forks=True)
    loop = asyncio.get_running_loop()
    tasks = []

    def shut_down(drain_s: float) -> None:
        tasks.append(loop.create_task(supervisor.shutdown(drain_s)))

    loop.add_signal_handler(signal.SIGTERM, shut_down, 0.0)
    supervisor.start()
    server = AgentServer(Api(supervisor, shut_down), home.run / "agent.sock")
    server.start()
    await supervisor.ended.wait()
    await server.close()


logging.basicConfig(level="INFO", format="%(asctime)s %(message)s")
raise_own_limits()
orphans.take()
lock = agent_main.take_lock(Home(Path(sys.argv[1])))
asyncio.run(main())
