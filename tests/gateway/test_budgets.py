"""Budgets at a real gateway with a real control: refused, served for less, only told of, and while control is dead."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from stoker.client import budgets
from stoker.client.connection import Connection
from stoker.client.control import ControlClient
from stoker.protocol import openai
from stoker.types.errors import BudgetExceeded, StokerError
from tests.gateway.rig import Answer, Rig, ask, rig, run, until
from tests.ports import free_ports

CENT = 10_000_000  # nano-dollars
BUDGETS = {  # by the tag whose they are: amount in dollars, what is done at the limit
    "refused": ("0.05", "refuse"),
    "cheaper": ("0.05", "fallback"),
    "watched": ("0.05", "warn"),
    "kept": ("0.05", "refuse"),
    "alone": ("1", "refuse"),
    "first": ("1", "refuse"),  # which shows that the gateway has heard from control
}
QUOTAS = {  # likewise, in requests or tokens
    "calls": ("3", "refuse", "requests"),
    "words": ("36000", "refuse", "tokens"),
    "soft": ("2", "warn", "requests"),
}


def routes(gate: Rig) -> dict[str, Any]:
    """Return a table of endpoints at a cent, a cheaper one, a dear one and one that keeps answers, with budgets."""

    def priced(name: str, cents: int, **more: Any) -> dict[str, Any]:
        of = next(each for each in table["endpoints"] if each["endpoint"] == "digits")
        return {**of, "endpoint": name, "prices": [{"card": {"requests": 1000 * cents * CENT}}], **more}

    table = gate.table(["r1"])
    table["endpoints"] += [
        priced("cent", 1),
        priced("dear", 10, fallback=["cent"]),
        priced("keeps", 1, cache={"ttl_s": 60.0, "max_bytes": 1 << 20, "shared": True}),
    ]
    table["budgets"] = [
        {"budget": number, "name": tag, "project": "default", "scope": "tag", "of": f"t={tag}",
         "amount": round(float(amount) * 100) * CENT, "on_limit": on_limit}
        for number, (tag, (amount, on_limit)) in enumerate(BUDGETS.items(), 1)
    ] + [
        {"budget": number, "name": tag, "project": "default", "scope": "tag", "of": f"t={tag}",
         "amount": int(amount), "on_limit": on_limit, "unit": unit}
        for number, (tag, (amount, on_limit, unit)) in enumerate(QUOTAS.items(), len(BUDGETS) + 1)
    ]  # fmt: skip
    return {**table, "version": 1000}  # newer than what control makes of its empty platform


def manifests() -> bytes:
    """Return the same budgets for control, in an order that gives them the same numbers."""
    made = [
        {
            "apiVersion": "stoker/v1",
            "kind": "Budget",
            "metadata": {"name": tag},
            "spec": {
                "amount": amount,
                "scope": "tag",
                "tag": f"t={tag}",
                "period": "day",
                "on_limit": on_limit,
                "unit": unit,
            },
        }
        for tag, (amount, on_limit, unit) in [
            *((tag, (*held, "usd")) for tag, held in BUDGETS.items()),
            *QUOTAS.items(),
        ]
    ]
    return "\n---\n".join(map(json.dumps, made)).encode()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(tmp_path_factory.mktemp("budgets")) as made:
        made.kill("gateway-0")
        (made.home.gateway / "routes.json").write_text(json.dumps(routes(made)))
        start_control(made)
        control(made).apply(manifests())
        made.start_gateway()
        until(lambda: asyncio.run(infer(made, "cent", "first")).status == 200, "the gateway has leases")
        yield made


def start_control(gate: Rig, gateways: int = 1) -> None:
    (port,) = free_ports(1)
    argv = [sys.executable, "-m", "stoker.app.control_main", "--home", str(gate.home.root), "--api-port", str(port)]
    argv += ["--gateways", str(gateways)]
    with (gate.home.logs / "control.log").open("ab") as log:
        gate.processes["control"] = subprocess.Popen(argv, stderr=log)
    until(lambda: is_up(gate), "control answers")


def control(gate: Rig) -> ControlClient:
    key = json.loads(gate.home.credentials.read_text())["key"]
    return ControlClient(Connection(f"unix:{gate.home.run / 'control-api.sock'}", key))


def is_up(gate: Rig) -> bool:
    with contextlib.suppress(StokerError, OSError):
        budgets.everything(control(gate))
        return True
    return False


def settled(gate: Rig, tag: str) -> int:
    return next(each.settled for each in budgets.everything(control(gate)) if each.name == tag)


async def infer(gate: Rig, endpoint: str, tag: str, text: str = "hello") -> Answer:
    """Ask in the name of a tag."""
    path = f"/v2/models/{endpoint}/infer"
    return await ask(gate, "POST", path, json.dumps({"inputs": [], "id": text}).encode(), x_stoker_tags=f"t={tag}")


def test_what_fits_is_served_and_what_does_not_is_refused_with_what_when_and_how_much(gate: Rig) -> None:
    async def work() -> None:
        began_s = time.time()
        answers = [await infer(gate, "cent", "refused") for _ in range(6)]
        assert [each.status for each in answers] == [200] * 5 + [429]
        assert answers[0].headers["x-stoker-budget"] == "refused;left=0.040000"
        refused = answers[-1]
        assert refused.headers["x-should-retry"] == "false"
        assert 0 < int(refused.headers["retry-after"]) <= 120
        assert "'refused' ($0.05) has no room" in refused.body.decode()
        assert "begins anew at 20" in refused.body.decode()
        told = refused.headers["x-stoker-budget"]
        assert told.startswith("refused;limit=0.05;left=0.000000;reset="), told
        ends_s = datetime.fromisoformat(refused.body.decode().split("begins anew at ")[1][:20]).timestamp()
        assert ends_s - time.time() - 1 <= int(told.rpartition("=")[2]) <= ends_s - began_s

    run(work)


def test_the_refusal_is_one_that_openais_libraries_know() -> None:
    error = json.loads(openai.error_body(BudgetExceeded("budget 'b' has no room")))["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "budget_exceeded")


def test_a_cheaper_endpoint_serves_at_its_own_price_where_the_budget_says_so(gate: Rig) -> None:
    async def work() -> None:
        answer = await infer(gate, "dear", "cheaper")
        assert (answer.status, answer.headers["x-stoker-served-by"]) == (200, "cent")
        assert answer.headers["x-stoker-cost"] == "0.01"
        assert answer.headers["x-stoker-budget"].startswith("cheaper;left="), answer.headers
        refused = await infer(gate, "dear", "refused")
        assert refused.status == 429
        assert refused.json["error"].startswith("budget 'refused'")

    run(work)


def test_a_budget_that_only_warns_refuses_nothing_and_counts_all(gate: Rig) -> None:
    async def work() -> None:
        assert [(await infer(gate, "cent", "watched")).status for _ in range(7)] == [200] * 7

    run(work)


def test_a_quota_of_requests_counts_answers_and_no_errors_and_says_when_it_begins_anew(gate: Rig) -> None:
    async def work() -> None:
        assert (await infer(gate, "digits", "calls", "refuse:engine_failed")).status == 500
        assert (await infer(gate, "digits", "calls", "refuse:invalid_input")).status == 400
        answers = [await infer(gate, "digits", "calls") for _ in range(4)]
        assert [each.status for each in answers] == [200] * 3 + [429]
        assert answers[0].headers["x-stoker-quota"].startswith("calls;unit=requests;limit=3;left=2;reset=")
        assert answers[2].headers["x-stoker-quota-warning"] == "calls;unit=requests;used=1.00"
        refused = answers[-1]
        assert "x-stoker-budget" not in refused.headers
        assert refused.headers["x-should-retry"] == "false"
        reset_s = int(refused.headers["x-stoker-quota"].rpartition("=")[2])
        assert 0 <= int(refused.headers["retry-after"]) - reset_s <= 1
        assert "quota 'calls' (3 requests) has no room for this request, which is one" in refused.body.decode()

    run(work)


def test_a_quota_of_tokens_reserves_the_most_and_counts_what_was_used(gate: Rig) -> None:
    async def work() -> None:
        body = json.dumps({"model": "smol", "messages": [{"role": "user", "content": "who: are you"}]}).encode()
        for _ in range(3):
            answer = await ask(gate, "POST", "/v1/chat/completions", body, x_stoker_tags="t=words")
            assert answer.status == 200, answer
        many = json.dumps(
            {"model": "smol", "max_tokens": 40_000, "messages": [{"role": "user", "content": "x"}]}
        ).encode()
        refused = await ask(gate, "POST", "/v1/chat/completions", many, x_stoker_tags="t=words")
        assert (refused.status, refused.json["error"]["type"]) == (429, "insufficient_quota")
        assert refused.json["error"]["code"] == "quota_exceeded"
        assert "a smaller max_tokens makes it fit sooner" in refused.json["error"]["message"]

    run(work)


def test_a_soft_quota_refuses_nothing(gate: Rig) -> None:
    async def work() -> None:
        assert [(await infer(gate, "digits", "soft")).status for _ in range(4)] == [200] * 4

    run(work)


def test_a_kept_answer_is_charged_for_what_it_costs_and_refused_when_that_is_gone(gate: Rig) -> None:
    async def work() -> None:
        answers = [await infer(gate, "keeps", "kept") for _ in range(6)]
        assert [each.status for each in answers] == [200] * 5 + [429]
        assert [each.headers.get("x-stoker-cache") for each in answers[:3]] == ["miss", "hit", "hit"]

    run(work)


def test_what_was_served_is_settled_each_in_its_own_unit_and_what_was_refused_is_not(gate: Rig) -> None:
    """Control hears of usage once a second: this is what the tests above have asked for."""
    wanted = {
        "refused": 5 * CENT,
        "cheaper": CENT,  # the price of who served
        "watched": 7 * CENT,
        "calls": 3,
        "words": 3 * (3 + 5),
        "soft": 4,
        "kept": 5 * CENT,
    }
    until(lambda: {tag: settled(gate, tag) for tag in wanted} == wanted, "all is settled")


def test_with_control_dead_leases_are_spent_to_their_end_and_then_nothing_is_overspent(gate: Rig) -> None:
    async def work() -> None:
        assert (await infer(gate, "cent", "alone")).status == 200
        until(lambda: leased(gate, "alone") >= 8 * CENT, "some is leased")
        gate.kill("control")
        statuses: list[int] = []
        while len(statuses) < 100 and statuses[-2:] != [503] * 2:  # who is refused has waited for control
            statuses.append((await infer(gate, "cent", "alone")).status)
        served = statuses.count(200)
        assert 7 <= served < 100
        assert statuses == [200] * served + [503] * 2

    run(work)
    start_control(gate)
    until(lambda: settled(gate, "alone") >= 8 * CENT, "what was spent meanwhile is settled")


def leased(gate: Rig, tag: str) -> int:
    return next(each.leased for each in budgets.everything(control(gate)) if each.name == tag)


def test_a_killed_gateways_lease_comes_back_when_its_journal_is_read(gate: Rig) -> None:
    async def work() -> None:
        answer = await infer(gate, "cent", "alone")
        assert answer.status == 200

    run(work)
    gate.kill("gateway-0")
    before = settled(gate, "alone")
    gate.start_gateway()
    until(lambda: leased(gate, "alone") == 0 and settled(gate, "alone") >= before, "it was given back")
