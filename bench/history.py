"""The history of metrics at its full length: how large the file is, how long questions and a minute's write take.

Fills a database as a platform would in 400 days: 20 endpoints, each with a counter of requests, one of errors and a
histogram of latencies; the last 7 days by the minute, 35 by five minutes, 400 by the hour, in the order of time.
"""

import asyncio
import random
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median

from bench import around
from bench.figures import Figure
from bench.report import Section
from bench.rounds import say
from stoker.observe.history import tables
from stoker.observe.history.accounts import Answer
from stoker.observe.history.history import History
from stoker.observe.history.levels import LEVELS, Level
from stoker.observe.history.points import Point, encode
from stoker.observe.port import TICK_S, Selector, Series, like, select
from stoker.telemetry.histogram import Histogram
from stoker.telemetry.metrics import Registry

ENDPOINTS = 20
WINDOWS_S = [300.0, 1800.0, 3600.0, 7200.0, 21_600.0, 86_400.0, 3 * 86_400.0, 30 * 86_400.0]
END_S = 1_900_000_000 // 86_400 * 86_400
MONTH_S = 30 * 86_400
BYTES_MAX = 2 << 30
KINDS = 50  # different histograms of a minute, dealt out at random


def measure(folder: Path, *, rounds: int) -> Section:
    """Return the figures of a full database and of a ring that is full."""
    folder.mkdir(parents=True)
    path = folder / "metrics.db"
    began_s = time.perf_counter()
    rows = fill(path)
    say(f"{rows:,} rows in {time.perf_counter() - began_s:.0f} s")
    size = path.stat().st_size
    return Section(
        "History of metrics: 60 series, 400 days",
        [
            Figure("file with everything that is kept", size / 1e6, "MB", 400, "at most", f"{rows:,} rows"),
            *asyncio.run(_questions(path, rounds)),
            *asyncio.run(_memory(folder / "ring.db")),
            *asyncio.run(around.figures(folder)),
        ],
    )


def names() -> list[Series]:
    """Return the series: of each endpoint its requests, its errors and its latencies."""
    found = []
    for number in range(ENDPOINTS):
        labels = {"project": "default", "endpoint": f"e{number}", "revision": f"default.e{number}-1", "method": "infer"}
        found += [
            Series("stoker_requests_total", "counter", tuple(sorted({**labels, "code": code}.items())))
            for code in ("200", "503")
        ]
        found.append(Series("stoker_request_duration_seconds", "histogram", tuple(sorted(labels.items()))))
    return found


def fill(path: Path) -> int:
    """Write 400 days into a new database; return how many rows there are."""
    connection, _ = tables.open_for_writing(path, BYTES_MAX)
    series = names()
    chance = random.Random(1)
    with tables.transaction(connection):
        connection.executemany(
            "INSERT INTO series (id, metric, kind, labels, newest) VALUES (?, ?, ?, ?, ?)",
            [(at, one.metric, one.kind, tables.labels_text(one), END_S) for at, one in enumerate(series, 1)],
        )
    count = 0
    for level in LEVELS:
        since_s = END_S - level.kept_s
        latencies = [encode(latency(chance, level)) for _ in range(KINDS)]
        insert = f"INSERT INTO {level.name} VALUES (?, ?, ?, ?)"
        # A day a transaction: what a platform writes a minute at a time ends on the same pages.
        for day_s in range(since_s, END_S, 86_400):
            with tables.transaction(connection):
                cells = _cells(series, level, range(day_s, day_s + 86_400, level.step_s), latencies, chance)
                count += connection.executemany(insert, cells).rowcount
        tables.write_level(connection, level._replace(since_s=since_s, until_s=END_S))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return count


def latency(chance: random.Random, level: Level) -> Point:
    """Return the latencies of a cell with 10 requests a second: log-normal around 80 ms, with a tail."""
    histogram = Histogram()
    for _ in range(600):
        histogram.observe(chance.lognormvariate(-2.5, 0.6) * (8 if chance.random() < 0.02 else 1))
    seen = histogram.read()
    times = level.step_s // 60
    return type(seen)({index: held * times for index, held in seen.buckets.items()}, seen.sum * times)


def _cells(
    series: list[Series], level: Level, times: range, latencies: list[tuple[float, bytes | None]], chance: random.Random
) -> Iterator[tuple[int, int, float, bytes | None]]:
    for at_s in times:
        for number, one in enumerate(series, 1):
            if one.kind == "histogram":
                yield number, at_s, *chance.choice(latencies)
            else:
                yield number, at_s, float(chance.randrange(600) * (level.step_s // 60)), None


async def _questions(path: Path, rounds: int) -> list[Figure]:
    clock_s = float(END_S)
    history = History(path, bytes_max=BYTES_MAX, clock=lambda: clock_s)
    await history.start()
    labels = [{"project": "default", "endpoint": f"e{number}"} for number in range(ENDPOINTS)]
    of_all = [select("stoker_requests_total", **each) for each in labels]
    failed = [select("stoker_requests_total", **each, code=like("5..")) for each in labels]
    fast = [select("stoker_request_duration_seconds", at_most=0.3, **each) for each in labels]
    answered = [select("stoker_request_duration_seconds", **each) for each in labels]
    burn_s = await _timed(rounds, lambda: history.sums([*of_all, *failed, *fast, *answered], WINDOWS_S))
    one_s = await _timed(rounds, lambda: history.sums([fast[0], answered[0]], WINDOWS_S))
    quick_s = await _timed(rounds, lambda: history.sums([*of_all, *failed], [300.0, 3600.0]))
    text = 'quantile by (endpoint) (0.99, stoker_request_duration_seconds{endpoint="e3"}[5m])'
    day_s = await _timed(rounds, lambda: history.query(text, since_s=86_400, step_s=300))
    month = "ratio(increase by (endpoint) (stoker_requests_total{code=~'5..'}[1h]), increase by (endpoint) (stoker_requests_total[1h]))"  # noqa: E501
    month_s = await _timed(rounds, lambda: history.query(month, since_s=MONTH_S, step_s=3600))
    counting = Registry("gateway-0")
    flush_s, tick_s = [], []
    for minute in range(rounds * 3):
        _work(counting, ENDPOINTS)
        for part in (20, 40, 60):
            clock_s = END_S + 60 * minute + part
            answer = Answer("gateway-0", "boot", counting.snapshot())
            began_s = time.perf_counter()
            await history.observe([answer])
            (flush_s if part == 60 else tick_s).append(time.perf_counter() - began_s)
    await history.close()
    return [
        Figure("burn rates of 60 series: 8 windows up to 30 days", burn_s * 1e3, "ms", 500, "at most"),
        Figure("one latency SLO in 8 windows", one_s * 1e3, "ms"),
        Figure("20 availabilities in 5 min and 1 h", quick_s * 1e3, "ms", note="just after a restart"),
        Figure("chart of a p99 over a day by 5 minutes", day_s * 1e3, "ms"),
        Figure("chart of 20 error ratios over 30 days by the hour", month_s * 1e3, "ms"),
        Figure("one sample taken in", median(tick_s) * 1e3, "ms", note="60 series, beside the event loop"),
        Figure("a minute written: 60 rows, roll-up, accounts", median(flush_s) * 1e3, "ms"),
    ]


async def _memory(path: Path) -> list[Figure]:
    """Return what 70 minutes of 60 busy series take, and how fast alarms are answered from them."""
    clock_s = float(END_S)
    history = History(path, clock=lambda: clock_s)
    await history.start()
    counting = Registry("gateway-0")
    tracemalloc.start()
    for _ in range(70 * 60 // TICK_S):
        clock_s += TICK_S
        _work(counting, ENDPOINTS)
        await history.observe([Answer("gateway-0", "boot", counting.snapshot())])
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    wanted: list[Selector] = []
    for number in range(ENDPOINTS):
        where = {"project": "default", "endpoint": f"e{number}"}
        wanted.append(select("stoker_requests_total", **where))
        wanted.append(select("stoker_requests_total", **where, code=like("5..")))
    quick_s = await _timed(9, lambda: history.sums(wanted, [300.0, 3600.0]))
    await history.close()
    return [
        Figure("memory of the ring with 60 busy series, 70 minutes", grown / 1e6, "MB"),
        Figure("20 SLOs in 5 min and 1 h from the ring", quick_s * 1e3, "ms"),
    ]


def _work(counting: Registry, endpoints: int) -> None:
    for number in range(endpoints):
        labels = {"project": "default", "endpoint": f"e{number}", "revision": f"default.e{number}-1", "method": "infer"}
        for code in ("200", "503"):
            counting.counter("stoker_requests_total", **labels, code=code).add(random.randrange(1, 50))
        histogram = counting.histogram("stoker_request_duration_seconds", **labels)
        for _ in range(30):
            histogram.observe(random.lognormvariate(-2.5, 0.6))


async def _timed(rounds: int, question: Callable[[], Awaitable[object]]) -> float:
    """Return the median of the seconds that the question takes; the first, on a cold cache, is one of them."""
    taken = []
    for _ in range(rounds):
        began_s = time.perf_counter()
        await question()
        taken.append(time.perf_counter() - began_s)
    return median(taken)
