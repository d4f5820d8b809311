"""What serving cost, on a screen: who with bars, what each answer cost, and what the month will."""

import csv
import io
from collections.abc import Sequence
from typing import Final

import click

from stoker.cli.output import columns, fields
from stoker.core.cost.report import EndpointCosts, Report, Row
from stoker.types.costs import PoolPrices

BAR: Final = 20
NONE: Final = {"payer": "the platform"}
EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def page(found: Report, by: Sequence[str]) -> str:
    """Return all of it: the sums, what an answer costs at each endpoint, and what is to be known besides."""
    parts = [_sums(found, by)]
    if found.endpoints:
        parts.append(_endpoints(found.endpoints))
    parts.append(_outlook(found))
    return "\n\n".join(part for part in parts if part)


def as_csv(found: Report, by: Sequence[str]) -> str:
    """Return the sums, a line each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*by, "usd", "machine_s"))
    for row in found.items:
        writer.writerow((*(row.by[name] for name in by), row.usd, row.machine_s))
    return text.getvalue()


def prices_table(pools: Sequence[PoolPrices]) -> str:
    """Return a line for each price of each pool."""
    header = ("POOL", "SINCE", "NODE/H", "GPU/H", "REPLICA/H", "RESERVED", "IDLE PAID BY", "OVERHEAD PAID BY")
    rows = [
        (
            pool.pool,
            "always" if price.since == "1970-01-01" else price.since,
            f"${price.node_hour}",
            f"${price.gpu_hour}",
            f"${price.replica_hour}",
            f"{price.reserved.nodes} at ${price.reserved.node_hour}" if price.reserved is not None else "-",
            _WHO[pool.idle],
            _WHO[pool.overhead],
        )
        for pool in pools
        for price in pool.prices
    ]
    return columns(
        header, rows, empty="no pool has prices, so nothing costs anything; see `stoker costs prices --help`"
    )


_WHO: Final = {"none": "the platform", "owner": "the endpoint's project", "proportional": "its callers"}


def _sums(found: Report, by: Sequence[str]) -> str:
    most = max((row.nano_usd for row in found.items), default=0)
    longest = max((row.machine_s for row in found.items), default=0.0)
    rows = []
    for row in found.items:
        share = row.nano_usd / most if most else row.machine_s / longest if longest else 0.0
        rows.append(
            (*(row.by[name] or NONE.get(name, "-") for name in by), *_cells(row), _part(row, found.total), bar(share))
        )
    if len(rows) > 1:
        rows.append((*("all" if at == 0 else "" for at in range(len(by))), *_cells(found.total), "", ""))
    header = (*(name.upper() for name in by), "COST", "MACHINE TIME", "SHARE", "")
    return columns(header, rows, empty="nothing was served, and no machine was there, in this time")


def _endpoints(endpoints: Sequence[EndpointCosts]) -> str:
    header = ("ENDPOINT", "COST", "ANSWERS", "PER 1K", "PER 1M IN", "PER 1M OUT", "BUSY", "IDLE")
    rows = [
        (
            f"{each.project}/{each.endpoint}", dollars(each.usd), f"{each.requests:,}",
            dollars(each.usd_per_1k_requests), dollars(each.usd_per_1m_input_tokens),
            dollars(each.usd_per_1m_output_tokens), _percent(each.utilisation_ratio), _percent(each.idle_ratio),
        )
        for each in endpoints
    ]  # fmt: skip
    return columns(header, rows)


def _outlook(found: Report) -> str:
    pairs = []
    if found.utilisation_ratio is not None:
        of = "of the money" if found.total.nano_usd else "of the machine time"
        busy, idle = _percent(found.utilisation_ratio), _percent(found.idle_ratio)
        pairs.append(("used", f"engines worked for {busy} {of}; nobody used {idle}"))
    if found.month is not None:
        month = found.month
        span = f"{dollars(month.low_usd)} to {dollars(month.high_usd)}"
        pairs.append(
            ("month", f"{dollars(month.spent_usd)} so far, about {dollars(month.expected_usd)} by its end ({span})")
        )
    if found.unusual:
        pairs.append(("unusual", click.style(found.unusual, fg="yellow")))
    return fields(pairs)


def bar(share: float) -> str:
    """Return a bar as long as `share` of the longest one, by eighths of a cell."""
    cells, rest = divmod(round(min(max(share, 0.0), 1.0) * BAR * 8), 8)
    return click.style(("█" * cells + EIGHTHS[rest]).rstrip(), fg="cyan")


def dollars(text: str | None) -> str:
    """Return dollars to the cent, or to two digits where that is less; `-` for none."""
    amount = float(text or 0)
    if not amount:
        return "-"
    if abs(amount) < 1:
        return f"${amount:.{_decimals(amount)}f}"
    return f"${amount:,.2f}"


def _decimals(amount: float) -> int:
    """Return how many decimals show two digits of an amount below one."""
    found = 2
    while found < 9 and abs(amount) * 10 ** (found - 1) < 1:
        found += 1
    return found


def _cells(row: Row) -> tuple[str, str]:
    return dollars(row.usd), f"{row.machine_s / 3600:,.2f} h"


def _part(row: Row, total: Row) -> str:
    if total.nano_usd:
        return _percent(row.nano_usd / total.nano_usd)
    return _percent(row.machine_s / total.machine_s if total.machine_s else None)


def _percent(ratio: float | None) -> str:
    """Return a share, with a decimal near its ends: 99.8% is not all of it."""
    return "-" if ratio is None else f"{ratio:.1%}" if 0 < ratio < 0.1 or 0.9 < ratio < 1 else f"{ratio:.0%}"
