"""What is wrong with a budget beyond the types of its fields, and the time zone and the amount that its words mean."""

from datetime import UTC, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from stoker.types.budgets import BudgetRoute, BudgetSpec
from stoker.types.prices import parse_dollars
from stoker.types.resources import Budget

COUNT_MAX: Final = 10**15  # of requests or tokens


def budget_problems(spec: BudgetSpec) -> list[tuple[str, str]]:
    """Return fields and what is wrong with them."""
    found = []
    if spec.unit != "usd" and spec.on_limit == "fallback":
        found.append(("spec.on_limit", f"another endpoint takes as many {spec.unit}; write refuse or warn"))
    for scope, value in (("key", spec.key), ("tag", spec.tag)):
        if (spec.scope == scope) != bool(value):
            said = f"say which {scope}" if spec.scope == scope else f"the scope is {spec.scope}, so it says nothing"
            found.append((f"spec.{scope}", said))
    if spec.scope == "tag" and spec.tag and not all(spec.tag.partition("=")):
        found.append(("spec.tag", f"{spec.tag!r} is no tag; write its name and value, such as team=search"))
    try:
        amount(spec)
    except ValueError as wrong:
        found.append(("spec.amount", str(wrong)))
    try:
        zone(spec.timezone)
    except ValueError:
        found.append(("spec.timezone", f"{spec.timezone!r} is no time zone; names are such as Europe/Berlin, or UTC"))
    return found


def amount(spec: BudgetSpec) -> int:
    """Return how much may be spent, in the budget's unit. Raises ValueError with what was expected."""
    if spec.unit == "usd":
        return parse_dollars(spec.amount)
    text = str(spec.amount).strip().replace("_", "")
    if not text.isdecimal() or not 0 <= int(text) <= COUNT_MAX:
        raise ValueError(f"{spec.amount!r} are no {spec.unit}; write a whole number up to {COUNT_MAX:.0e}")
    return int(text)


def zone(name: str) -> tzinfo:
    """Return the time zone `name`. Raises ValueError."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, LookupError, ValueError) as unknown:
        raise ValueError(f"no time zone {name!r}") from unknown


def route(number: int, budget: Budget) -> BudgetRoute:
    """Return what gateways know of a budget with the id `number`."""
    spec, project = budget.spec, str(budget.metadata.project)
    of = {"project": project, "key": spec.key, "tag": spec.tag, "platform": ""}[spec.scope]
    whose = "" if spec.scope == "platform" else project
    return BudgetRoute(number, budget.metadata.name, whose, spec.scope, of, amount(spec), spec.on_limit, spec.unit)
