"""`stoker budgets`: what may be spent, what was, and until when."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import click

from stoker.cli.output import columns, fields, items, show
from stoker.cli.session import Command, Session, output_option, project_option
from stoker.client import budgets
from stoker.types.budgets import ENDLESS_S, BudgetView
from stoker.types.errors import NotFound
from stoker.types.prices import NANO_PER_USD

_BAR: Final = 10
_SOON_S: Final = 2 * 86_400.0


@click.command(
    cls=Command,
    example="""
    stoker budgets
    stoker budgets team-search
    stoker apply -f budget.yaml
    """,
)
@click.argument("name", required=False)
@click.option("-A", "--all-projects", is_flag=True, help="Budgets of every project.")
@output_option
@project_option
@click.pass_obj
def command(session: Session, name: str | None, all_projects: bool, output: str, project: str) -> None:
    """Show what may be spent, what was, and until when; or all of one budget."""
    found = listed(session, name, None if all_projects else project)
    show(items(found), output, lambda: page(found[0]) if name else table(found))


def listed(session: Session, name: str | None, project: str | None) -> list[BudgetView]:
    """Return the budgets of that name, or all. Raises NotFound for a name that none has."""
    found = [each for each in budgets.everything(session.control(), project) if name in (None, each.name)]
    if name is not None and not found:
        raise NotFound(f"there is no budget {name!r}; `stoker budgets -A` lists all of them")
    return found


def table(found: Sequence[BudgetView]) -> str:
    """Return budgets, a line each."""
    header = ("BUDGET", "FOR", "AMOUNT", "SPENT", "", "LEASED", "LEFT", "ANEW", "AT THE LIMIT")
    rows = [
        (
            f"{each.project}/{each.name}",
            whose(each),
            said(each, each.amount) + ("" if each.spec.period == "total" else f" a {each.spec.period}"),
            said(each, each.settled),
            bar(each),
            said(each, each.leased),
            said(each, each.left),
            anew(each),
            each.spec.on_limit,
        )
        for each in found
    ]
    return columns(header, rows, empty="no budgets; apply a manifest of kind Budget")


def page(view: BudgetView) -> str:
    """Return everything about one budget."""
    spec = view.spec
    return fields(
        [
            ("budget", click.style(f"{view.project}/{view.name}", bold=True)),
            ("for", whose(view)),
            ("amount", f"{said(view, view.amount)}, {_period(view)}"),
            ("spent", f"{bar(view)} {said(view, view.settled)}"),
            ("leased", f"{said(view, view.leased)} to gateways, which may spend it without asking"),
            ("left", said(view, view.left)),
            ("anew", anew(view)),
            ("at the limit", spec.on_limit),
            ("told at", ", ".join(f"{each:.0%}" for each in spec.alerts) or "nothing"),
        ]
    )


def whose(view: BudgetView) -> str:
    """Return whose spending a budget holds."""
    of = {
        "project": f"project {view.project}",
        "key": f"key {view.spec.key}",
        "tag": f"tag {view.spec.tag}",
        "platform": "the platform",
    }
    return of[view.spec.scope]


def said(view: BudgetView, amount: int) -> str:
    """Return an amount of a budget in its unit: `$2.50`, `1,000 requests`."""
    return dollars(amount) if view.spec.unit == "usd" else f"{amount:,} {view.spec.unit}"


def bar(view: BudgetView) -> str:
    """Return what is spent, then what is leased: `████▒·····  41%`."""
    spent, leased = _share(view.settled, view), _share(view.settled + view.leased, view)
    full, held = round(spent * _BAR), round(leased * _BAR)
    colour = "red" if spent >= 1 else "yellow" if spent >= 0.8 else "green"
    ratio = view.settled / view.amount if view.amount else 1.0
    return f"{click.style('█' * full, fg=colour)}{'▒' * (held - full)}{'·' * (_BAR - held)} {ratio:4.0%}"


def anew(view: BudgetView) -> str:
    """Return when a budget begins anew: soon in hours, else as a date of UTC."""
    if view.ends_at_s >= ENDLESS_S:
        return "never"
    left_s = view.ends_at_s - time.time()
    if left_s < _SOON_S:
        hours, minutes = divmod(int(max(left_s, 0.0)) // 60, 60)
        return f"in {hours} h {minutes} min"
    return f"{datetime.fromtimestamp(view.ends_at_s, UTC):%Y-%m-%d %H:%M} UTC"


def dollars(nano_usd: int) -> str:
    """Return an amount for people: cents where there are dollars, more digits where there are none."""
    sign, usd = "-" if nano_usd < 0 else "", abs(nano_usd) / NANO_PER_USD
    if usd == 0 or usd >= 1:
        return f"{sign}${usd:,.2f}"
    whole, _, digits = f"{usd:.6f}".partition(".")
    return f"{sign}${whole}.{digits.rstrip('0').ljust(2, '0')}"


def _period(view: BudgetView) -> str:
    return "once" if view.spec.period == "total" else f"every {view.spec.period} of {view.spec.timezone}"


def _share(amount: int, view: BudgetView) -> float:
    return min(max(amount / view.amount if view.amount else 1.0, 0.0), 1.0)
