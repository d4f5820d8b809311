"""What the days until now say of the month and of today (core/cost/outlook.py), from the stored lines."""

from collections import defaultdict

from stoker.core.cost import outlook
from stoker.core.cost.outlook import DAYS_MAX, Anomaly, Forecast, Where
from stoker.store import costs
from stoker.store.costs import DAY_S
from stoker.store.engine import Connection


def forecast(connection: Connection, now_s: float, open_nano_usd: int, project: str | None) -> Forecast | None:
    """Return what this month will cost, of one project's lines or all. open_nano_usd: what is no line yet, of today."""
    today = int(now_s) // DAY_S
    days: dict[int, int] = defaultdict(int)
    for group in costs.read(connection, (today - 31) * DAY_S, (today + 1) * DAY_S, ("day_s",), project):
        days[group.by["day_s"] // DAY_S] += group.nano_usd
    days[today] += open_nano_usd
    return outlook.forecast(days, today)


def anomaly(connection: Connection, now_s: float) -> Anomaly | None:
    """Return how today is out of the ordinary by now, else how yesterday was, or None."""
    today = int(now_s) // DAY_S
    by = ("day_s", "kind", "project", "endpoint", "key")
    days: dict[int, dict[Where, int]] = defaultdict(dict)
    for group in costs.read(connection, (today - 1 - DAYS_MAX) * DAY_S, (today + 1) * DAY_S, by):
        found = group.by
        days[found["day_s"] // DAY_S][found["kind"], found["project"], found["endpoint"], found["key"]] = group.nano_usd
    for day in (today, today - 1):
        before = [days[each] for each in sorted(days) if each < day]
        unusual = outlook.anomaly(day, days.get(day, {}), before)
        if unusual is not None:
            return unusual
    return None
