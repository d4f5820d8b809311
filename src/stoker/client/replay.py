"""Sampled requests sent to two endpoints, one after the other, so that both are asked the same in the same minutes."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from stoker.client.data import DataClient
from stoker.core import replay
from stoker.types.errors import StokerError
from stoker.types.replay import NO_ANSWER, Outcome, Reply
from stoker.types.samples import SampleRecord


class Target(msgspec.Struct, frozen=True):
    """Who is asked; `version` as in core/replay.request."""

    endpoint: str
    version: str = ""


def run(
    data: DataClient, records: Iterable[SampleRecord], before: Target, after: Target, *, rate: float
) -> Iterator[Outcome]:
    """Yield what became of each of `records`, which all can be sent, one after the other.

    Args:
        rate: samples a second, at the most; 0: as fast as they are answered.
    """
    due_s = time.monotonic()
    for record in records:
        wait_s = due_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        due_s = max(due_s, time.monotonic()) + (1 / rate if rate else 0.0)
        yield replay.outcome(record, _ask(data, record, before), _ask(data, record, after))


def _ask(data: DataClient, record: SampleRecord, target: Target) -> tuple[Reply, Any]:
    path, body = replay.request(record, target.endpoint, target.version)
    began_s = time.monotonic()
    answer, status, why = None, 200, ""
    try:
        answer = msgspec.json.decode(data.ask(path, body))
    except StokerError as problem:
        status, why = problem.status or NO_ANSWER, problem.code
    except msgspec.DecodeError:
        why = "no JSON"
    return replay.reply(answer, status, time.monotonic() - began_s, why), answer
