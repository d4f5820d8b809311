"""How a process comes into the agent's hands: forked from a server that has its imports, else started by itself."""

import os
from pathlib import Path

from stoker.agent.child import Child
from stoker.agent.site import Site
from stoker.agent.spawn import environment, mark_for_oom, spawn
from stoker.types.forks import ForkOrder
from stoker.types.process import ProcessSpec


async def birth(spec: ProcessSpec, site: Site, log: Path) -> Child:
    """Start the process. Raises OSError or ValueError when the kernel, or Python before it, refuses."""
    home_id = site.folders.home_id
    key = site.forks.key(spec) if site.forks is not None else None
    if site.forks is not None and key is not None:
        order = ForkOrder(spec.argv, environment(spec, home_id, os.environ), spec.work_dir)
        forked = await site.forks.fork(key, order, log)
        if forked is not None:
            with forked:
                child = Child.of_fork(forked.pid)
                mark_for_oom(spec, child.pid)
                forked.go()
            return child
    return Child.of_birth(spawn(spec, home_id, log))
