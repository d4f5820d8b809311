"""Costs on a terminal."""

import click

from stoker.cli import costs_page
from stoker.core.cost.report import EndpointCosts, Month, Report, Row
from stoker.types.costs import MachinePrice, PoolPrices, Reserved

ITEMS = (
    Row({"payer": "team", "kind": "requests"}, "15.5", 15_500_000_000, 36_000),
    Row({"payer": "", "kind": "unallocated"}, "0.0312", 31_200_000, 3_600),
)
REPORT = Report(
    0, 1, ITEMS, Row(usd="15.5312", nano_usd=15_531_200_000, machine_s=39_600),
    (EndpointCosts("default", "smol", "15.5", 31_000, 10, 0, "0.5", "1.25", None, 0.061, 0.52),),
    0.4, 0.55, Month("20", "60.4", "50", "70", "by 9 days"), "3.1 × the usual day: retries of key k1 at default/smol",
)  # fmt: skip
PAGE = """\
PAYER         KIND         COST    MACHINE TIME  SHARE
team          requests     $15.50  10.00 h       99.8%  ████████████████████
the platform  unallocated  $0.031  1.00 h        0.2%
all                        $15.53  11.00 h

ENDPOINT      COST    ANSWERS  PER 1K  PER 1M IN  PER 1M OUT  BUSY  IDLE
default/smol  $15.50  31,000   $0.50   $1.25      -           6.1%  52%

used     engines worked for 40% of the money; nobody used 55%
month    $20.00 so far, about $60.40 by its end ($50.00 to $70.00)
unusual  3.1 × the usual day: retries of key k1 at default/smol"""


def test_a_page_of_costs() -> None:
    shown = click.unstyle(costs_page.page(REPORT, ["payer", "kind"]))
    assert [line.rstrip() for line in shown.splitlines()] == PAGE.splitlines()


def test_csv_has_every_number_exactly() -> None:
    assert costs_page.as_csv(REPORT, ["payer", "kind"]).splitlines()[1:] == [
        "team,requests,15.5,36000",
        ",unallocated,0.0312,3600",
    ]


def test_amounts_are_shown_to_the_cent_and_small_ones_to_two_digits() -> None:
    wanted = {"1234.567": "$1,234.57", "0.25": "$0.25", "0.000123": "$0.00012", "0.000000001": "$0.000000001", "0": "-"}
    assert {text: costs_page.dollars(text) for text in wanted} == wanted


def test_prices_of_pools_say_who_pays() -> None:
    pool = PoolPrices((MachinePrice("2027-01-01", "0.4", reserved=Reserved(2, "0.25")),), "gpu", "proportional", "none")
    line = costs_page.prices_table((pool,)).splitlines()[1]
    assert line.split()[:2] == ["gpu", "2027-01-01"]
    assert line.endswith("2 at $0.25  its callers   the platform")
