"""Which request, trace and tenant a line of a replica's log is of, whoever wrote it, and that no other line is."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import Link
from stoker.types.errors import EngineFailed
from stoker.types.faults import METHOD
from tests.runtime.models import python_spec
from tests.runtime.rig import Process, ask, drive, infer_body, running, stats_of, until

# Logs what it is given, as a library of its own would, and waits for a file before it answers the first time.
TALKS = """
import logging, pathlib, time


class Model:
    inputs = {"input": ("FP64", [-1, 1])}
    outputs = {"out": ("FP64", [-1])}

    def load(self, folder):
        self.gate = pathlib.Path("GATE")

    def predict(self, inputs):
        rows = inputs["input"].reshape(-1).tolist()
        if 0.0 not in rows:
            logging.getLogger("library").warning("rows %s", rows)
        while 1.0 in rows and not self.gate.exists():
            time.sleep(0.005)
        if 9.0 in rows:
            raise KeyError("nine")
        return {"out": rows}
"""
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


def lines(process: Process, word: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in process.log.splitlines() if line.startswith("{")]
    return [each for each in found if word in each["message"]]


def named(line: dict[str, Any]) -> dict[str, str]:
    return {name: line[name] for name in ("request", "requests", "trace", "tenant") if name in line}


async def send(link: Link, row: float, **head: Any) -> Any:
    return await ask(link, "infer", infer_body([[row]]), **head)


def test_what_a_model_logs_names_its_request_its_trace_and_its_tenant_and_then_nobody(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        await send(link, 2.0, trace=TRACE, tenant="acme")
        (line,) = lines(process, "rows [2.0]")
        assert (line["logger"], named(line)) == ("library", {"request": "r1", "trace": "a" * 32, "tenant": "acme"})
        with pytest.raises(EngineFailed):
            await send(link, 9.0, tenant="acme")
        assert named(lines(process, "the model raised")[0]) == {"request": "r1", "tenant": "acme"}
        # Two that ran together: of both, and of a tenant only where it is one.
        for tenants in (("acme", "acme"), ("acme", "zeta")):
            gate.unlink(missing_ok=True)
            first = asyncio.create_task(send(link, 1.0))
            await until(link, lambda stats: stats.running == 1)
            others = [asyncio.create_task(send(link, 3.0 + at, tenant=tenant)) for at, tenant in enumerate(tenants)]
            while (await stats_of(link)).queued < 2:
                await asyncio.sleep(0.005)
            gate.touch()
            await asyncio.gather(first, *others)
            together = named(lines(process, "rows [3.0, 4.0]")[-1])
            assert together == {"requests": "r1 r1", **({"tenant": "acme"} if len({*tenants}) == 1 else {})}
        fault = msgspec.json.encode({"kind": "clock", "seconds": 0.1})
        await link.call(RequestHead(METHOD, body_bytes=len(fault)), fault, kind=Kind.CALL).answer()
        assert named(lines(process, "fault on purpose")[0]) == {}, "nobody's work any more"

    gate = tmp_path / "gate"
    with running(python_spec(tmp_path / "model", TALKS.replace("GATE", str(gate))), tmp_path) as process:
        drive(process, body)
