"""What every long-running process of the platform does around its own work: logging, event loop, signals, exit code."""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop

from stoker.app import structs
from stoker.telemetry.logs import configure
from stoker.types.errors import StokerError

FAILED: Final = 1
_log: Final = logging.getLogger(__name__)


def run(process: str, level: str, main: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Run `main` on uvloop and return the exit code. Its argument is set by SIGTERM or SIGINT: drain, then return."""
    configure(process, level)
    structs.know()
    try:
        uvloop.run(_with_signals(main))
    except (StokerError, OSError) as problem:
        _log.error("cannot go on: %s", problem)  # in words: the agent shows them
        return FAILED
    except Exception:
        _log.exception("crashed")
        return FAILED
    finally:
        sys.stdout.flush()
    return 0


async def _with_signals(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    await main(asked)
