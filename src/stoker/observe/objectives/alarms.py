"""Which of the platform's own alarms (core/alarms.py) hold now: by what endpoints say, the history, and what it costs.

The history is asked every ASK_EVERY_S, not at each look. A question that fails says nothing about what it asks for:
what held before goes on to hold, for an alarm must not end because the disk is slow, or because control started again:
the first answer after a start may lack what agents and replicas have yet to say, so until the second one all that was
alerted before goes on.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from math import inf
from typing import Final, NamedTuple, Protocol

from stoker.client.views import Chart
from stoker.core import alarms
from stoker.core.alerts import Alert, Signal, alert_id
from stoker.core.snapshot import EndpointState
from stoker.types.units import format_bytes

ASK_EVERY_S: Final = 30.0
SURE_AFTER: Final = 2  # answers since the start, before what is not in them is over
SIGNALS_MAX: Final = 100  # of one alarm; more are hardly read

log = logging.getLogger(__name__)

_WEEK_S: Final = 7 * 86_400.0
_BY: Final = "by (project, endpoint)"
_REFUSED: Final = f"max {_BY} (stoker_drift_refused)"
_FULL: Final = 'stoker_refused_total{reason=~"queue_full|shed|out_of_time"}'


class Asks(Protocol):
    """What is asked of the history (port.Questions has it)."""

    async def query(self, text: str, *, end_s: float | None = None) -> Chart:
        """Return what the expression `text` gives at `end_s`."""


class Question(NamedTuple):
    """When an alarm holds: where a line of `query` is over `over`, or under `under`.

    of, least: and the line of `of` with the same labels is at least that. is_moment: what is asked for is a moment, and
    compared is how far from now it is. unit: how the value is shown.
    """

    alarm: str
    query: str
    over: float = inf
    under: float = -inf
    unit: str = ""
    of: str = ""
    least: float = 0.0
    is_moment: bool = False

    def holds(self, value: float, now_s: float) -> bool:
        """Return whether a line with `value` is one that alarms."""
        seen = value - now_s if self.is_moment else value
        return seen > self.over or seen < self.under

    @property
    def words(self) -> str:
        """The question as a sentence about `query`."""
        limit = f"over {self.over:g}" if self.over < inf else f"under {self.under:g}"
        if self.unit == "bytes":
            limit = f"under {format_bytes(int(self.under))}"
        if self.is_moment:
            limit = f"less than {self.under / 86_400:g} days away"
        return f"`{self.query}` is {limit}" + (f", and at least {self.least:g} of them" if self.of else "")


def _share(part: str) -> str:
    return f"ratio(increase {_BY} ({part}), increase {_BY} (stoker_requests_total[5m]))"


# A share of few requests says little: so many must have failed or been refused.
_SOME: Final = 20.0
QUESTIONS: Final = (
    Question(
        "EndpointFails", _share('stoker_requests_total{code=~"5.."}[5m]'), over=0.05, unit="%",
        of=f'increase {_BY} (stoker_requests_total{{code=~"5.."}}[5m])', least=_SOME,
    ),
    Question(
        "EndpointRefuses", _share(f"{_FULL}[5m]"), over=0.05, unit="%", of=f"increase {_BY} ({_FULL}[5m])", least=_SOME,
    ),
    Question("ScalingAtMaximum", f"max {_BY} (stoker_scaling_at_maximum)", over=0.5),
    Question("BreakerOpen", f"max {_BY} (stoker_breaker_state)", over=1.5),
    Question(
        "InputsRefused", f"{_REFUSED} / ({_REFUSED} + max {_BY} (stoker_drift_rows))", over=0.05, unit="%",
        of=_REFUSED, least=_SOME,
    ),
    Question("RequestsQuarantined", f"increase {_BY} (stoker_quarantined_total[10m])", over=0.5),
    Question("ProcessesRestart", f"increase {_BY} (stoker_restarts_total[15m])", over=3.5),
    Question("ReplicasEjected", f"increase {_BY} (stoker_ejections_total[15m])", over=2.5),
    Question("KeyValueCacheFull", f"max {_BY} (stoker_kv_cache_usage_ratio)", over=0.95),
    Question("LoopBlocked", "quantile by (process) (0.99, stoker_event_loop_lag_seconds[5m])", over=0.25),
    Question("ControlFails", "increase by () (stoker_loop_errors_total[10m])", over=3.5),
    Question("SettingsUnread", "max by () (stoker_settings_unread)", over=0.5),
    Question(
        "CertificateExpires", "min by (process) (stoker_tls_certificate_expiry_timestamp_seconds)",
        under=_WEEK_S, is_moment=True,
    ),
    Question(
        "DescriptorsShort", "max by (process) (process_open_fds) / max by (process) (process_max_fds)", over=0.8,
    ),
    Question(
        "NodeMemoryShort", "max by (node) (stoker_node_memory_free_bytes) / max by (node) (stoker_node_memory_bytes)",
        under=0.05, unit="%",
    ),
    Question(
        "NodeDiskShort", "min by (node) (stoker_node_disk_free_bytes)", under=float(1 << 30), unit="bytes",
    ),
    Question("FilesRefused", f"max {_BY} (stoker_replica_unwritable)", over=0.5),
    Question("ClockStepped", "increase by (node) (stoker_node_clock_stepped_seconds_total[15m])", over=1.0),
    Question("ClockApart", "max by (node) (stoker_node_clock_apart_seconds)", over=2.0),
    Question("NodeGone", "max by (node) (stoker_node_ready)", under=0.5),
    Question("NodeCertificateExpires", "min by (node) (stoker_node_certificate_left_ratio)", under=0.25),
    Question("NoticesLost", 'increase by () (stoker_notices_total{outcome="lost"}[1h])', over=0.5),
    Question("UsageLost", "increase by (process) (stoker_usage_records_lost_total[15m])", over=0.5),
    Question("UsageBroken", "increase by (process) (stoker_usage_journal_broken_total[15m])", over=0.5),
    Question("AuditFails", "increase by () (stoker_audit_failures_total[10m])", over=0.5),
    Question("AuditBroken", "max by () (stoker_audit_problems)", over=0.5),
    Question("IdentityProviderDown", "max by (provider) (stoker_identity_provider_failing)", over=0.5),
    Question("SecretUnavailable", "max by (project, secret) (stoker_secret_failing)", over=0.5),
    Question("HistoryFails", "increase by () (stoker_history_failures_total[10m])", over=0.5),
)  # fmt: skip
_ASKED: Final = frozenset(each.alarm for each in QUESTIONS)
_COST: Final = "CostUnusual"


class Alarms:
    """Remembers what the history said last. Used by one task. costly: what costs are unusual, once that is known."""

    def __init__(self, asks: Asks) -> None:
        self.costly: Callable[[], tuple[Signal, ...] | None] = lambda: ()
        self._asks = asks
        self._found: dict[str, tuple[Signal, ...]] = {}
        self._answers: Counter[str] = Counter()  # by alarm, up to SURE_AFTER
        self._asked_s = -ASK_EVERY_S

    async def look(
        self, states: Iterable[EndpointState], now_s: float, alerted: Iterable[Alert] = ()
    ) -> tuple[Signal, ...]:
        """Return every alarm that holds at `now_s` (unix seconds). `alerted`: what was alerted at the look before."""
        if not 0 <= now_s - self._asked_s < ASK_EVERY_S:
            self._asked_s = now_s
            for question in QUESTIONS:
                try:
                    self._found[question.alarm] = await self._ask(question, now_s)
                    self._answers[question.alarm] = min(self._answers[question.alarm] + 1, SURE_AFTER)
                except Exception:  # one question must not silence the others, nor the objectives
                    log.exception("a question to the history failed", extra={"alarm": question.alarm})
        living = {(str(each.project), str(each.name)) for each in states if not each.is_deleting}
        asked = [signal for found in self._found.values() for signal in found]
        asked += self._not_yet_over(alerted, {alert_id(each.labels) for each in asked})
        asked += self._costs(alerted)
        return (*alarms.of_endpoints(states), *(each for each in asked if _is_there(each, living)))

    def _not_yet_over(self, alerted: Iterable[Alert], found: Collection[str]) -> list[Signal]:
        """Return what was alerted before, is not among the `found`, and of which the history cannot be asked enough."""
        return [
            alarms.BY_NAME[name].again(alert)
            for alert in alerted
            if (name := alert.labels.get("alertname", "")) in _ASKED
            and alert.state != "resolved"
            and alert.id not in found
            and self._answers[name] < SURE_AFTER
        ]

    def _costs(self, alerted: Iterable[Alert]) -> Iterable[Signal]:
        """Return what costs are out of the ordinary; until they are known, what was alerted of them."""
        found = self.costly()
        if found is not None:
            return found
        before = (alert for alert in alerted if alert.labels.get("alertname") == _COST and alert.state != "resolved")
        return [alarms.BY_NAME[_COST].again(alert) for alert in before]

    async def _ask(self, question: Question, now_s: float) -> tuple[Signal, ...]:
        lines = _values(await self._asks.query(question.query, end_s=now_s))
        found = {labels: value for labels, value in lines.items() if question.holds(value, now_s)}
        if found and question.of:
            counts = _values(await self._asks.query(question.of, end_s=now_s))
            found = {labels: value for labels, value in found.items() if counts.get(labels, 0.0) >= question.least}
        alarm = alarms.BY_NAME[question.alarm]
        return tuple(
            alarm.signal(dict(labels), alarm.to_do(dict(labels)), _shown(value, question.unit))
            for labels, value in sorted(found.items())[:SIGNALS_MAX]
        )


def _values(chart: Chart) -> dict[tuple[tuple[str, str], ...], float]:
    last = ((tuple(sorted(line.labels.items())), line.values[-1]) for line in chart.lines)
    return {labels: value for labels, value in last if value is not None}


def _is_there(signal: Signal, living: set[tuple[str, str]]) -> bool:
    """Return whether whose alarm it is still exists: the history remembers what was deleted."""
    endpoint = signal.labels.get("endpoint")
    return endpoint is None or (signal.labels.get("project", ""), endpoint) in living


def _shown(value: float, unit: str) -> str:
    if unit == "bytes":
        return format_bytes(int(value))
    return f"{value:.1%}" if unit == "%" else f"{value:.4g}"
