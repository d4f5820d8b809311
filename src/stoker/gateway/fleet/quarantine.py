"""What is written down when a request is found to kill replicas: a file to build one like it from, a log line, a count.

One JSON file each in `gateway/quarantine/` of the state folder, for the owner alone (0600), the newest FILES_MAX of all
gateways together; names sort by time. What the client said is not in it (core/redact.py).
"""

import asyncio
import contextlib
import itertools
import logging
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from stoker.core import redact
from stoker.gateway.exchange import Exchange
from stoker.gateway.fleet import suspicion
from stoker.gateway.lane import Lane

FILES_MAX: Final = 100
WRITING_MAX: Final = 8  # at once; what comes meanwhile is only logged

_log = logging.getLogger(__name__)


class Quarantine:
    """Keeps records in `folder`, which other gateways use too."""

    def __init__(self, folder: Path, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._folder = folder
        self._clock_ns = clock_ns
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, lane: Lane, exchange: Exchange, replica: str) -> None:
        """Record that `exchange` was convicted by the death of `replica`. Returns at once; the file comes later."""
        lane.meters.quarantined()
        about = _about(lane, exchange, replica)
        _log.warning("a request that kills replicas is in quarantine", extra=about)
        if len(self._tasks) < WRITING_MAX:
            work = asyncio.to_thread(self._write, about, exchange.body, exchange.header_bytes)
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _write(self, about: dict[str, Any], body: bytes, header_bytes: int) -> None:
        at_ns = self._clock_ns()
        record = {**about, "at_s": round(at_ns / 1e9, 3), "body": redact.body(body, header_bytes)}
        half = self._folder / f".{secrets.token_hex(8)}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(record), indent=1))
                file.flush()
                os.fsync(file.fileno())
            self._name(half, at_ns, about["shape"])
            for old in sorted(self._folder.glob("[0-9]*.json"))[:-FILES_MAX]:
                old.unlink(missing_ok=True)
        except OSError as full:
            _log.error("the record of a request in quarantine cannot be kept", extra={"reason": str(full)})
        finally:
            with contextlib.suppress(OSError):
                half.unlink(missing_ok=True)

    def _name(self, half: Path, at_ns: int, shape: str) -> None:
        """Give `half` the first free name from `at_ns` on. A link, because it replaces nothing, as a rename would."""
        for stamp_ns in itertools.count(at_ns):
            with contextlib.suppress(FileExistsError):
                (self._folder / f"{stamp_ns}-{shape[:16]}.json").hardlink_to(half)
                return


def _about(lane: Lane, exchange: Exchange, replica: str) -> dict[str, Any]:
    """Return what is known of the request, for the log and the file."""
    revisions = [each for each in lane.route.revisions if str(each.revision) == exchange.revision]
    return {
        "request": exchange.id,
        "project": lane.route.project,
        "endpoint": lane.route.endpoint,
        "revision": exchange.revision,
        "engine": revisions[0].platform if revisions else "",
        "replica": replica,
        "key": exchange.key.key if exchange.key is not None else "",
        "method": exchange.method,
        "stream": exchange.stream,
        "shape": suspicion.shape(exchange).hex(),
        "body_bytes": len(exchange.body),
        "header_bytes": exchange.header_bytes,
        "tries": exchange.tries,
    }
