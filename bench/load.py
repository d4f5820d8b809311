"""Puts load on a contender from a process of its own: wrk where present, else `bench.client`.

Closed loop: each of `connections` sends its next request when the last is answered. Open loop: requests arrive at
random (Poisson) `rate` times a second whatever the answers do; only `bench.client` does that.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from bench.figures import Sample
from bench.servers import ROOT, Contender

GRACE_S = 60.0
LUA = """
wrk.method = "POST"
local file = io.open(os.getenv("BENCH_BODY"), "rb")
wrk.body = file:read("*a")
file:close()
for line in os.getenv("BENCH_HEADERS"):gmatch("[^\\n]+") do
  local name, value = line:match("^(.-): (.*)$")
  wrk.headers[name] = value
end
function done(summary, latency, requests)
  local e = summary.errors
  io.stderr:write(string.format(
    '{"requests":%d,"errors":%d,"seconds":%.6f,"p50_s":%.9f,"p99_s":%.9f}\\n',
    summary.requests, e.connect + e.read + e.write + e.status + e.timeout, summary.duration / 1e6,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
"""


class Load(msgspec.Struct, frozen=True):
    """What is sent: one body, over and over."""

    body: bytes
    connections: int
    seconds: float
    rate: float = 0.0  # requests a second in open loop; 0: closed loop


def run(contender: Contender, load: Load, *, use_wrk: bool | None = None) -> Sample:
    """Run `load` against `contender` and return what came of it. Raises RuntimeError when the generator failed.

    The processor time is that of the contender's processes over the measured seconds alone.
    """
    wrk = shutil.which("wrk") if use_wrk is not False and not load.rate else None
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body"
        body.write_bytes(load.body)
        headers = (("Content-Type", "application/json"), *contender.headers)
        before = contender.cpu_s()
        answer = (
            _wrk(wrk, contender, load, body, headers)
            if wrk
            else own("bench.client", _plan(contender, load, body, headers), seconds=load.seconds)
        )
        cpu_s = contender.cpu_s() - before
    return msgspec.structs.replace(msgspec.convert(answer, Sample), cpu_s=cpu_s)


def warm_up(contender: Contender, load: Load, seconds: float) -> None:
    """Run `load` for `seconds` and forget it. Raises RuntimeError when an answer was not good: a bench of errors."""
    sample = run(contender, msgspec.structs.replace(load, seconds=seconds, rate=0.0))
    if sample.errors or not sample.requests:
        raise RuntimeError(f"{contender.name} answers {sample.errors} of {sample.requests} requests with errors")


def _wrk(
    wrk: str, contender: Contender, load: Load, body: Path, headers: tuple[tuple[str, str], ...]
) -> dict[str, Any]:
    script = body.with_name("load.lua")
    script.write_text(LUA)
    seconds = max(1, round(load.seconds))
    # One thread: more of them take the processors from the servers under test.
    command = [wrk, "-t1", f"-c{load.connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script)]
    return _finish(
        [*command, contender.url],
        seconds,
        {"BENCH_BODY": str(body), "BENCH_HEADERS": "\n".join(f"{name}: {value}" for name, value in headers)},
    )


def own(module: str, plan: dict[str, Any], *, seconds: float) -> dict[str, Any]:
    """Run one of our own generators in its process and return what it measured."""
    return _finish([sys.executable, "-m", module, json.dumps(plan)], seconds, {})


def _plan(contender: Contender, load: Load, body: Path, headers: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    return {
        "url": contender.url,
        "headers": headers,
        "body": str(body),
        "connections": load.connections,
        "seconds": load.seconds,
        "rate": load.rate,
    }


def _finish(command: list[str], seconds: float, env: dict[str, str]) -> dict[str, Any]:
    """Run a generator to its end; the last line on its standard error is what it measured."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **env},
        timeout=seconds + GRACE_S,
        check=False,
    )
    lines = done.stderr.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"{command[0]} failed ({done.returncode}): {done.stdout}{done.stderr}")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer
