"""The access log when the disk does not take it, and when too much comes: lines are lost and counted, nothing else."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from stoker.gateway import access
from stoker.gateway.access import AccessLog
from stoker.gateway.exchange import Exchange
from stoker.gateway.http.incoming import HttpRequest
from stoker.gateway.protocols.oip_http import OipShapes
from stoker.gateway.router import Route
from stoker.telemetry.metrics import Registry


async def never(_: Exchange) -> None:
    raise AssertionError


def exchange(name: str = "digits") -> Exchange:
    route = Route(OipShapes(), never, "infer")
    return Exchange(cast(Any, None), HttpRequest(b"POST", b"/", {}, 1.0), route, name, "")


def written(log: AccessLog) -> None:
    """Run the log until it was told to end, which writes what is left."""

    async def work() -> None:
        task = asyncio.create_task(log.run())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(work())


def dropped(registry: Registry) -> float:
    return registry.snapshot().total("stoker_access_log_dropped_total")


def test_what_waits_is_bounded_and_the_end_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "QUEUE_MAX", 5)
    registry = Registry("gateway-0")
    log = AccessLog(tmp_path / "access" / "log.jsonl", registry)
    for _ in range(8):
        log.add(exchange("x" * 10_000 + '"\n'), 2.0)
    written(log)
    lines = (tmp_path / "access" / "log.jsonl").read_bytes().splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) < 1000
    assert dropped(registry) == 3


def test_a_disk_that_takes_nothing_costs_lines_only(tmp_path: Path) -> None:
    (tmp_path / "access").write_text("a file where a folder should be")
    registry = Registry("gateway-0")
    log = AccessLog(tmp_path / "access" / "log.jsonl", registry)
    log.add(exchange(), 2.0)
    written(log)
    assert dropped(registry) == 1


def test_a_large_file_makes_room_and_one_older_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "FILE_BYTES_MAX", 10)
    log = AccessLog(tmp_path / "log.jsonl", Registry("gateway-0"))
    for number in range(3):
        log.add(exchange(f"model-{number}"), 2.0)
        written(log)
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl.1"]
    assert b"model-2" in (tmp_path / "log.jsonl.1").read_bytes()
