"""What one gateway does for each chunk and each request that it passes on: calls, and processor time.

python -m bench.calls [calls | beside FOLDER [ROUNDS]] [--only replica,remote]

calls: of Python's functions and of built-in ones, counted exactly (bench.baselines.counted), the most frequent first.
beside: processor time of this tree's gateway and of the one of another tree's sources, in turn (of a chunk bench.pieces
tells more, because it has no kernel in it). `replica`: the answers come from a replica's socket; `remote`: from a
server of OpenAI's API that the gateway asks itself. Chunks are the difference of two runs of streams that take as long,
one with ten times as many.
"""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median

from bench import load, relay
from bench.load import Load
from bench.relay import Gateway
from bench.servers import ROOT, Server
from stoker.types.keys import KeyLimits

LIMITS = KeyLimits(requests_per_s=100_000, tokens_per_min=1_000_000_000)
WAYS = ("replica", "remote")
SLOTS = "1024"  # as in the room gateways: what gateways learn by themselves differs from one to the next
SHOWN_MIN = 0.05
CONNECTIONS = 8
# Streams, events of each, milliseconds between two. Both take as long.
FEW, MANY = (8, 10, 300), (8, 100, 30)
SECONDS = 3.0
TIMEOUT_S = 60.0


@contextlib.contextmanager
def engine(way: str, folder: Path) -> Iterator[str]:
    """Run what answers; yield the address of the replica that a gateway is told of."""
    socket = folder / "engine.sock"
    with contextlib.ExitStack() as stack:
        urls = []
        if way == "remote":
            upstream = stack.enter_context(Server("upstream", "bench.peers.upstream"))
            urls = [f"http://127.0.0.1:{upstream.port}/v1"]
        stack.enter_context(Server("fake engine", "bench.fake_engine", str(socket), SLOTS, *urls))
        yield f"unix:{socket}"


def chunks(gateway: Gateway, streams: int, events: int, every_ms: int) -> int:
    """Pass streams on; return how many events came. Raises RuntimeError when one failed."""
    outcome = relay.run(gateway, streams, relay.body(events, every_ms))
    bad = [stream["said"] for stream in outcome["streams"] if not stream["ok"]]
    if bad:
        raise RuntimeError(f"{len(bad)} of {streams} streams failed, the first: {bad[0]}")
    return sum(stream["events"] for stream in outcome["streams"])


def requests(gateway: Gateway, seconds: float, connections: int = CONNECTIONS) -> int:
    """Have small requests answered whole; return how many. Raises RuntimeError when one failed."""
    asked = relay.body(1, 1).replace(b'"stream": true, ', b"")
    sample = load.run(gateway.contender(), Load(asked, connections, seconds), use_wrk=False)
    if sample.errors:
        raise RuntimeError(f"{sample.errors} of {sample.requests} requests failed")
    return sample.requests


class Counted:
    """A gateway that counts its calls."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "counted"
        self.command = (sys.executable, "-m", "bench.baselines.counted", str(self._file))

    def read(self, gateway: Gateway) -> dict[str, int]:
        """Return what was called since the last reading."""
        self._file.unlink(missing_ok=True)
        os.kill(gateway.pid, signal.SIGUSR1)
        _wait_for(self._file.exists)
        lines = (line.split(" ", 1) for line in self._file.read_text().splitlines())
        return {name: int(number) for number, name in lines}


def counted(way: str) -> None:
    """Print what is called for a chunk and a request, without what the gateway does anyway in that time."""
    with tempfile.TemporaryDirectory() as name, engine(way, Path(name)) as address:
        folder = Path(name)
        made = Counted(folder)
        with Gateway(folder / "home", address, limits=LIMITS, command=made.command) as gateway:
            chunks(gateway, *FEW)
            requests(gateway, 1.0)
            made.read(gateway)
            few, found = chunks(gateway, *FEW), made.read(gateway)
            many, more = chunks(gateway, *MANY), made.read(gateway)
            _show(f"{way}: a chunk", more, found, many - few)
            time.sleep(SECONDS)
            idle = made.read(gateway)
            answered = requests(gateway, SECONDS)
            _show(f"{way}: a request", made.read(gateway), idle, answered)


def _show(what: str, found: Mapping[str, int], less: Mapping[str, int], count: int) -> None:
    """Print `found` without `less`, for each of `count`."""
    each = {name: (number - less.get(name, 0)) / count for name, number in found.items()}
    python = sum(number for name, number in each.items() if not name.startswith("[native]"))
    native = sum(each.values()) - python
    print(f"\n{what} ({count}): {python:,.1f} calls of Python's functions, {native:,.1f} of built-in ones")
    for name, number in sorted(each.items(), key=lambda pair: -pair[1]):
        if number >= SHOWN_MIN:
            print(f"{number:10,.2f}  {name}")


def beside(way: str, other: Path, rounds: int) -> None:
    """Print processor microseconds a chunk and a request, of this tree and of `other`, and the medians of ratios."""
    trees = {"this": ROOT, "other": other}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = stack.enter_context(engine(way, folder))
        gateways = {}
        for name, tree in trees.items():
            environ = {"PYTHONPATH": str(tree / "src")}
            gateways[name] = stack.enter_context(Gateway(folder / name, address, limits=LIMITS, environ=environ))
            chunks(gateways[name], 64, 50, 5)
            requests(gateways[name], 1.0, 64)
        taken: dict[str, dict[str, list[float]]] = {"chunk": {}, "request": {}}
        for number in range(rounds):
            for name in sorted(trees, reverse=number % 2 == 1):
                taken["chunk"].setdefault(name, []).append(_used(gateways[name], "chunk"))
                taken["request"].setdefault(name, []).append(_used(gateways[name], "request"))
        for what, by_tree in taken.items():
            ratio = median(this / that for this, that in zip(by_tree["this"], by_tree["other"], strict=True))
            cells = [f"{name} {median(by_tree[name]):6.2f} us" for name in trees]
            print(f"{way:8} a {what:8} {'   '.join(cells)}   x {ratio:.3f}")
            for name in trees:
                print(f"{'':8} {name:8} {' '.join(f'{value:.1f}' for value in by_tree[name])}")


def _used(gateway: Gateway, what: str) -> float:
    """Return the processor microseconds of one chunk or request over a round of them."""
    before_s = _cpu_s(gateway.pid)
    done = chunks(gateway, 64, 400, 5) if what == "chunk" else requests(gateway, 2.0, 64)
    return (_cpu_s(gateway.pid) - before_s) / done * 1e6


def _cpu_s(pid: int) -> float:
    """Return what all threads of a process have run, to the nanosecond (a clock tick is 5 % of a round)."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def _wait_for(claim: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + TIMEOUT_S
    while not claim():
        if time.monotonic() > ends_s:
            raise RuntimeError(f"the gateway did not tell in {TIMEOUT_S:g} s")
        time.sleep(0.02)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.calls", description=(__doc__ or "").partition("\n")[2])
    parser.add_argument("what", choices=("calls", "beside"), nargs="?", default="calls")
    parser.add_argument("folder", type=Path, nargs="?", help="another tree of sources, for beside")
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    parser.add_argument("--only", default=",".join(WAYS))
    chosen = parser.parse_args()
    for way in chosen.only.split(","):
        if chosen.what == "beside":
            beside(way, chosen.folder.resolve(), chosen.rounds)
        else:
            counted(way)


if __name__ == "__main__":
    main()
