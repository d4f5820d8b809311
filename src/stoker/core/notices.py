"""Who is told of which alert, and when. Pure: the signals of this moment in, notices out.

- Every alert that fires is told at least once to each receiver it is routed to, unless it is silenced, inhibited or
  acknowledged until it ends. While it goes on it is told again after the receiver's `repeat`, never sooner, unless it
  becomes more urgent.
- A receiver that was told of an alert hears of its end once, silenced or not: nobody watches a dead alert.
- What belongs to one endpoint is told together, at most every GROUP_EVERY_S; a page that is new does not wait for what
  was no page.
- A receiver gets at most NOTICES_MAX notices in NOTICES_PER_S. When more is due, the last of them tells all the rest.

Everything is remembered in one value, the outbox included: a process that dies after it decided tells it when it is
back (the receiver may then hear twice, never not at all).
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from stoker.core.alerts import UNTOLD, Alert, Signal, Silence, acknowledged, live, matches, with_severity
from stoker.types.slos import URGENCY, Severity

GROUP_EVERY_S: Final = 60.0
NOTICES_MAX: Final = 6
NOTICES_PER_S: Final = 60.0
NOTICE_ALERTS_MAX: Final = 50  # in one notice; the rest is counted
OUTBOX_MAX: Final = 20  # of one receiver; the oldest makes room for a new one
SILENCES_MAX: Final = 200
MANY: Final = "*"  # the group of a notice that tells of several groups


class Route(msgspec.Struct, frozen=True):
    """A receiver and what it gets. project "": of every one."""

    receiver: str
    project: str = ""
    match: dict[str, str] = {}
    min_severity: Severity = "ticket"
    repeat_s: float = 14_400.0


class Notice(msgspec.Struct, frozen=True):
    """What one receiver is told at once. `number` grows; `left_out` counts alerts that did not fit."""

    number: int
    receiver: str
    group: str
    at_s: float
    alerts: tuple[Alert, ...]
    left_out: int = 0

    @property
    def is_firing(self) -> bool:
        """Whether anything in it goes on."""
        return any(alert.state != "resolved" for alert in self.alerts)


class Heard(msgspec.Struct, frozen=True):
    """When a receiver last heard of a group at all, and of a page in it. 0: never."""

    at_s: float = 0.0
    page_s: float = 0.0


class AlertMemory(msgspec.Struct, frozen=True):
    """All that must survive."""

    alerts: dict[str, Alert] = {}
    silences: dict[str, Silence] = {}
    heard: dict[str, dict[str, Heard]] = {}  # by receiver and group
    sent_s: dict[str, tuple[float, ...]] = {}  # by receiver: its notices of the last NOTICES_PER_S
    number: int = 0
    outbox: tuple[Notice, ...] = ()


class AlertDecision(msgspec.Struct, frozen=True):
    """New notices (also in the memory's outbox), alerts whose state changed, signals there was no room for."""

    notices: tuple[Notice, ...]
    changed: tuple[Alert, ...]
    dropped: int
    memory: AlertMemory


def decide(signals: Iterable[Signal], routes: Sequence[Route], memory: AlertMemory, now_s: float) -> AlertDecision:
    """Return what becomes of every alert and who is told. `signals`: all that is wrong now; unix seconds."""
    silences = {key: each for key, each in memory.silences.items() if each.until_s > now_s}
    known = {route.receiver for route in routes}
    before = {key: _without(alert, known) for key, alert in memory.alerts.items()}
    alerts, dropped = live(signals, before, silences.values(), now_s)
    changed = tuple(
        alert for key, alert in alerts.items() if key not in memory.alerts or memory.alerts[key].state != alert.state
    )
    teller = _Teller(msgspec.structs.replace(memory, alerts=alerts, silences=silences), now_s)
    for route in routes:
        teller.tell(route)
    return AlertDecision(tuple(teller.notices), changed, dropped, teller.memory(known))


def acknowledge(memory: AlertMemory, which: str, by: str, now_s: float) -> AlertMemory:
    """Have somebody take the alert `which`: it is not told again until it ends. Raises KeyError when there is none."""
    after = acknowledged(memory.alerts[which], by, now_s)
    return msgspec.structs.replace(memory, alerts={**memory.alerts, which: after})


def silence(memory: AlertMemory, what: Silence) -> AlertMemory:
    """Add or replace a silence. Raises ValueError when there are SILENCES_MAX, or it would silence everything."""
    if not any(value.strip("*") for value in what.match.values()):
        raise ValueError("a silence needs at least one label with a value")
    if len(memory.silences) >= SILENCES_MAX and what.id not in memory.silences:
        raise ValueError(f"there are {SILENCES_MAX} silences already; end one first")
    return msgspec.structs.replace(memory, silences={**memory.silences, what.id: what})


def unsilence(memory: AlertMemory, which: str) -> AlertMemory:
    """End a silence now. Raises KeyError when there is none."""
    silences = dict(memory.silences)
    del silences[which]
    return msgspec.structs.replace(memory, silences=silences)


def delivered(memory: AlertMemory, numbers: Iterable[int]) -> AlertMemory:
    """Take notices that were delivered, or given up, out of the outbox."""
    gone = set(numbers)
    return msgspec.structs.replace(memory, outbox=tuple(each for each in memory.outbox if each.number not in gone))


class _Teller:
    """Collects notices for one receiver after the other."""

    def __init__(self, memory: AlertMemory, now_s: float) -> None:
        self._memory = memory
        self._now_s = now_s
        self._alerts = dict(memory.alerts)
        self._heard = {receiver: dict(groups) for receiver, groups in memory.heard.items()}
        self._sent_s = dict(memory.sent_s)
        self._number = memory.number
        self.notices: list[Notice] = []

    def tell(self, route: Route) -> None:
        """Add what the receiver of `route` is told now, and take note that it was."""
        recent = tuple(at_s for at_s in self._sent_s.get(route.receiver, ()) if self._is_within(at_s, NOTICES_PER_S))
        heard = self._heard.get(route.receiver, {})
        groups = self._owed(route)
        due = [group for group in groups if self._is_due(groups[group], heard.get(group, Heard()))]
        due.sort(key=lambda group: -max(URGENCY[alert.severity] for alert in groups[group]))
        room = NOTICES_MAX - len(recent)
        batches = [(group, [group]) for group in due]
        if len(due) > room > 0:
            batches = [*batches[: room - 1], (MANY, due[room - 1 :])]
        for name, members in batches[: max(room, 0)]:
            self._add(route.receiver, name, [alert for group in members for alert in groups[group]])
            recent += (self._now_s,)
            for group in members:
                is_page = any(alert.severity == "page" for alert in groups[group])
                last = heard.get(group, Heard())
                heard[group] = Heard(self._now_s, self._now_s if is_page else last.page_s)
        self._sent_s[route.receiver] = recent
        self._heard[route.receiver] = {
            group: each for group, each in heard.items() if self._is_within(each.at_s, GROUP_EVERY_S)
        }

    def memory(self, known: set[str]) -> AlertMemory:
        """Return what is remembered, of the receivers there are."""
        outbox: list[Notice] = []
        held: dict[str, int] = {}
        for notice in reversed((*self._memory.outbox, *self.notices)):
            held[notice.receiver] = held.get(notice.receiver, 0) + 1
            if notice.receiver in known and held[notice.receiver] <= OUTBOX_MAX:
                outbox.append(notice)
        return AlertMemory(
            alerts=self._alerts,
            silences=self._memory.silences,
            heard={receiver: each for receiver, each in self._heard.items() if receiver in known and each},
            sent_s={receiver: each for receiver, each in self._sent_s.items() if receiver in known and each},
            number=self._number,
            outbox=tuple(reversed(outbox)),
        )

    def _owed(self, route: Route) -> dict[str, list[Alert]]:
        """Return by group the alerts that the receiver must hear of; those it never heard of become its own here."""
        groups: dict[str, list[Alert]] = {}
        for key, alert in self._alerts.items():
            if alert.state == "firing" and route.receiver not in alert.told and _goes_to(alert, route):
                told = {**alert.told, route.receiver: UNTOLD}
                alert = self._alerts[key] = msgspec.structs.replace(alert, told=told)  # noqa: PLW2901
            last_s = alert.told.get(route.receiver)
            if last_s is None:
                continue
            is_again = last_s == UNTOLD or not self._is_within(last_s, route.repeat_s)
            if alert.state == "resolved" or (alert.state == "firing" and is_again and _goes_to(alert, route)):
                groups.setdefault(_group(alert), []).append(alert)
        return groups

    def _is_due(self, owed: list[Alert], heard: Heard) -> bool:
        if not self._is_within(heard.at_s, GROUP_EVERY_S):
            return True
        has_page = any(alert.severity == "page" and alert.state == "firing" for alert in owed)
        return has_page and not self._is_within(heard.page_s, GROUP_EVERY_S)

    def _add(self, receiver: str, group: str, owed: list[Alert]) -> None:
        self._number += 1
        shown = tuple(owed[:NOTICE_ALERTS_MAX])
        self.notices.append(Notice(self._number, receiver, group, self._now_s, shown, len(owed) - len(shown)))
        for alert in owed:
            told = dict(self._alerts[alert.id].told)
            told[receiver] = self._now_s
            if alert.state == "resolved":
                del told[receiver]
            told_as = max(alert.told_as, alert.severity, key=URGENCY.__getitem__)
            self._alerts[alert.id] = msgspec.structs.replace(self._alerts[alert.id], told=told, told_as=told_as)

    def _is_within(self, at_s: float, span_s: float) -> bool:
        """Return whether `at_s` lies less than `span_s` back. A clock that was set back makes nothing wait longer."""
        return 0 <= self._now_s - at_s < span_s


def _goes_to(alert: Alert, route: Route) -> bool:
    is_urgent = URGENCY[alert.severity] >= URGENCY[route.min_severity]
    is_of_project = route.project in ("", alert.labels.get("project", ""))
    return is_urgent and is_of_project and matches(with_severity(alert), route.match)


def _group(alert: Alert) -> str:
    return f"{alert.labels.get('project', '')}/{alert.labels.get('endpoint', '')}"


def _without(alert: Alert, known: set[str]) -> Alert:
    """Return the alert without receivers that are there no more."""
    told = {receiver: at_s for receiver, at_s in alert.told.items() if receiver in known}
    return alert if len(told) == len(alert.told) else msgspec.structs.replace(alert, told=told)
