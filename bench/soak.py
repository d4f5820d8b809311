"""An hour at 70 % of capacity: does any process grow?

Arrivals are Poisson, in minutes: each opens its connections anew, so that opening and closing is soaked too. Memory
(RSS) and file descriptors of every process of the platform are read twice a second meanwhile. What counts is the trend
of the medians of blocks after a warm-up: by Mann and Kendall's test whether there is one, by Theil and Sen's estimate
how large it is. Blocks, because neighbouring readings resemble each other and would make a trend of nothing.
"""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

import msgspec
import psutil

from bench import predict
from bench.figures import Figure, percentile
from bench.load import Load, run, warm_up
from bench.report import Section
from bench.rounds import say
from bench.trend import is_trend, slope
from bench.up import Platform

SHARE = 0.7
CONNECTIONS = 64
READ_EVERY_S = 0.5
BLOCKS = 12  # after the warm-up; of 4 minutes in an hour's soak
WARM_SHARE = 0.2  # of the time: caches fill, allocators settle, log files reach their size
SURE = 0.01  # a trend is called one when chance makes it less often than this


class Reading(msgspec.Struct, frozen=True):
    """One process at one moment. `at_s` since the load began."""

    at_s: float
    rss_bytes: int
    descriptors: int


class Reader(threading.Thread):
    """Reads every process of `platform` until `stop`."""

    def __init__(self, pids: dict[str, int]) -> None:
        super().__init__(name="soak reader", daemon=True)
        self.readings: dict[str, list[Reading]] = {name: [] for name in pids}
        self.stop = threading.Event()
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._began_s = time.monotonic()

    def run(self) -> None:
        while not self.stop.wait(READ_EVERY_S):
            at_s = time.monotonic() - self._began_s
            for name, process in self._processes.items():
                with suppress(psutil.NoSuchProcess):  # told at the end: in its place is one with another number
                    self.readings[name].append(Reading(at_s, process.memory_info().rss, process.num_fds()))


def measure(platform: Platform, model: Path, *, seconds: float) -> Section:
    """Return what grew over `seconds` of load."""
    body = predict.body_for(model)
    platform.wait_for(predict.PATH, body)
    contender = platform.contender(predict.PATH)
    closed = Load(body, CONNECTIONS, min(10.0, seconds / 10))
    warm_up(contender, closed, closed.seconds / 2)
    rate = run(contender, closed, use_wrk=False).rate * SHARE  # by the generator that then soaks
    say(f"  {rate:,.0f} requests a second for {seconds / 60:.0f} minutes")
    pids = platform.pids()
    reader = Reader(pids)
    reader.start()
    sent = errors = 0
    slow: list[float] = []
    ends_s = time.monotonic() + seconds
    while (left_s := ends_s - time.monotonic()) > 1.0:
        sample = run(contender, Load(body, CONNECTIONS, min(60.0, left_s), rate))
        sent, errors = sent + sample.requests, errors + sample.errors
        slow.append(sample.p99_s)
        say(f"  {sent:,} requests, {errors} errors, p99 {sample.p99_s * 1e3:.1f} ms, load {os.getloadavg()[0]:.1f}")
    reader.stop.set()
    reader.join()
    same = platform.pids() == pids
    figures = [
        Figure("requests", sent),
        Figure("errors", errors, "", 0, "at most"),
        Figure("p99, median and worst minute", percentile(slow, 0.5) * 1e3, "ms", note=f"{max(slow) * 1e3:.1f} ms"),
        Figure("processes that were replaced", 0 if same else 1, "", 0, "at most"),
    ]
    rows = [["", "RSS first", "RSS last", "slope /h", "a trend?", "descriptors"]]
    for name, readings in sorted(reader.readings.items()):
        figures += _figures(name, readings, seconds, rows)
    return Section("soak", figures, {f"{seconds / 60:.0f} min at {SHARE:.0%}: medians of blocks after warm-up": rows})


def _figures(name: str, readings: list[Reading], seconds: float, rows: list[list[str]]) -> list[Figure]:
    from_s = seconds * WARM_SHARE
    length_s = (seconds - from_s) / BLOCKS
    blocks: list[list[Reading]] = [[] for _ in range(BLOCKS)]
    for reading in readings:
        at = int((reading.at_s - from_s) // length_s)
        if 0 <= at < BLOCKS:
            blocks[at].append(reading)
    rss = [median(each.rss_bytes for each in block) for block in blocks if block]
    descriptors = [median(each.descriptors for each in block) for block in blocks if block]
    per_hour = slope(rss) * 3600 / length_s
    grows = per_hour > 0 and is_trend(rss, SURE)
    open_grows = slope(descriptors) > 0 and is_trend(descriptors, SURE)
    spread = f"{min(descriptors):.0f}–{max(descriptors):.0f}"
    rows.append(
        [name, _mb(rss[0]), _mb(rss[-1]), _mb(per_hour), "grows" if grows else "none", spread],
    )
    note = f"{_mb(rss[0])} → {_mb(rss[-1])}"
    return [
        Figure(f"{name}: memory grows", int(grows), "", 0, "at most", note),
        Figure(f"{name}: descriptors grow", int(open_grows), "", 0, "at most", spread),
    ]


def _mb(count: float) -> str:
    return f"{count / 1e6:.2f} MB"
