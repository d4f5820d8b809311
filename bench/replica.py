"""Drives a replica's own socket, without a gateway: req/s, CPU a request in the replica, and p50 at c = 1, 16, 64.

    python bench/replica.py            the digits classifier, one row a request, in a replica started for it
    python bench/replica.py SOCKET     a replica that runs already (predict, one input [-1, 64] of FP32 called X)

The client is this process: it shares the machine, so req/s is what both reach together; CPU is the replica's alone.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import msgspec
import numpy as np
import psutil
import uvloop
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stoker.protocol.frames import RequestHead
from stoker.protocol.link import Link, connect
from stoker.types.errors import ReplicaLost
from stoker.types.models import FileEntry, VersionManifest, sha256_digest
from stoker.types.replica import ReplicaSpec

ROUND_S = 3.0
WARM_UP_S = 1.0
CONCURRENCY = (1, 16, 64)


def digits(folder: Path) -> Path:
    """Train the demo classifier into `folder`; return the spec file of a replica that serves it."""
    rows, labels = load_digits(return_X_y=True)
    rows = rows.astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sixty rounds are enough for a benchmark
        model = make_pipeline(StandardScaler(), MLPClassifier((64,), max_iter=60, random_state=0)).fit(rows, labels)
    data = to_onnx(model, rows[:1], options={"zipmap": False}, target_opset=17).SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    spec = ReplicaSpec(
        replica="default.digits-1-bench",
        revision="default.digits-1",
        project="default",
        endpoint="digits",
        task="predict",
        model="digits@1",
        version="1",
        engine="onnx",
        model_dir=str(folder),
        manifest=VersionManifest(
            format="onnx", files=(FileEntry("model.onnx", sha256_digest(data), len(data)),), entry="model.onnx"
        ),
        address=f"unix:{folder / 'replica.sock'}",
    )
    path = folder / "spec.json"
    path.write_bytes(msgspec.json.encode(spec))
    return path


async def ready(address: str) -> Link:
    """Connect once the replica is ready."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            link = await connect(address)
        except ReplicaLost:
            await asyncio.sleep(0.02)
            continue
        if link.hello.state == "ready":
            return link
        link.close()
        await asyncio.sleep(0.02)
    raise SystemExit("the replica did not become ready in 30 s")


async def drive(link: Link, concurrency: int, seconds: float) -> list[float]:
    """Keep `concurrency` requests in flight for `seconds`; return their latencies."""
    body = json.dumps(
        {"inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP32", "data": [float(n % 17) for n in range(64)]}]}
    ).encode()
    head = RequestHead("infer", request="req_0123456789", body_bytes=len(body), timeout_s=5.0)
    until = time.perf_counter() + seconds
    latencies: list[float] = []

    async def one() -> None:
        while (start := time.perf_counter()) < until:
            await link.call(head, body).answer()
            latencies.append(time.perf_counter() - start)

    await asyncio.gather(*(one() for _ in range(concurrency)))
    return latencies


async def measure(address: str) -> None:
    link = await ready(address)
    process = psutil.Process(link.hello.pid)
    print(f"{'c':>4} {'req/s':>8} {'cpu µs/req':>11} {'p50 µs':>8} {'p99 µs':>8} {'rows/call':>10}")
    for concurrency in CONCURRENCY:
        await drive(link, concurrency, WARM_UP_S)
        before, start = process.cpu_times(), time.perf_counter()
        latencies = sorted(await drive(link, concurrency, ROUND_S))
        took, after = time.perf_counter() - start, process.cpu_times()
        cpu = after.user + after.system - before.user - before.system
        link.ping()
        await asyncio.sleep(0.05)
        print(
            f"{concurrency:>4} {len(latencies) / took:>8.0f} {cpu / len(latencies) * 1e6:>11.1f}"
            f" {latencies[len(latencies) // 2] * 1e6:>8.0f} {latencies[int(len(latencies) * 0.99)] * 1e6:>8.0f}"
            f" {link.stats.batch_rows_mean:>10.1f}"
        )
    link.close()


def main() -> None:
    if len(sys.argv) > 1:
        uvloop.run(measure(f"unix:{sys.argv[1]}"))
        return
    with tempfile.TemporaryDirectory() as folder:
        spec = digits(Path(folder))
        replica = subprocess.Popen([sys.executable, "-m", "stoker.app.replica_main", str(spec)], env=dict(os.environ))
        try:
            uvloop.run(measure(f"unix:{folder}/replica.sock"))
        finally:
            replica.terminate()
            replica.wait(10)


if __name__ == "__main__":
    main()
