"""A game day from the one end that callers have: steady requests, a fault, and what the platform says of it.

Whatever ends a run (its end, an error, Ctrl-C), `Run.close` ends the fault, the load and the keys. When this process is
killed, the agent ends the fault by its clock, and the keys expire.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from stoker.client import alerts
from stoker.client.connection import Connection
from stoker.client.control import ControlClient
from stoker.client.load import Ask, Load, Tally
from stoker.core.gameday import GOOD_FOR_S, Card, Marks, Scenario, Second, judge, normal, parted, recovered_s
from stoker.types.errors import Conflict, InvalidInput, NotFound, StokerError, Unauthenticated
from stoker.types.faults import Fault
from stoker.types.keys import KeyLimits

LOOK_S: Final = 0.25
SIGNALS_EVERY_S: Final = 1.0
DIAGNOSIS_WAIT_S: Final = 75.0  # incidents are explained within seconds, and again at full minutes
LOAD_RPS_MAX: Final = 500.0
KNOWN_WAIT_S: Final = 5.0  # until every gateway has heard of a new key
KEY_SPARE_S: Final = 120.0  # a key outlives its run by so much at most
DRIFTED: Final = "Drifted"  # the condition of an endpoint whose data moved away from its reference
_RAISED: Final = ("opened", "alert")
UNSAMPLED: Final = KeyLimits(samples=False)
RETRIED: Final = {"x-stainless-retry-count": "1"}  # as the OpenAI and Anthropic libraries say it


class Plan(msgspec.Struct, frozen=True):
    """What is to be done. Times in seconds; `rate` is of the probes, a second. replicas: that a fault is put into."""

    project: str
    endpoint: str
    scenario: Scenario
    replicas: tuple[str, ...]
    rate: float
    baseline_s: float
    duration_s: float
    patience_s: float
    force: bool = False

    @property
    def longest_s(self) -> float:
        """How long a run takes at most."""
        return self.baseline_s + self.duration_s + self.patience_s + DIAGNOSIS_WAIT_S


class Report(msgspec.Struct, frozen=True):
    """A run as it is kept. `began_s` is unix time; `problem`: the newest failure a probe saw."""

    id: str
    project: str
    endpoint: str
    scenario: str
    replicas: tuple[str, ...]
    began_s: float
    duration_s: float
    rate: float
    card: Card
    score: float
    marks: Marks
    seconds: tuple[Second, ...]
    problem: str = ""


@dataclass(slots=True)
class Run:
    """One run. `ask` is what probes send, `loaded` what the load of a load scenario sends."""

    control: ControlClient
    gateway: Connection
    plan: Plan
    ask: Ask
    loaded: Ask
    say: Callable[[str], None]
    _began_s: float = 0.0
    _origin_s: float = 0.0
    _keys: list[str] = field(default_factory=list)
    _caller: Connection | None = None
    _probes: Load | None = None
    _load: Load | None = None
    _is_injected: bool = False
    _drifts: bool = False  # before anything was injected
    _ready: dict[int, int] = field(default_factory=dict)
    _marks: Marks = field(default_factory=lambda: Marks(injected_s=float("inf")))
    _signals_s: float = 0.0

    def go(self) -> Report:
        """Do it and return how it went. Raises StokerError when it cannot begin."""
        plan = self.plan
        self._caller = self._with_key("probes")
        probes = self._probes = Load(self._caller, self.ask, plan.rate)
        _patiently(probes.once)
        self._began_s, self._origin_s = time.time(), time.monotonic()
        probes.start(self._origin_s)
        self.say(f"{plan.rate:g} requests a second for {plan.baseline_s:g} s, to see what is normal")
        self._watch(lambda: self._now() >= plan.baseline_s)
        self._inject()
        end_s = self._marks.injected_s + plan.duration_s  # the fault's own clock began later, and so ends later
        is_lasting = plan.scenario.fault != "kill"
        self._watch(lambda: self._now() >= end_s or (not is_lasting and self._is_good()))
        if is_lasting:
            self._marks = msgspec.structs.replace(self._marks, ended_s=end_s)
            self._end("its time was over")
            self.say("the fault is over")
            self._watch(lambda: self._is_good() or self._now() >= end_s + plan.patience_s)
        self._diagnose()
        probes.stop()
        seconds = self._seconds()
        card = judge(plan.scenario, seconds, self._marks)
        self._end(f"{plan.scenario.name}: {card.outcome}, score {card.score:.2f}", again=True)
        return Report(
            id=time.strftime("%Y%m%d-%H%M%S", time.localtime(self._began_s)) + f"-{plan.scenario.name}",
            project=plan.project,
            endpoint=plan.endpoint,
            scenario=plan.scenario.name,
            replicas=plan.replicas,
            began_s=self._began_s,
            duration_s=plan.duration_s,
            rate=plan.rate,
            card=card,
            score=round(card.score, 3),
            marks=self._marks,
            seconds=tuple(seconds),
            problem=probes.problem,
        )

    def close(self, because: str) -> None:
        """Leave nothing behind; called again, or after `go`, it changes nothing."""
        self._end(because)
        for load in (self._load, self._probes):
            if load is not None:
                load.stop()
        while self._keys:
            with suppress(StokerError):  # it expires by itself
                self.control.revoke_key(self._keys[-1])
            self._keys.pop()

    def _inject(self) -> None:
        plan, scenario = self.plan, self.plan.scenario
        if self._drifts:
            raise Conflict("what the probes send drifts by itself; give more, and ordinary, rows with --data")
        fault = Fault(scenario.fault, max(plan.duration_s, 1.0)) if scenario.fault is not None else None
        self._is_injected = True  # before it is: an answer that got lost is to be undone too
        self._marks = Marks(injected_s=self._now())
        try:
            self.control.begin_gameday(
                plan.project,
                plan.endpoint,
                scenario.name,
                seconds=plan.duration_s,
                replicas=plan.replicas,
                fault=fault,
                bad_revision=scenario.is_bad_revision,
                force=plan.force,
            )
        except (Conflict, InvalidInput, NotFound):
            self._is_injected = False  # refused: what is there is somebody else's
            raise
        where = f" ({', '.join(plan.replicas)})" if plan.replicas else ""
        self.say(f"now: {scenario.does}{where}")
        if scenario.load != "none":
            self._start_load()

    def _start_load(self) -> None:
        scenario = self.plan.scenario
        rate = min(self.plan.rate * scenario.rate_times, LOAD_RPS_MAX)
        ask = self.loaded
        if scenario.load == "retry_storm":
            ask = Ask(ask.path, ask.body, {**ask.headers, **RETRIED})
        # What all callers do is sent by the one that was there before: a new one would be a noisy tenant, and found.
        who = self._with_key("load") if scenario.load == "noisy_tenant" or self._caller is None else self._caller
        self._load = Load(who, ask, rate)
        self._load.start(self._origin_s)

    def _end(self, because: str, *, again: bool = False) -> None:
        if self._load is not None:
            self._load.stop()
        if self._is_injected or again:
            self._is_injected = False
            try:
                self.control.end_gameday(self.plan.project, self.plan.endpoint, because)
            except StokerError as away:
                self.say(f"control could not be told ({away.message}); the node ends the fault by its own clock")

    def _with_key(self, name: str) -> Connection:
        seconds = self.plan.longest_s + KEY_SPARE_S
        key = self.control.create_key(
            self.plan.project, f"gameday-{name}", admin=False, expires_in_s=seconds, limits=UNSAMPLED
        )
        self._keys.append(key.id)
        return replace(self.gateway, key=key.key)

    def _now(self) -> float:
        return time.monotonic() - self._origin_s

    def _watch(self, is_over: Callable[[], bool]) -> None:
        while not is_over():
            self._look()
            time.sleep(LOOK_S)

    def _look(self) -> None:
        """See how many replicas are ready, and whether anybody was told. Control may be away for a moment."""
        plan = self.plan
        with suppress(StokerError):
            status = self.control.endpoint(plan.project, plan.endpoint).status
            ready, second = status.replicas_ready, int(self._now())
            drifted = next((each for each in status.conditions if each.type == DRIFTED and each.status), None)
            if plan.scenario.is_silent and drifted is not None:
                at_s = drifted.since_s - self._began_s
                self._drifts = self._drifts or at_s < self._marks.injected_s
                self._detected(at_s, "the condition Drifted")
            self._ready[second] = min(self._ready.get(second, ready), ready)
            if self._now() - self._signals_s >= SIGNALS_EVERY_S:
                self._signals_s = self._now()
                self._signals()

    def _signals(self) -> None:
        plan, injected_s = self.plan, self._began_s + self._marks.injected_s
        for one in self.control.incidents(only_open=True):
            if (one.project, one.endpoint) != (plan.project, plan.endpoint):
                continue
            # One that ended minutes ago is opened again under its old number.
            raised_s = min(
                (each.at_s for each in one.timeline if each.kind in _RAISED and each.at_s >= injected_s), default=0.0
            )
            if raised_s:
                # … and with its old causes: of such a one `stoker why` is asked instead (_diagnose).
                causes = tuple(each.kind for each in one.causes) if one.opened_at_s >= injected_s else ()
                self._marks = msgspec.structs.replace(self._marks, incident=one.number, causes=causes)
                self._detected(raised_s - self._began_s, f"incident {one.number}")
        for alert in alerts.everything(self.control).items:
            whose = (alert.labels.get("project"), alert.labels.get("endpoint"))
            name = alert.labels.get("slo") or alert.labels.get("alertname") or alert.id
            is_told = alert.state == "firing" and alert.severity != "none"  # that only explains others, and mutes them
            if whose == (plan.project, plan.endpoint) and is_told and alert.since_s >= injected_s:
                self._detected(alert.since_s - self._began_s, f"alert {name}")

    def _detected(self, at_s: float, by: str) -> None:
        before = self._marks.detected_s
        if at_s < self._marks.injected_s:
            return
        if before is None or at_s < before:
            self._marks = msgspec.structs.replace(self._marks, detected_s=at_s, detected_by=by)
        if before is None:
            self.say(f"detected by {by}, {at_s - self._marks.injected_s:.1f} s after the fault")

    def _diagnose(self) -> None:
        """Wait for the causes of what was detected; ask for them where no incident was opened."""
        if self._marks.detected_s is not None and not self._marks.causes:
            self.say("waiting for the causes")
            until_s = self._now() + min(self.plan.patience_s, DIAGNOSIS_WAIT_S)
            self._watch(lambda: bool(self._marks.causes) or self._now() >= until_s)
        if not self._marks.causes:
            with suppress(StokerError):
                found = self.control.why(self.plan.project, self.plan.endpoint)
                causes = tuple(each.kind for each in found.diagnosis.causes)
                self._marks = msgspec.structs.replace(self._marks, causes=causes)

    def _is_good(self) -> bool:
        before, after = parted(self._seconds(), self._marks.injected_s)
        limit_s, ready = normal(before)
        good_s = recovered_s(after, limit_s, ready)
        return good_s is not None and len(after) >= GOOD_FOR_S

    def _seconds(self) -> list[Second]:
        """Return the seconds that are over."""
        tallies = self._probes.tallies() if self._probes is not None else {}
        return list(_joined(tallies, self._ready, int(self._now())))


def _patiently(send: Callable[[], None]) -> None:
    """Send one request, and again while a gateway may not have heard of its key. Raises what is wrong with it."""
    until_s = time.monotonic() + KNOWN_WAIT_S
    while True:
        try:
            return send()
        except Unauthenticated:
            if time.monotonic() >= until_s:
                raise
        time.sleep(LOOK_S)


def _joined(tallies: Mapping[int, Tally], ready: Mapping[int, int], until: int) -> Iterator[Second]:
    """Yield the seconds before `until`, up to the first of which something is still in flight."""
    for at in range(until):
        tally = tallies.get(at, Tally())
        if not tally.is_settled:
            return
        yield Second(float(at), tally.requests, tally.failed, round(tally.slow_s, 4), ready.get(at, -1))
