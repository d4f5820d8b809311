"""Kept requests of an endpoint, as calls that a replica can be asked again."""

import asyncio
import logging
import time
from typing import Final

import msgspec

from stoker.observe.samples import SampleStore, Wanted
from stoker.telemetry.sealing import Unreadable
from stoker.types.samples import SampleRecord

Asking = tuple[str, bytes]  # a method and its body
METHODS: Final = {"predict": ("infer",), "chat": ("chat", "completions"), "embed": ("embeddings",)}
_EVERY: Final = tuple(method for methods in METHODS.values() for method in methods)

log = logging.getLogger(__name__)


def request(record: SampleRecord) -> Asking | None:
    """Return a sample as a call; None where nothing of it can be sent again."""
    if record.method not in _EVERY or not isinstance(record.request, dict):
        return None
    return record.method, msgspec.json.encode({**record.request, "stream": False} if record.stream else record.request)


async def newest(samples: SampleStore, project: str, endpoint: str, limit: int) -> list[SampleRecord]:
    """Return the newest samples; none, with a line in the log, where they cannot be read."""
    try:
        return await asyncio.to_thread(samples.read, project, endpoint, Wanted(limit), time.time())
    except (OSError, Unreadable) as problem:
        log.warning("samples could not be read", extra={"endpoint": endpoint, "reason": str(problem)})
        return []


def shortened(record: SampleRecord, task: str, tokens_max: int) -> Asking | None:
    """Return an answered sample as a call of at most `tokens_max` tokens; None where `task` has no such call."""
    asking = request(record)
    if asking is None or record.status != 200 or record.method not in METHODS.get(task, ()):
        return None
    if task != "chat":
        return asking
    wanted = {**msgspec.json.decode(asking[1]), "max_tokens": tokens_max}
    wanted.pop("max_completion_tokens", None)
    return record.method, msgspec.json.encode(wanted)
