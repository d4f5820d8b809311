"""Processes that are the agent's children because their parent ended: forked replicas, and what dead ones left."""

import ctypes
import os
from collections.abc import Container, Iterable
from contextlib import suppress
from typing import Final

from stoker.agent.kernel import ProcessLine

_PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h


def take() -> None:
    """Have the kernel give us the children of our dead children: so that a forked replica is ours to bury."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def bury(lines: Iterable[ProcessLine], owned: Container[int]) -> None:
    """Reap those of `lines` that are dead, our children, and neither `owned` nor of our own session."""
    for line in lines:
        if line.parent == os.getpid() and not line.is_alive and line.session != os.getsid(0) and line.pid not in owned:
            with suppress(ChildProcessError):
                os.waitpid(line.pid, os.WNOHANG)
