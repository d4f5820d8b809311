"""What a kept answer and a shared call cost against a call of one's own: a real gateway before a replica that echoes.

python -m bench.cache [SECONDS]

The replica computes nothing, so the ratios are the least that a real model gives. Prints req/s, processor microseconds
a request in gateway and replica together, p50 and p99 at c = 1 and 64 for calls and hits, at c = 256 for calls and
shared calls, in turns; each ratio is of one round.
"""

import json
import sys
import tempfile
from pathlib import Path

from bench import load
from bench.load import Load
from bench.servers import Contender
from tests.gateway import rig as rigs
from tests.gateway.rig import KEY, Rig

# The fake replica takes its slow path for bodies with a colon or these words; this one it echoes at once.
BODY = json.dumps({"inputs": [0.5] * 64}).replace(":", " ").encode()
ROUNDS = 3
RULES = {"ttl_s": 3600.0, "max_bytes": 64 << 20, "shared": False}
KINDS = {"call": {}, "hit": {"cache": RULES}, "shared": {"coalesce": True}}


def contenders(rig: Rig) -> dict[str, Contender]:
    """Give the rig an endpoint of each kind."""
    rig.kill("gateway-0")
    table = rig.table(["r0"])
    table["endpoints"] = [{**table["endpoints"][0], "endpoint": name, **rules} for name, rules in KINDS.items()]
    (rig.home.gateway / "routes.json").write_text(json.dumps(table))
    rig.start_gateway()
    pids = tuple(rig.processes[name].pid for name in ("gateway-0", "r0"))
    url, headers = f"http://127.0.0.1:{rig.port}/v2/models/{{}}/infer", (("Authorization", f"Bearer {KEY}"),)
    return {name: Contender(name, url.format(name), pids, headers) for name in KINDS}


def main() -> None:
    """Run all."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    with tempfile.TemporaryDirectory() as folder, rigs.rig(Path(folder), replicas=1) as rig:
        made = contenders(rig)
        for each in made.values():
            load.warm_up(each, Load(BODY, 16, 1.0), 1.0)
        print(f"{'c':>4} {'kind':>7} {'req/s':>8} {'CPU us':>7} {'p50 us':>7} {'p99 us':>8} {'rate':>6} {'CPU':>6}")
        for connections, other in ((1, "hit"), (64, "hit"), (256, "shared")):
            for _ in range(ROUNDS):
                first = None
                for kind in ("call", other):
                    sample = load.run(made[kind], Load(BODY, connections, seconds))
                    first = first or sample
                    figures = f"{sample.rate:8.0f} {sample.cpu_us:7.1f} {sample.p50_s * 1e6:7.0f}"
                    ratios = f"{sample.rate / first.rate:6.2f} {sample.cpu_us / first.cpu_us:6.2f}"
                    print(f"{connections:4} {kind:>7} {figures} {sample.p99_s * 1e6:8.0f} {ratios}")


if __name__ == "__main__":
    main()
