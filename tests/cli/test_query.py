"""`stoker query` against a real control, which counts its own calls."""

import csv
import io
import json
import time

from stoker.cli.exits import Exit
from stoker.cli.query import nice_step, spark
from stoker.client.control import ControlClient
from tests.cli.conftest import Run

CALLS = "increase by (method) (stoker_api_requests_total[10m])"


def counted(control: ControlClient) -> None:
    """Wait until a sample has been taken of what control counted."""
    until_s = time.monotonic() + 60
    while not control.query(CALLS).lines:
        assert time.monotonic() < until_s, "no sample within 60 s"
        time.sleep(0.1)


def test_a_query_is_a_table_now_and_a_chart_over_time(run: Run, control: ControlClient) -> None:
    control.projects()
    counted(control)
    now = run("query", CALLS)
    assert now.stdout.splitlines()[0].split() == ["METHOD", "VALUE"], now.stderr
    assert now.stdout.splitlines()[1].split()[0] == "GET"
    chart = run("query", CALLS, "--since", "10m", "--step", "5s")
    assert chart.stdout.splitlines()[0].split()[-4:] == ["LAST", "MIN", "MEAN", "MAX"]
    assert "█" in chart.stdout
    rows = list(csv.DictReader(io.StringIO(run("query", CALLS, "--since", "1m", "--step", "5s", "-o", "csv").stdout)))
    assert len(rows) == 13
    assert rows[-1].keys() == {"time", "method", "value"}
    long = run("query", CALLS, "--since", "30d", "--step", "1d", "-o", "csv")
    assert len(long.stdout.splitlines()) == 32, long.stderr
    found = json.loads(run("query", CALLS, "-o", "json").stdout)
    assert found["lines"][0]["labels"] == {"method": "GET"}
    assert found["lines"][0]["values"][0] > 0


def test_a_query_that_cannot_be_shows_where_and_ends_as_refused(run: Run) -> None:
    done = run("query", "rate(stoker_reqests_total[5m])")
    assert done.returncode == Exit.REFUSED
    assert "did you mean stoker_requests_total?" in done.stderr
    assert done.stderr.splitlines()[2].strip() == "^"
    assert done.stderr.splitlines()[2].index("^") == done.stderr.splitlines()[1].index("stoker_reqests_total")
    assert run("query", "1", "--step", "1m").returncode == Exit.USAGE
    assert run("query", "1", "--since", "soon").returncode == Exit.USAGE


def test_a_key_of_a_project_sees_its_own_series_alone(run: Run, control: ControlClient) -> None:
    counted(control)
    made = control.create_key("default", "reader", admin=False, expires_in_s=None)
    seen = run("query", CALLS, "-o", "json", STOKER_KEY=made.key)
    assert json.loads(seen.stdout)["lines"] == [], "control's calls are of no project"
    assert run("query", "1 + 1", STOKER_KEY=made.key).stdout.split() == ["VALUE", "2"]
    assert run("query", "1", STOKER_KEY="stk_nobody").returncode == Exit.NOT_ALLOWED


def test_a_spark_has_a_bar_for_each_moment_and_a_gap_where_nothing_is_known() -> None:
    assert spark([0.0, 4.0, None, 8.0]) == "▁▄ █"
    assert spark([None, None]) == "  "
    assert len(spark([1.0] * 1000)) <= 60
    assert nice_step(3600) == 60
    assert nice_step(30 * 86_400) == 86_400
