"""Budgets under load and kills: nothing is spent over them, and each answer is charged once, whatever dies."""

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from stoker.client import budgets
from stoker.client.usage import usage
from stoker.core.usage import Report
from stoker.types.errors import StokerError
from stoker.types.prices import NANO_PER_USD, parse_dollars
from tests.whole.load import DIGIT
from tests.whole.rig import Platform, until

# One in the suite; `STOKER_BUDGET_HISTORIES=50` for the long run (make chaos).
HISTORIES = int(os.environ.get("STOKER_BUDGET_HISTORIES", "1"))
SEED = int(os.environ.get("STOKER_KILL_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
CLIENTS, GATEWAYS = 64, 3
LASTS_S = 6.0  # at least; until so much was seen, however slow the machine is
LOOKS_MIN, ANSWERED_MIN, SPENDS_S_MAX = 50, 10, 120.0
# A request costs one cent and its time, milliseconds; it may cost seven cents, for it may take a minute.
COST_MAX = NANO_PER_USD * 12 // 1000
PRICES = {"prices": [{"task": "predict", "price": {"requests": "10", "compute": "0.001"}}]}

pytestmark = pytest.mark.timeout(300 + 300 * HISTORIES)


@dataclass
class Seen:
    """What clients saw: whole answers and what they cost, refusals for the budget, others, and lost connections."""

    answered: int = 0
    cost: int = 0
    refused: int = 0
    others: Counter[str] = field(default_factory=Counter)
    broken: int = 0


class Witness(threading.Thread):
    """Reads the sum of settled and leased of a budget out of the database, again and again, whoever lives."""

    def __init__(self, platform: Platform, name: str) -> None:
        super().__init__(daemon=True)
        self._platform = platform
        self._name = name
        self.stop = threading.Event()
        self.looks = self.most = 0

    def run(self) -> None:
        while not self.stop.wait(0.01):
            ((number,),) = rows(self._platform, "select id from budgets where name = ?", self._name)
            ((found,),) = rows(
                self._platform,
                "select coalesce((select sum(settled) from budget_accounts where budget = ?1), 0)"
                " + coalesce((select sum(max(cap - charged, 0)) from budget_leases where budget = ?1), 0)",
                number,
            )
            self.most = max(self.most, found)
            self.looks += 1


def rows(platform: Platform, ask: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return what the database says, without control."""
    path = f"file:{platform.home / 'state.db'}?mode=ro"
    with contextlib.closing(sqlite3.connect(path, uri=True, timeout=60.0)) as database:
        return database.execute(ask, values).fetchall()


async def spend(platform: Platform, tag: str, seen: Seen, witness: Witness) -> None:
    """Ask from all clients for LASTS_S, each on a connection of its own."""
    began_s = time.monotonic()

    def is_over() -> bool:
        lasted_s = time.monotonic() - began_s
        is_seen = witness.looks > LOOKS_MIN and seen.answered > ANSWERED_MIN
        return lasted_s > (LASTS_S if is_seen else SPENDS_S_MAX)

    headers = {"authorization": f"Bearer {platform.key}", "x-stoker-tags": tag}
    url, body = f"{platform.url}/v2/models/digits/infer", json.dumps(DIGIT)

    async def client() -> None:
        while not is_over():
            async with aiohttp.ClientSession(headers=headers) as session:
                try:
                    while not is_over():
                        await one(session)
                except (aiohttp.ClientError, OSError):
                    seen.broken += 1
                    await asyncio.sleep(0.02)

    async def one(session: aiohttp.ClientSession) -> None:
        async with session.post(url, data=body) as answer:
            said: Any = await answer.json()
            if answer.status == 200:
                seen.answered += 1
                seen.cost += parse_dollars(answer.headers["x-stoker-cost"])
            elif answer.status == 429 and said.get("error", "").startswith("budget"):
                seen.refused += 1
            else:
                seen.others[f"{answer.status} {said.get('code')}"] += 1
        if answer.status != 200:
            await asyncio.sleep(0.1)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


def kills(platform: Platform, chance: random.Random, stop: threading.Event, first: str) -> None:
    """Kill a process now and then: `first`, then whoever it meets."""
    names = ["control", *(f"gateway-{at}" for at in range(GATEWAYS)), "agent"]
    for name in itertools.chain([first], (chance.choice(names) for _ in itertools.count())):
        if stop.wait(chance.uniform(0.5, 1.5)):
            return
        found = [process.pid for process in platform.processes() if process.name.startswith(name)]
        if found:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself: who started it was killed
                os.kill(min(found), signal.SIGKILL)


def report(platform: Platform, tag: str) -> tuple[int, int]:
    """Return how many requests with `tag` were settled, and what they cost; -1 where control does not answer."""
    try:
        found: Report = usage(platform.client.connection, by="tags")
    except StokerError:
        return -1, -1
    rows = [row for row in found.items if row.by["tags"] == tag and row.price_nano_usd]
    return sum(row.requests for row in rows), sum(row.price_nano_usd for row in rows)


def history(platform: Platform, chance: random.Random, number: int) -> Seen:
    """Spend a budget while processes are killed, and look at what is written down of it."""
    where, name, tag = f"seed {SEED}, history {number}", f"h{number}", f"h={number}"
    seen, witness, stop = Seen(), Witness(platform, name), threading.Event()
    killer = threading.Thread(target=kills, args=(platform, chance, stop, ("gateway-0", "control")[number % 2]))
    witness.start()
    killer.start()
    try:
        asyncio.run(spend(platform, tag, seen, witness))
    finally:
        stop.set()
        killer.join()

    def is_settled() -> bool:
        count, cost = report(platform, tag)
        return count >= seen.answered and cost >= seen.cost

    until(is_settled, lambda: f"{where}: {report(platform, tag)} settled of {seen}")
    until(lambda: leased_by_the_dead(platform) == 0, f"{where}: leases of dead gateways are given back")
    witness.stop.set()
    witness.join()
    (view,) = (each for each in budgets.everything(platform.client) if each.name == name)
    count, cost = report(platform, tag)
    assert witness.most <= view.amount, f"{where}: {witness.most} settled and leased of {view.amount}"
    assert view.settled == cost, f"{where}: the budget was charged {view.settled}, usage says {cost}"
    assert cost <= view.amount, f"{where}: overspent"
    # What a client did not get to the end may have been charged: its record is written before its answer ends.
    assert count <= seen.answered + seen.refused + sum(seen.others.values()) + seen.broken, f"{where}: {count}, {seen}"
    assert cost <= seen.cost + seen.broken * COST_MAX, f"{where}: {cost} charged, {seen}"
    assert seen.answered > ANSWERED_MIN, f"{where}: {seen}"
    assert witness.looks > LOOKS_MIN
    return seen


def budget(number: int, amount: int) -> dict[str, Any]:
    """Return the manifest of the budget that a history spends."""
    spec = {"amount": amount, "scope": "tag", "tag": f"h={number}", "period": "total"}
    return {"apiVersion": "stoker/v1", "kind": "Budget", "metadata": {"name": f"h{number}"}, "spec": spec}


def all_know(platform: Platform) -> bool:
    """Return whether as many gateways as there are have asked for leases."""
    ((count,),) = rows(platform, "select count(*) from budget_holders")
    return bool(count == GATEWAYS)


def leased_by_the_dead(platform: Platform) -> int:
    """Return what holders but the living ones may still charge."""
    living = [folder.name.partition(".")[2] for folder in (platform.home / "usage").iterdir() if folder.name[0] != "."]
    held = rows(platform, "select holder, cap - charged from budget_leases where cap > charged")
    folders = len(living)
    return sum(left for holder, left in held if holder not in living) + max(folders - GATEWAYS, 0)


def test_no_budget_is_overspent_and_no_charge_lost_or_doubled_whatever_is_killed(
    fresh: Callable[..., Platform], digits_model: str
) -> None:
    chance = random.Random(SEED)
    platform = fresh(gateways=GATEWAYS)
    platform.up()
    platform.cli("push", "digits", digits_model)
    platform.cli("deploy", "digits", "--model", "digits@1", "--cpu", "0.5", "--wait")
    prices = platform.home.parent / "prices.json"
    prices.write_text(json.dumps(PRICES))
    platform.cli("prices", "--set", str(prices))
    made = [budget(number, chance.choice((1, 3, 8))) for number in range(HISTORIES)]
    platform.client.apply("\n---\n".join(map(json.dumps, made)).encode())
    platform.follows(lambda table: len(table.budgets) == HISTORIES)
    until(lambda: all_know(platform), what="every gateway knows the budgets: what it serves before has none")
    for number in range(HISTORIES):
        seen = history(platform, chance, number)
        print(f"history {number}: {seen}")
    platform.down()
