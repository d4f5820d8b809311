"""What is wrong with a budget beyond the types of its fields, and the time zone and the amount that its words mean."""

from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

from stoker.types.budgets import BudgetRoute, BudgetSpec
from stoker.types.prices import parse_dollars
from stoker.types.resources import Budget


def budget_problems(spec: BudgetSpec) -> list[tuple[str, str]]:
    """Return fields and what is wrong with them."""
    found = []
    for scope, value in (("key", spec.key), ("tag", spec.tag)):
        if (spec.scope == scope) != bool(value):
            said = f"say which {scope}" if spec.scope == scope else f"the scope is {spec.scope}, so it says nothing"
            found.append((f"spec.{scope}", said))
    if spec.scope == "tag" and spec.tag and not all(spec.tag.partition("=")):
        found.append(("spec.tag", f"{spec.tag!r} is no tag; write its name and value, such as team=search"))
    try:
        parse_dollars(spec.amount)
    except ValueError as wrong:
        found.append(("spec.amount", str(wrong)))
    try:
        zone(spec.timezone)
    except ValueError:
        found.append(("spec.timezone", f"{spec.timezone!r} is no time zone; names are such as Europe/Berlin, or UTC"))
    return found


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
    of = {"project": project, "key": spec.key, "tag": spec.tag}[spec.scope]
    amount = parse_dollars(spec.amount)
    return BudgetRoute(number, budget.metadata.name, project, spec.scope, of, amount, spec.on_limit)
