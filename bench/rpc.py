"""What gRPC costs: the gateway over gRPC, the same request over HTTP, and bare gRPC servers that only echo.

python -m bench.rpc [SECONDS [ROUNDS]]

One tensor of 64 floats, raw. Prints req/s, processor microseconds a request of the serving process (of the gateway
alone, not the replica, which echoes), p50 and p99, each the median of the rounds, in turn.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import uvloop

from bench import load, machine
from bench.figures import Sample, percentile
from bench.load import Load
from bench.servers import Contender, Server
from stoker.protocol import oip_grpc
from tests.gateway import rig as rigs
from tests.gateway.rig import KEY, Rig

WARM_UP = 200
PATH = "/inference.GRPCInferenceService/ModelInfer"


def message() -> Any:
    made = oip_grpc.ModelInferRequest(model_name="digits", id="1", raw_input_contents=[b"\0" * 256])
    made.inputs.add(name="x", datatype="FP32", shape=[1, 64])
    return made


def over_grpc(port: int, pid: int, connections: int, seconds: float) -> Sample:
    """Return what a closed loop of `connections` callers on one channel got."""
    body = message().SerializeToString()
    metadata = (("authorization", f"Bearer {KEY}"),)

    async def run() -> Sample:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(PATH)
            for _ in range(WARM_UP):
                await call(body, metadata=metadata)
            took: list[float] = []
            before_s, began_s = machine.cpu_s((pid,)), time.perf_counter()

            async def ask() -> None:
                while time.perf_counter() - began_s < seconds:
                    started_s = time.perf_counter()
                    await call(body, metadata=metadata)
                    took.append(time.perf_counter() - started_s)

            await asyncio.gather(*(ask() for _ in range(connections)))
            took.sort()
            cpu_s = machine.cpu_s((pid,)) - before_s
            passed_s = time.perf_counter() - began_s
            return Sample(len(took), 0, passed_s, percentile(took, 0.5), percentile(took, 0.99), cpu_s)

    return uvloop.run(run())


def over_http(rig: Rig, connections: int, seconds: float) -> Sample:
    """Return what the same body got over HTTP."""
    body, header_bytes = oip_grpc.request_body(message())
    contender = Contender(
        "HTTP",
        f"http://127.0.0.1:{rig.port}/v2/models/digits/infer",
        (rig.processes["gateway-0"].pid,),
        (("Authorization", f"Bearer {KEY}"), ("Inference-Header-Content-Length", str(header_bytes))),
    )
    return load.run(contender, Load(body, connections, seconds))


def main() -> None:
    """Run all, in turn."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    echo = "bench.baselines.rpc_echo"
    with (
        tempfile.TemporaryDirectory() as folder,
        rigs.rig(Path(folder), replicas=1, grpc=True) as rig,
        Server("bare grpc.aio", echo, "aio") as aio,
        Server("bare threads", echo, "threads") as threads,
        Server("threads, crossing", echo, "crossing") as crossing,
    ):
        gateway = rig.processes["gateway-0"].pid
        runs: dict[str, Callable[[int], Sample]] = {
            "stoker, gRPC": lambda connections: over_grpc(rig.grpc_port, gateway, connections, seconds),
            "stoker, HTTP": lambda connections: over_http(rig, connections, seconds),
        }
        for server in (aio, threads, crossing):
            runs[server.name] = lambda connections, it=server: over_grpc(it.port, it.pid, connections, seconds)
        print(f"{'':20} {'c':>4} {'req/s':>8} {'CPU us':>7} {'p50 us':>8} {'p99 us':>8}")
        for connections in (1, 64):
            found: dict[str, list[Sample]] = {name: [] for name in runs}
            for _ in range(rounds):
                for name, run in runs.items():
                    found[name].append(run(connections))
            for name, samples in found.items():
                numbers = [
                    median(values)
                    for values in (
                        [one.rate for one in samples],
                        [one.cpu_us for one in samples],
                        [one.p50_s * 1e6 for one in samples],
                        [one.p99_s * 1e6 for one in samples],
                    )
                ]
                print(f"{name:20} {connections:4} " + " ".join(f"{number:8.0f}" for number in numbers))


if __name__ == "__main__":
    main()
