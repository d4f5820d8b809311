"""Usage and prices on a terminal."""

from pathlib import Path

import click

from stoker.cli import prices, usage
from stoker.cli.exits import Exit
from stoker.core.usage import Report, Row
from stoker.types.prices import DefaultPrice, Price
from tests.cli.conftest import Run

ROWS = (
    Row(by={"endpoint": "smol", "tag:team": ""}, requests=1200, failed=3, input_tokens=34_000, cached_tokens=100,
        output_tokens=9000, compute_us=2_300_000, price_nano_usd=15_000_000, price_usd="0.015"),
    Row(by={"endpoint": "digits", "tag:team": "a"}, requests=1, rows=5),
)  # fmt: skip
REPORT = Report(0, 1, ROWS, Row(requests=1201, price_nano_usd=15_000_000, price_usd="0.015"))
TABLE = """\
ENDPOINT  TAG:TEAM  REQUESTS  FAILED  IN      CACHED  OUT    ROWS  COMPUTE  COST
smol      -         1,200     3       34,000  100     9,000  -     2.3 s    $0.015
digits    a         1         -       -       -       -      5     -        -
all                 1,201     -       -       -       -      -     -        $0.015
"""


def test_a_line_each_and_one_for_all() -> None:
    shown = click.unstyle(usage.table(REPORT, "endpoint, tag:team"))
    assert [line.rstrip() for line in shown.splitlines()] == TABLE.splitlines()


def test_csv_has_every_number_exactly() -> None:
    header, first, _ = usage.as_csv(REPORT, "endpoint").splitlines()
    values = dict(zip(header.split(","), first.split(","), strict=True))
    assert (values["endpoint"], values["price_nano_usd"], values["price_usd"]) == ("smol", "15000000", "0.015")


def test_default_prices_say_whose_they_are() -> None:
    shown = prices.table((DefaultPrice(Price(input="0.15", output=1), engine="openai"),))
    assert shown.splitlines()[1].split() == ["any", "openai", "any", "always", "0.15", "-", "1", "0", "0"]


def test_nothing_used_and_no_prices_are_told(run: Run) -> None:
    assert "nothing was used" in run("usage", "--from", "1d").stdout
    assert "no default prices" in run("prices").stdout


def test_a_time_that_ends_before_it_begins_is_refused(run: Run) -> None:
    for command in ("usage", "costs"):
        done = run(command, "--from", "2026-12", "--to", "2026-11")
        assert (done.returncode, "--to is not after --from" in done.stderr) == (Exit.USAGE, True)


def test_a_project_that_is_none_is_told_from_one_that_used_nothing(run: Run, tmp_path: Path) -> None:
    for command in (["usage"], ["usage", "export"], ["costs"], ["costs", "--focus", str(tmp_path / "rows.csv")]):
        done = run(*command, "-p", "defualt")
        assert (done.returncode, "there is no project 'defualt'" in done.stderr) == (Exit.NOT_FOUND, True), done
        assert run(*command, "-p", "default").returncode == 0


def test_prices_of_machines_are_set_from_a_file_and_the_export_is_written_whole_or_not_at_all(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "pools.yaml").write_text("pools: [{prices: [{node_hour: 0.4}]}]")
    assert "$0.4" in run("costs", "prices", "--set", str(tmp_path / "pools.yaml")).stdout
    assert run("costs", "--since", "1h").returncode == 0
    assert (
        "0 lines in" in run("costs", "--since", "2020-01", "--to", "2020-02", "--focus", str(tmp_path / "f.csv")).stdout
    )
    assert (tmp_path / "f.csv").read_text().startswith("BilledCost,")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["f.csv", "pools.yaml"]
