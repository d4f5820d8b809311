"""What the compiled gateway takes of a request, beside the sources: two platforms before the same server, in turn.

python -m bench.compiled [ROUNDS]

After `make compiled`, which makes the one that is compared. Prints the processor time of the two gateways a request,
the kernel's part included, and the medians of the ratios round by round: of processor time, and of requests a second.
"""

import contextlib
import sys
from pathlib import Path
from statistics import median

from bench.load import Load, warm_up
from bench.load import run as load_run
from bench.peers.gateways import CONNECTIONS, body, serving
from bench.servers import Contender, Server
from bench.up import STOKER

COMPILED = Path(sys.prefix) / "compiled" / "bin" / "stoker"
SECONDS = 3.0


def main() -> None:
    """Measure, and print a line a round."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    if not COMPILED.exists():
        sys.exit(f"error: there is no {COMPILED}; make compiled")
    with Server("upstream", "bench.peers.upstream") as upstream, contextlib.ExitStack() as stack:
        contenders = []
        for command in (STOKER, COMPILED):
            platform, theirs = stack.enter_context(serving(upstream.port, command))
            one = theirs()
            contenders.append(Contender(one.name, one.url, tuple(platform.pids("gateway-").values()), one.headers))
            warm_up(contenders[-1], Load(body(), CONNECTIONS, 1.0), 2.0)
        print(f"{'':8} {'sources':>20} {'compiled':>20} {'ratios':>12}")
        ratios = []
        for number in range(rounds):
            in_turn = contenders if number % 2 == 0 else contenders[::-1]
            taken = {each: load_run(each, Load(body(), CONNECTIONS, SECONDS)) for each in in_turn}
            ours, compiled = (taken[each] for each in contenders)
            ratios.append((compiled.cpu_us / ours.cpu_us, compiled.rate / ours.rate))
            cells = [f"{sample.cpu_us:6.1f} us {sample.rate:7.0f}/s" for sample in (ours, compiled)]
            print(f"round {number + 1:2} {cells[0]:>20} {cells[1]:>20}  {ratios[-1][0]:.2f} {ratios[-1][1]:6.2f}")
        cpu, rate = (median(each) for each in zip(*ratios, strict=True))
        print(f"compiled / sources: {cpu:.2f} x the processor time, {rate:.2f} x the requests a second")


if __name__ == "__main__":
    main()
