"""What it costs on a request's path that its key, limits and budgets are looked at and its usage is written down.

python -m bench.guard

The layers of a gateway in their order (auth, usage, quota, budget), around a request that has been answered already, in
this process: a key with limits of requests and tokens, an endpoint with a price, a budget of the project and one of the
key with leases from a ledger, a record in a real journal. What metering counts of the request comes on top. Prints the
processor time of a request, the best of many, and beside it the same without limits, and without budgets.
"""

import asyncio
import hashlib
import sys
import tempfile
import time
import timeit
from pathlib import Path
from typing import Any, cast

import msgspec

from bench.build import need_sources
from bench.telemetry import instruments, one_request
from stoker.core.wallet import Wallet
from stoker.gateway.budgets import Budgets
from stoker.gateway.directory import Directory
from stoker.gateway.exchange import Exchange, Handler
from stoker.gateway.layers.auth import auth
from stoker.gateway.layers.budget import budget, budget_of_kept
from stoker.gateway.layers.quota import quota
from stoker.gateway.layers.usage import usage
from stoker.gateway.quotas import Quotas
from stoker.gateway.usage.journal import Journal
from stoker.gateway.usage.tags import TagReader
from stoker.telemetry.metrics import Registry
from stoker.types.budgets import ENDLESS_S, Answer, BudgetRoute, Granted
from stoker.types.ids import EndpointName, KeyId, ProjectName
from stoker.types.keys import UNLIMITED, KeyLimits
from stoker.types.prices import Card, DatedCard
from stoker.types.replica import Timings, Usage
from stoker.types.routes import EndpointRoute, KeyRoute, RouteTable

KEY = "stk_bench000_" + "k" * 43
PROJECT, ENDPOINT, ID = ProjectName("default"), EndpointName("chat"), KeyId("bench")
LIMITS = KeyLimits(requests_per_s=1e9, tokens_per_min=1e12)
CARD = DatedCard(Card(input=150_000_000, output=600_000_000, requests=1_000_000))
SEGMENT_BYTES, REPEAT, NUMBER = 64 << 20, 30, 1000
HOLD_US = 20.0


def main() -> None:
    """Measure, and print the table; exit code 1 when the number is missed."""
    need_sources("what guarding costs")
    with tempfile.TemporaryDirectory() as folder:
        rows = {
            "key and usage record": asyncio.run(measured(Path(folder) / "key", UNLIMITED, 0)),
            "and two rates of the key": asyncio.run(measured(Path(folder) / "rates", LIMITS, 0)),
            "and two budgets": asyncio.run(measured(Path(folder) / "all", LIMITS, 2)),
        }
    counted = instruments()["all of one request"]
    for name, took_us in rows.items():
        print(f"{name:<28} {took_us:6.2f} us")
    whole = rows["and two budgets"] + counted
    print(f"{'and what metering counts':<28} {whole:6.2f} us, wanted at most {HOLD_US:g}")
    sys.exit(whole > HOLD_US)


async def measured(folder: Path, limits: KeyLimits, budgets: int) -> float:
    """Return the microseconds of a request with a key of such limits and so many budgets."""
    registry = Registry("bench")
    journal = Journal(folder, "gateway-0", registry, 64 * SEGMENT_BYTES, SEGMENT_BYTES)
    journal.tend()
    routes = tuple(
        BudgetRoute(number, f"b{number}", PROJECT, scope, of, 10**18)  # type: ignore[arg-type]
        for number, (scope, of) in enumerate([("project", PROJECT), ("key", ID)][:budgets], 1)
    )
    key = KeyRoute(hashlib.sha256(KEY.encode()).hexdigest(), ID, PROJECT, limits=limits)
    route = EndpointRoute(PROJECT, ENDPOINT, "chat", 0.0, (), prices=(CARD,) if budgets else ())
    table = RouteTable(1, (route,), (key,), routes)
    directory, quotas, wallet = Directory(registry, lambda *_: None), Quotas(1), Wallet(journal.incarnation)
    directory.apply(table)
    quotas.apply(table)
    wallet.follow(routes)
    question = wallet.question(time.time())
    granted = tuple(Granted(each.budget, 0, ENDLESS_S, 10**15, 10**17, 0) for each in routes)
    wallet.take(Answer(question.number, granted), time.time())
    call = stack(directory, quotas, Budgets(wallet, folder / "nobody"), journal)
    request = template(next(iter(directory)))
    timer = timeit.Timer(lambda: run(call, request()), timer=time.process_time)
    empty = timeit.Timer(request, timer=time.process_time)
    took_s = []
    for _ in range(REPEAT):
        took_s.append(timer.timeit(NUMBER) - empty.timeit(NUMBER))
        journal.settle(journal.last)
        journal.tend()
    assert journal.last == REPEAT * NUMBER
    journal.close(journal.last)
    await directory.close()
    return min(took_s) / NUMBER * 1e6


def stack(directory: Directory, quotas: Quotas, budgets: Budgets, journal: Journal) -> Handler:
    """Return the layers around a request that is answered when it comes to a replica."""

    async def answered(exchange: Exchange) -> None:
        exchange.status = 200
        exchange.record()

    call: Handler = budget(budgets, answered)
    call = budget_of_kept(budgets, call)
    call = quota(quotas, call)
    call = usage(journal, TagReader(), call)
    return auth(directory, call)


class Relayed:
    """What is left of a relay when its answer has ended. One class: one made anew each time would be measured too."""

    __slots__ = ("end",)


def template(lane: Any) -> Any:
    """Return what makes a request that has been answered, at the endpoint of `lane`."""
    began = one_request()
    headers = {b"authorization": f"Bearer {KEY}".encode()}
    end = msgspec.structs.replace(
        began.relay.end,  # type: ignore[union-attr]
        usage=Usage(input_tokens=200, output_tokens=50),
        timings=Timings(compute_s=2e-4),
    )

    def made() -> Exchange:
        exchange = Exchange(cast(Any, None), began.request, began.route, "chat", "")
        exchange.request.headers = headers
        exchange.id, exchange.revision, exchange.lane = "req-bench-1", "chat-1", lane
        exchange.relay, exchange.usage = cast(Any, Relayed()), end.usage
        exchange.relay.end = end  # type: ignore[union-attr]
        exchange.deadline_s = exchange.request.started_s + 60.0
        return exchange

    return made


def run(call: Handler, exchange: Exchange) -> None:
    """Run the layers to their end; nothing in them waits."""
    work = cast(Any, call(exchange))
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("a layer waits")


if __name__ == "__main__":
    main()
