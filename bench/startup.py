"""How long until the platform answers, and what it takes when nobody asks."""

import time
from pathlib import Path
from statistics import median

from bench import machine, predict
from bench.figures import Figure
from bench.report import Section
from bench.rounds import say
from bench.servers import Server
from bench.up import Platform
from stoker.app.demo import DemoModel

MB = 1e6


def measure(folder: Path, model: DemoModel, *, rounds: int) -> Section:
    """Start and stop a platform in `folder`: once with nothing there, then `rounds` times with what that left."""
    body = predict.body_for(model.paths[0])
    first_s = 0.0
    again_s: list[float] = []
    figures: list[Figure] = []
    for number in range(rounds + 1):
        with Platform(folder) as platform:
            started = time.perf_counter()
            platform.up()
            if not number:
                platform.deploy(model)
            platform.wait_for(predict.PATH, body)
            taken_s = time.perf_counter() - started
            say(f"  start to first answer: {taken_s:.2f} s")
            if number:
                again_s.append(taken_s)
            else:
                first_s = taken_s
            if number == rounds:
                figures = memory(platform, model.paths[0])
    return Section(
        "Start and memory",
        [
            Figure("start to first answer of digits, warm install", median(again_s), "s", 3.0, "at most"),
            Figure("start to first answer of digits, empty state folder", first_s, "s"),
            *figures,
        ],
    )


def memory(platform: Platform, model: Path) -> list[Figure]:
    """Return the idle memory of the platform's own processes, and of a replica above the bare engine."""
    pids = platform.pids()
    own = {name: pid for name, pid in pids.items() if name in ("agent", "control") or name.startswith("gateway")}
    resident = {name: machine.rss_bytes(pid) / MB for name, pid in own.items()}
    shared = sum(machine.pss_bytes(pid) for pid in own.values()) / MB
    replica = next(pid for name, pid in pids.items() if name not in own and "digits" in name)
    with Server("bare engine", "bench.baselines.bare_engine", str(model)) as bare:
        bare_mb = machine.rss_bytes(bare.pid) / MB
    replica_mb = machine.rss_bytes(replica) / MB
    parts = ", ".join(f"{name} {size:.0f}" for name, size in sorted(resident.items()))
    return [
        Figure(
            "idle memory without replicas (RSS)",
            sum(resident.values()),
            "MB",
            300,
            "at most",
            f"{parts}; {shared:.0f} MB with shared pages counted once",
        ),
        Figure(
            "memory of a replica over its engine (RSS)",
            replica_mb - bare_mb,
            "MB",
            60,
            "at most",
            f"{replica_mb:.0f} MB, bare ONNX Runtime with the same model {bare_mb:.0f} MB",
        ),
    ]
