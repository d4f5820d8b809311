"""`stoker quota`, `stoker get quotas` and `stoker usage export` as a person types them."""

import csv
import io
import json
import time
from pathlib import Path

import click
import msgspec

from stoker.cli import budgets, quotas
from stoker.client.control import ControlClient
from stoker.types.quotas import QuotaView
from tests.cli.conftest import Run
from tests.store.test_usage import record


def views() -> tuple[QuotaView, ...]:
    """Return quotas of each kind; one begins anew in two hours from now."""
    return (
        QuotaView("vision", "project", "", "storage", 3 << 30, 10 << 30, True, "within"),
        QuotaView("vision", "key", "k7", "daily", 950.0, 1000.0, False, "near", time.time() + 7300, "requests", "day"),
        QuotaView("", "platform", "", "requests_at_once", None, 64.0, True, "unknown"),
    )


def test_used_limit_and_reset_stand_in_a_line_each() -> None:
    lines = click.unstyle(quotas.table(views())).splitlines()[1:]
    assert [" ".join(line.split()) for line in lines] == [
        "vision project storage 3.0 GiB ███······· 30% 10.0 GiB refuse -",
        "vision key k7 daily 950 ██████████ 95% 1,000 requests a day warn in 2 h 1 min",
        "(platform) platform requests_at_once - 64 refuse -",
    ]


def test_money_is_shown_with_its_sign_before_it() -> None:
    wanted = {0: "$0.00", 1_500_000: "$0.0015", -702_000: "-$0.000702", -2_500_000_000: "-$2.50", 10**12: "$1,000.00"}
    assert {nano_usd: budgets.dollars(nano_usd) for nano_usd in wanted} == wanted


def test_a_quota_is_set_shown_and_taken_away(run: Run) -> None:
    assert run("projects", "create", "vision").returncode == 0
    done = run("quota", "set", "vision", "endpoints=10", "storage=50Gi", "requests_at_once=64")
    assert done.returncode == 0, done.stderr
    assert "project vision: endpoints 10, storage 50Gi, requests_at_once 64" in done.stdout
    assert "tokens_per_min 300000, " in run("quota", "set", "vision", "tokens_per_min=300000").stdout
    assert run("quota", "set", "vision", "tokens_per_min=none").returncode == 0
    assert "no quotas of project visoin" in run("quota", "-p", "visoin").stdout
    shown = run("get", "quotas", "-p", "vision").stdout
    assert [line.split()[2] for line in shown.splitlines()[1:]] == ["endpoints", "storage", "requests_at_once"]
    assert run("quota", "set", "vision", "storage=none").returncode == 0
    assert run("quota", "set", "--platform", "keys=900").returncode == 0
    everything = json.loads(run("quota", "-A", "-o", "json").stdout)["items"]
    shown = {(each["project"], each["name"]) for each in everything}
    assert shown >= {("", "keys"), ("vision", "endpoints")}
    assert ("vision", "storage") not in shown


def test_what_is_no_limit_is_said_with_what_there_is(run: Run) -> None:
    done = run("quota", "set", "vision", "colour=1")
    assert (done.returncode, "requests_at_once" in done.stderr) == (2, True)
    assert run("quota", "set", "--platform", "vision", "keys=1").returncode == 2
    assert "not as it must be: day or month or week" in run("quota", "set", "vision", "gpu_period=fortnight").stderr
    assert run("quota", "set", "vision", "storage=much").returncode not in (0, 2)


def test_usage_is_exported_one_request_a_line(run: Run, control: ControlClient, home: Path) -> None:
    now_s = int(time.time())
    records = [
        msgspec.structs.replace(record(2, now_s), request=f"r{at}", tags=(("team", "=cmd()"),)) for at in range(2500)
    ]
    for at in range(0, 2500, 500):
        body = msgspec.msgpack.encode(("gateway-0", "i1", at + 1, 0, records[at : at + 500]))
        control.connection.exchange("POST", "/internal/v1/usage", body=body)
    done = run("usage", "export", "--from", "1h")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["request"] for line in done.stdout.splitlines()] == [f"r{at}" for at in range(2500)]
    assert "2500 records" in done.stderr
    place = done.stderr.split("--after ")[1].strip()
    assert run("usage", "export", "--from", "1h", "--after", place).stdout == ""
    table = list(csv.DictReader(io.StringIO(run("usage", "export", "--from", "1h", "--format", "csv").stdout)))
    assert len(table) == 2500
    assert (table[0]["price_usd"], table[0]["tags"]) == ("0.0000001", "team==cmd()")
