"""Which alerts there are and what state each is in. Who is told of them is decided in core/notices.py.

An alert is what a signal becomes that lasts: the same labels are the same alert, whatever its severity. Its life is
the table LIFE. `silenced` is also what an inhibited alert is: a known cause (INHIBITIONS) makes it no news.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final, Literal

import msgspec

from stoker.types.slos import URGENCY, Severity

ALERTS_MAX: Final = 1000
SILENCE_MAX_S: Final = 90 * 86_400.0
RESOLVED_KEPT_S: Final = 86_400.0  # for lists
UNTOLD: Final = -1.0  # when a receiver was told that has yet to be
AGAIN: Final = 0.0  # or one that was, and must hear of it again

State = Literal["pending", "firing", "acknowledged", "silenced", "resolved"]
Event = Literal["holds", "worsens", "acknowledged", "muted", "unmuted", "ends"]

# What is not here changes nothing. None: it is forgotten, nobody was told.
LIFE: Final[dict[tuple[State, Event], State | None]] = {
    ("pending", "holds"): "firing",
    ("pending", "ends"): None,
    ("firing", "acknowledged"): "acknowledged",
    ("silenced", "acknowledged"): "acknowledged",
    ("acknowledged", "worsens"): "firing",  # a ticket was taken; that it became a page is news
    ("firing", "muted"): "silenced",
    ("silenced", "unmuted"): "firing",
    ("firing", "ends"): "resolved",
    ("acknowledged", "ends"): "resolved",
    ("silenced", "ends"): "resolved",
}


class Signal(msgspec.Struct, frozen=True):
    """Something that is wrong now. One of severity none is no alert: it only inhibits others.

    holds_s: how long it must last before anybody is told.
    """

    labels: dict[str, str]
    severity: Severity
    summary: str = ""
    because: str = ""
    runbook: str = ""
    holds_s: float = 0.0


class Alert(msgspec.Struct, frozen=True):
    """One alert. Times are unix seconds.

    told: by receiver, when it last heard of it; UNTOLD while it must still hear. Empty once all have heard of its end.
    told_as: the most urgent that anybody has heard it is. One that goes up and down is no news each time.
    """

    id: str
    labels: dict[str, str]
    severity: Severity
    state: State
    summary: str
    because: str
    runbook: str
    began_s: float
    since_s: float  # of `state`
    ended_s: float = 0.0
    acknowledged_by: str = ""
    muted_by: str = ""
    told: dict[str, float] = {}
    told_as: Severity = "none"


class Silence(msgspec.Struct, frozen=True):
    """Alerts with these labels are not told until it ends. A value may end in `*`."""

    id: str
    match: dict[str, str]
    until_s: float
    by: str = ""
    why: str = ""


class Inhibition(msgspec.Struct, frozen=True):
    """While a signal with the labels `source` is there, alerts of its endpoint with one of `targets` are no news."""

    source: dict[str, str]
    targets: tuple[dict[str, str], ...]
    words: str


_SLOW: Final[tuple[dict[str, str], ...]] = ({"sli": "latency"}, {"sli": "ttft"}, {"sli": "inter_token"})
_FAILS: Final[tuple[dict[str, str], ...]] = ({"alertname": "EndpointFails"}, {"alertname": "BreakerOpen"})
INHIBITIONS: Final = (
    Inhibition({"severity": "page", "sli": "availability"}, _SLOW, "the endpoint fails; that it is slow is no news"),
    Inhibition({"alertname": "EndpointDown"}, _SLOW, "the endpoint is down; that it is slow is no news"),
    Inhibition({"severity": "page", "sli": "availability"}, _FAILS, "its objective says so already"),
    Inhibition({"alertname": "EndpointDown"}, _FAILS, "the endpoint is down; that it fails is no news"),
    Inhibition(
        {"alertname": "RolloutInProgress"}, ({"alertname": "SloBurn", "severity": "ticket"},), "a rollout is going on"
    ),
)


def alert_id(labels: Mapping[str, str]) -> str:
    """Return the id of the alert with these labels: 16 hex digits, always the same."""
    text = "\0".join(f"{name}\0{labels[name]}" for name in sorted(labels))
    return sha256(text.encode()).hexdigest()[:16]


def matches(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Return whether `labels` have all of `wanted`; a wanted value that ends in `*` is a beginning."""
    return all(
        labels.get(name, "").startswith(value[:-1]) if value.endswith("*") else labels.get(name, "") == value
        for name, value in wanted.items()
    )


def with_severity(what: Signal | Alert) -> dict[str, str]:
    """Return the labels that silences, receivers and inhibitions look at: its own, and how urgent it is."""
    return {**what.labels, "severity": what.severity}


def acknowledged(alert: Alert, by: str, now_s: float) -> Alert:
    """Return the alert after somebody took it. One that cannot be taken (pending, over, already taken) is the same."""
    after = _moved(alert, "acknowledged", now_s)
    return alert if after is None or after is alert else msgspec.structs.replace(after, acknowledged_by=by)


def live(
    signals: Iterable[Signal], before: Mapping[str, Alert], silences: Iterable[Silence], now_s: float
) -> tuple[dict[str, Alert], int]:
    """Return every alert after this moment, and how many signals there was no room for.

    Args:
        signals: all that is wrong now; what is not among them has ended.
        silences: those that hold now.
    """
    present = {alert_id(signal.labels): signal for signal in signals}
    quiet = _Quiet(present.values(), silences)
    alerts: dict[str, Alert] = {}
    for key, alert in before.items():
        after = _step(alert, present.get(key), quiet, now_s)
        if after is not None and not (_is_over(after) and now_s - after.since_s > RESOLVED_KEPT_S):
            alerts[key] = after
    new = [(key, signal) for key, signal in present.items() if key not in before and signal.severity != "none"]
    dropped = 0
    for key, signal in sorted(new, key=lambda item: -URGENCY[item[1].severity]):
        if len(alerts) >= ALERTS_MAX and not _make_room(alerts):
            dropped += 1
            continue
        begun = _step(_begun(key, signal, now_s), signal, quiet, now_s)
        if begun is not None:
            alerts[key] = begun
    return alerts, dropped


class _Quiet:
    """Why an alert is not told now."""

    def __init__(self, present: Iterable[Signal], silences: Iterable[Silence]) -> None:
        self._silences = tuple(silences)
        self._causes = {
            (number, _endpoint(signal.labels))
            for signal in present
            for number, rule in enumerate(INHIBITIONS)
            if matches(with_severity(signal), rule.source)
        }

    def why(self, alert: Alert) -> str:
        """Return why, "" when it is told."""
        labels = with_severity(alert)
        for each in self._silences:
            if matches(labels, each.match):
                return "silenced" + (f" by {each.by}" if each.by else "") + (f": {each.why}" if each.why else "")
        for number, rule in enumerate(INHIBITIONS):
            if (number, _endpoint(labels)) in self._causes and any(matches(labels, one) for one in rule.targets):
                return rule.words
        return ""


def _step(alert: Alert, signal: Signal | None, quiet: _Quiet, now_s: float) -> Alert | None:
    """Return the alert after all that happened to it at this moment; None when it is nothing any more."""
    if signal is None or signal.severity == "none":
        return _moved(alert, "ends", now_s)
    if alert.state == "resolved":
        if alert.told:  # somebody is yet to hear of its end; it begins anew after that
            return alert
        alert = _begun(alert.id, signal, now_s)
    if signal.severity != alert.severity:
        alert = _as_urgent_as(alert, signal, now_s)
    if now_s - alert.began_s >= signal.holds_s:
        alert = _moved(alert, "holds", now_s) or alert
    why = quiet.why(alert)
    return _moved(alert, "muted" if why else "unmuted", now_s, why)


def _begun(key: str, signal: Signal, now_s: float) -> Alert:
    return Alert(
        id=key,
        labels=signal.labels,
        severity=signal.severity,
        state="pending",
        summary=signal.summary,
        because=signal.because,
        runbook=signal.runbook,
        began_s=now_s,
        since_s=now_s,
    )


def _as_urgent_as(alert: Alert, signal: Signal, now_s: float) -> Alert:
    """Return the alert with the signal's severity; whoever was told hears of it once more when that is news."""
    is_worse = URGENCY[signal.severity] > max(URGENCY[alert.severity], URGENCY[alert.told_as])
    told = {receiver: min(at_s, AGAIN) for receiver, at_s in alert.told.items()} if is_worse else alert.told
    changed = msgspec.structs.replace(
        alert, severity=signal.severity, summary=signal.summary, because=signal.because, told=told
    )
    return (_moved(changed, "worsens", now_s) or changed) if is_worse else changed


def _moved(alert: Alert, event: Event, now_s: float, why: str = "") -> Alert | None:
    """Return the alert after `event`: the same where the table says nothing, None where it says that it is gone."""
    move = (alert.state, event)
    if move not in LIFE:
        return alert
    state = LIFE[move]
    if state is None:
        return None
    told = alert.told
    if state == "resolved" and alert.state != "firing":  # who was never told need not hear that it is over
        told = {receiver: at_s for receiver, at_s in told.items() if at_s != UNTOLD}
    ended_s = now_s if state == "resolved" else 0.0
    return msgspec.structs.replace(alert, state=state, since_s=now_s, ended_s=ended_s, muted_by=why, told=told)


def _is_over(alert: Alert) -> bool:
    return alert.state == "resolved" and not alert.told


def _endpoint(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get("project", ""), labels.get("endpoint", "")


def _make_room(alerts: dict[str, Alert]) -> bool:
    """Forget the alert that ended longest ago and that nobody waits to hear of; False when there is none."""
    ended = [alert for alert in alerts.values() if _is_over(alert)]
    if not ended:
        return False
    del alerts[min(ended, key=lambda alert: alert.since_s).id]
    return True
