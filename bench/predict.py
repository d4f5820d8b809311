"""`digits`, one row a request: the platform with every layer on against FastAPI + ONNX Runtime and a bare hello."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from bench import direct
from bench.figures import Figure, Sample, percentile, ratio_over_rounds, table
from bench.load import Load
from bench.report import Section
from bench.rounds import alternate, say
from bench.servers import Server
from bench.up import Platform

CONNECTIONS = (1, 16, 64, 256)
PATH = "/v2/models/digits/infer"
PLATFORM, WRITTEN, HELLO = "stoker", "FastAPI + ORT", "bare hello"
# One handwritten digit of the data set, as scikit-learn gives it: 8 × 8 pixels from 0 to 16.
# fmt: off
PIXELS = [
    0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0, 0, 3, 15, 2, 0, 11, 8, 0, 0, 4, 12, 0, 0, 8, 8, 0,
    0, 5, 8, 0, 0, 9, 8, 0, 0, 4, 11, 0, 1, 12, 7, 0, 0, 2, 14, 5, 10, 12, 0, 0, 0, 0, 6, 13, 10, 0, 0, 0,
]
# fmt: on

Samples = dict[str, list[Sample]]


def body_for(model: Path) -> bytes:
    """Return the request: one row for the only input of `model`."""
    return json.dumps(
        {
            "inputs": [
                {"name": input_name(model), "shape": [1, 64], "datatype": "FP32", "data": [float(p) for p in PIXELS]}
            ]
        }
    ).encode()


def input_name(model: Path) -> str:
    """Return the name of the model's input."""
    import onnxruntime  # noqa: PLC0415 - the bench of other things does without it

    name: str = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"]).get_inputs()[0].name
    return name


def measure(platform: Platform | None, model: Path, *, rounds: int, seconds: float) -> Section:
    """Return the tables and figures; without `platform` the baselines alone."""
    body = body_for(model)
    by_load: dict[int, Samples] = {}
    with (
        Server(WRITTEN, "bench.baselines.fastapi_onnx", str(model)) as written,
        Server(HELLO, "bench.baselines.hello") as hello,
    ):
        contenders = [written.contender(PATH), hello.contender("/")]
        if platform:
            platform.wait_for(PATH, body)
            contenders.insert(0, platform.contender(PATH))
        for connections in CONNECTIONS:
            by_load[connections] = alternate(contenders, Load(body, connections, seconds), rounds=rounds)
    figures = []
    if platform:
        figures = compare(by_load)
        figures.append(added_latency(platform, body, blocks=rounds * 2))
    return Section("digits, one row a request", figures, {f"c = {c}": table(s) for c, s in by_load.items()})


def compare(by_load: Mapping[int, Samples]) -> list[Figure]:
    """Return what the platform must hold against the written worker, over the same rounds."""
    figures = []
    for connections, samples in by_load.items():
        ours, theirs = samples[PLATFORM], samples[WRITTEN]
        ratio = ratio_over_rounds([one.rate for one in ours], [one.rate for one in theirs])
        hold = {1: 1.0, 64: 2.0}.get(connections)
        figures.append(
            Figure(f"req/s against {WRITTEN}, c = {connections}", ratio, "×", hold, "at least" if hold else "")
        )
        if connections == 64:
            tail = ratio_over_rounds([one.p99_s for one in ours], [one.p99_s for one in theirs])
            figures.append(Figure(f"p99 against {WRITTEN}, c = 64", tail, "×", 1.0, "at most"))
            cpu_us = median(one.cpu_us for one in ours)
            figures.append(Figure("CPU a request, all processes, c = 64", cpu_us, "µs", 110, "at most"))
    errors = sum(one.errors for samples in by_load.values() for one in samples[PLATFORM])
    return [*figures, Figure("errors in all rounds", errors, "", 0, "at most")]


def added_latency(platform: Platform, body: bytes, *, blocks: int) -> Figure:
    """Return what the gateway adds at p50 to a request at c = 1."""
    http = direct.Http(platform.url + PATH, platform.headers, body)
    replica = direct.Direct(platform.replica_address("digits"), body)
    try:
        through, beside = direct.in_turn(http, replica, blocks)
    finally:
        http.close()
        replica.close()
    over_http, over_frames = percentile(through, 0.5) * 1e6, percentile(beside, 0.5) * 1e6
    say(f"  c=1 p50: {over_http:.0f} µs over HTTP, {over_frames:.0f} µs over the replica's socket")
    note = f"{over_http:.0f} µs over HTTP, {over_frames:.0f} µs over the replica's socket"
    return Figure("latency added at c = 1, p50", over_http - over_frames, "µs", 150, "at most", note)
