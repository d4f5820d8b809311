"""How every quota stands: what projects and the platform have and ask for, rates of keys, totals of a period.

Rates and requests at once are held by gateways, which alone know how much of them is used at a moment.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Final

from stoker.control import allowances
from stoker.control.allowances import WHOLE, Samples, no_samples
from stoker.control.budgets import views as budget_views
from stoker.core import allowance
from stoker.core.alerts import Signal
from stoker.store import keys, projects
from stoker.store.engine import Connection
from stoker.telemetry.metrics import Registry
from stoker.types.budgets import ENDLESS_S, BudgetScope, BudgetView
from stoker.types.prices import NANO_PER_USD
from stoker.types.quotas import ProjectQuota, QuotaView, Use
from stoker.types.routes import QuotaRoute

LOOK_S: Final = 30.0  # between two looks for what is to be told: they read all manifests where storage is limited
KEPT_S: Final = 60.0
RATES: Final = ("requests_per_s", "tokens_per_min", "requests_at_once")


def routes(connection: Connection) -> tuple[QuotaRoute, ...]:
    """Return what gateways hold projects and the platform to."""
    quotas = {**projects.quotas(connection), WHOLE: allowances.of_platform(connection)}
    return tuple(
        QuotaRoute(name, each.requests_per_s, each.burst, each.tokens_per_min, each.requests_at_once)
        for name, each in quotas.items()
        if each.requests_per_s or each.tokens_per_min or each.requests_at_once
    )


def views(
    connection: Connection, may_see: Callable[[str], bool], now_s: float, samples: Samples = no_samples
) -> list[QuotaView]:
    """Return every quota of the projects, and of the platform (WHOLE), that `may_see` says."""
    found: list[QuotaView] = []
    for name in (WHOLE, *projects.quotas(connection)):
        if may_see(name):
            found += _of(connection, name, samples, now_s)
    for key in keys.everything(connection):
        if may_see(key.project) and (key.expires_at_s == 0 or key.expires_at_s > now_s):
            for rate in RATES:
                limit = float(getattr(key.limits, rate))
                if limit:
                    found.append(_view(key.project, Use(rate, None, limit), "key", str(key.id)))
    for budget in budget_views(connection, now_s):
        if may_see(WHOLE if budget.spec.scope == "platform" else budget.project):
            found.append(of_budget(budget))
    return found


def of_budget(budget: BudgetView) -> QuotaView:
    """Return a budget as a quota; amounts of money in dollars."""
    spec = budget.spec
    part = 1 / NANO_PER_USD if spec.unit == "usd" else 1
    use = Use(
        budget.name,
        budget.settled * part,
        budget.amount * part,
        spec.on_limit != "warn",
        resets_at_s=0.0 if budget.ends_at_s >= ENDLESS_S else budget.ends_at_s,
    )
    of = {"key": spec.key, "tag": spec.tag}.get(spec.scope, "")
    return _view("" if spec.scope == "platform" else budget.project, use, spec.scope, of, spec.unit, spec.period)


class Kept:
    """How many bytes of samples are kept of a project, "" for all: as it was KEPT_S ago at the most."""

    def __init__(self, sizes: Callable[[], Mapping[str, int]], clock: Callable[[], float] = time.monotonic) -> None:
        self._sizes = sizes
        self._clock = clock
        self._found: Mapping[str, int] = {}
        self._looked_s = float("-inf")

    def __call__(self, project: str) -> int:
        """Return it; looks at the disk now and then."""
        now_s = self._clock()
        if now_s - self._looked_s >= KEPT_S:
            with suppress(OSError):  # a folder went meanwhile: the next look has it
                self._found = self._sizes()
            self._looked_s = now_s
        return self._found.get(project, 0) if project else sum(self._found.values())


class QuotaWatch:
    """Tells of quotas that are nearly, or wholly, used up. samples: bytes that are kept of a project's."""

    def __init__(self, metrics: Registry, samples: Samples = no_samples) -> None:
        self._metrics = metrics
        self._samples = samples
        self._looked_s = float("-inf")
        self._signals: list[Signal] = []
        self._shown: set[tuple[str, str]] = set()

    def signals(self, connection: Connection, now_s: float) -> list[Signal]:
        """Return what is to be told of the quotas of projects and of the platform; of LOOK_S ago at the most."""
        if 0 <= now_s - self._looked_s < LOOK_S:
            return self._signals
        self._looked_s = now_s
        found = list(self._look(connection, now_s))
        self._count(found)
        self._signals = [_signal(name, use) for name, use in found if allowance.state(use) in ("near", "used up")]
        return self._signals

    def _look(self, connection: Connection, now_s: float) -> Iterator[tuple[str, Use]]:
        for name, quota in {**projects.quotas(connection), WHOLE: allowances.of_platform(connection)}.items():
            if quota != ProjectQuota():
                for use in allowances.uses(connection, name, self._samples, now_s):
                    yield name, use

    def _count(self, found: list[tuple[str, Use]]) -> None:
        shown = set()
        for name, use in found:
            if use.used is not None:
                ratio = use.used / use.limit if use.limit else 1.0
                self._metrics.gauge("stoker_quota_ratio", project=name, quota=use.name).set(ratio)
                shown.add((name, use.name))
        for name, quota_name in self._shown - shown:
            self._metrics.drop("stoker_quota_ratio", project=name, quota=quota_name)
        self._shown = shown


def _of(connection: Connection, name: str, samples: Samples, now_s: float) -> Iterator[QuotaView]:
    scope: BudgetScope = "project" if name else "platform"
    for use in allowances.uses(connection, name, samples, now_s):
        period = allowances.quota_of(connection, name).gpu_period if use.name == "gpu_hours" else ""
        yield _view(name, use, scope, period=period)
    for use in allowance.rates(allowances.quota_of(connection, name)):
        yield _view(name, use, scope)


def _view(project: str, use: Use, scope: BudgetScope, of: str = "", unit: str = "", period: str = "") -> QuotaView:
    state = allowance.state(use)
    return QuotaView(
        project, scope, of, use.name, use.used, use.limit, use.is_hard, state, use.resets_at_s, unit, period
    )


def _signal(name: str, use: Use) -> Signal:
    assert use.used is not None
    whose = f"project {name}" if name else "the platform"
    whom = {"project": name} if name else {}
    is_all = use.used >= use.limit
    ratio = use.used / use.limit if use.limit else 1.0
    again = f"; it begins anew at {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(use.resets_at_s))}"
    return Signal(
        labels={"alertname": "QuotaUsed", **whom, "quota": use.name, "state": "all" if is_all else "near"},
        severity="ticket",
        summary=f"{whose} has {ratio:.0%} of its quota of {use.name}",
        because=f"{allowance.said(use.name, use.used)} of {allowance.said(use.name, use.limit)}"
        + (again if use.resets_at_s else ""),
        runbook="docs/how-to/set-a-quota.md",
    )
