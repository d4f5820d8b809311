"""What sampling costs a request: the branch where it is off, and a real gateway with it off, drawn at 1 % and at 100 %.

python -m bench.sampling [SECONDS]

The replica echoes at once, so that the ratios are the most that a real model would see. Prints the nanoseconds of the
layer's branch, then req/s, processor microseconds a request in gateway and replica together, p50 and p99 at c = 1 and
64 for an endpoint without samples and one with, in turns.
"""

import json
import sys
import tempfile
import time
import timeit
from pathlib import Path
from typing import Any, cast

from bench import load
from bench.load import Load
from bench.servers import Contender
from stoker.gateway.layers.sample import sample
from tests.gateway import rig as rigs
from tests.gateway.rig import KEY, Rig

BODY = json.dumps({"inputs": [0.5] * 64}).replace(":", " ").encode()
ROUNDS = 3
KINDS: dict[str, Any] = {"off": None, "1 %": {"per_hour": 100_000}, "all": {"rate": 1.0, "per_hour": 100_000}}


class _Off:
    """An exchange of an endpoint without samples, as far as the layer looks at it."""

    lane = type("Lane", (), {"sampled": None})()


def branch_ns() -> float:
    """Return what the layer adds to a request where nothing is kept."""
    exchange, inner = cast(Any, _Off()), cast(Any, lambda exchange: exchange)
    handle = sample(cast(Any, None), inner)
    runs, turns, clock = 20_000, 40, time.thread_time
    with_layer = min(timeit.repeat(lambda: handle(exchange), timer=clock, number=runs, repeat=turns))
    without = min(timeit.repeat(lambda: inner(exchange), timer=clock, number=runs, repeat=turns))
    return (with_layer - without) / runs * 1e9


def contenders(rig: Rig) -> dict[str, Contender]:
    """Give the rig an endpoint of each kind."""
    rig.kill("gateway-0")
    table = rig.table(["r0"])
    names = {kind: f"e{number}" for number, kind in enumerate(KINDS)}
    first = table["endpoints"][0]
    table["endpoints"] = [{**first, "endpoint": names[kind], "samples": rules} for kind, rules in KINDS.items()]
    (rig.home.gateway / "routes.json").write_text(json.dumps(table))
    rig.start_gateway()
    pids = tuple(rig.processes[name].pid for name in ("gateway-0", "r0"))
    url, headers = f"http://127.0.0.1:{rig.port}/v2/models/{{}}/infer", (("Authorization", f"Bearer {KEY}"),)
    return {kind: Contender(kind, url.format(name), pids, headers) for kind, name in names.items()}


def main() -> None:
    """Run all."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    print(f"off: {branch_ns():.0f} ns a request")
    with tempfile.TemporaryDirectory() as folder, rigs.rig(Path(folder), replicas=1) as rig:
        made = contenders(rig)
        for each in made.values():
            load.warm_up(each, Load(BODY, 16, 1.0), 1.0)
        print(f"{'c':>4} {'kind':>5} {'req/s':>8} {'CPU us':>7} {'p50 us':>7} {'p99 us':>8} {'rate':>6} {'CPU':>6}")
        for connections in (1, 64):
            for _ in range(ROUNDS):
                first = None
                for kind in KINDS:
                    taken = load.run(made[kind], Load(BODY, connections, seconds))
                    first = first or taken
                    figures = f"{taken.rate:8.0f} {taken.cpu_us:7.1f} {taken.p50_s * 1e6:7.0f}"
                    ratios = f"{taken.rate / first.rate:6.2f} {taken.cpu_us / first.cpu_us:6.2f}"
                    print(f"{connections:4} {kind:>5} {figures} {taken.p99_s * 1e6:8.0f} {ratios}")


if __name__ == "__main__":
    main()
