"""Who is told of what: tables an operator would ask about, then what holds for any history."""

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stoker.core import alerts, notices
from stoker.core.alerts import LIFE, Signal, Silence, alert_id
from stoker.core.notices import AlertMemory, Notice, Route
from stoker.types.slos import Severity

PHONE = Route("default/phone", repeat_s=600.0)
EVERY_S = 5.0


def burning(
    endpoint: str = "digits", slo: str = "answers", severity: Severity = "page", sli: str = "availability"
) -> Signal:
    labels = {"alertname": "SloBurn", "project": "default", "endpoint": endpoint, "slo": slo, "sli": sli}
    return Signal(labels, severity, summary=f"{endpoint} burns", because="it fails")


class Desk:
    """A platform's alerts over time; every memory goes through its stored form, as over a restart."""

    def __init__(self, *routes: Route) -> None:
        self.routes = routes or (PHONE,)
        self.memory = AlertMemory()
        self.now_s = 1_000_000.0
        self.told: list[Notice] = []

    def look(self, *signals: Signal, after_s: float = EVERY_S) -> Sequence[Notice]:
        self.now_s += after_s
        decision = notices.decide(signals, self.routes, self.memory, self.now_s)
        self.memory = msgspec.json.decode(msgspec.json.encode(decision.memory), type=AlertMemory)
        self.told += decision.notices
        return decision.notices

    def states(self) -> dict[str, str]:
        return {alert.labels["slo"]: alert.state for alert in self.memory.alerts.values()}


def test_a_page_is_told_at_once_then_after_its_repeat_then_its_end_once() -> None:
    desk = Desk()
    times = []
    for _ in range(300):
        times += [(notice.at_s - 1_000_005, notice.is_firing) for notice in desk.look(burning())]
    for _ in range(300):
        times += [(notice.at_s - 1_000_005, notice.is_firing) for notice in desk.look()]
    assert times == [(0, True), (600, True), (1200, True), (1500, False)]
    assert desk.states() == {"answers": "resolved"}


def test_an_alert_that_somebody_took_is_not_told_again_but_its_end_is() -> None:
    desk = Desk()
    desk.look(burning())
    (key,) = desk.memory.alerts
    desk.memory = notices.acknowledge(desk.memory, key, "ada", desk.now_s)
    assert [notice for _ in range(500) for notice in desk.look(burning())] == []
    assert desk.memory.alerts[key].acknowledged_by == "ada"
    (end,) = desk.look()
    assert not end.is_firing


def test_a_ticket_that_somebody_took_is_told_when_it_becomes_a_page() -> None:
    desk = Desk()
    desk.look(burning(severity="ticket"))
    (key,) = desk.memory.alerts
    desk.memory = notices.acknowledge(desk.memory, key, "ada", desk.now_s)
    (notice,) = desk.look(burning(severity="page"))
    assert notice.alerts[0].severity == "page"
    assert desk.look(burning(severity="ticket"), after_s=61) == ()


def test_what_lasts_too_short_is_never_told() -> None:
    desk = Desk()
    held = msgspec.structs.replace(burning(), holds_s=30.0)
    for _ in range(6):
        assert desk.look(held) == ()
    assert desk.states() == {"answers": "pending"}
    assert desk.look() == ()
    assert desk.states() == {}
    assert [len(desk.look(held)) for _ in range(8)] == [0, 0, 0, 0, 0, 0, 1, 0]


def test_a_silence_holds_alerts_with_its_labels_until_it_ends() -> None:
    desk = Desk()
    desk.memory = notices.silence(desk.memory, Silence("1", {"endpoint": "dig*"}, desk.now_s + 300, "ada", "upgrade"))
    both = burning("digits"), burning("smol", slo="other")
    assert [notice.group for notice in desk.look(*both)] == ["default/smol"]
    assert desk.states() == {"answers": "silenced", "other": "firing"}
    assert "upgrade" in next(each.muted_by for each in desk.memory.alerts.values() if each.muted_by)
    assert [notice.group for notice in desk.look(*both, after_s=301)] == ["default/digits"]
    assert desk.memory.silences == {}


def test_whoever_was_told_before_a_silence_hears_of_the_end_and_who_was_not_hears_nothing() -> None:
    desk = Desk()
    desk.look(burning("digits"))
    desk.memory = notices.silence(desk.memory, Silence("1", {"project": "default"}, desk.now_s + 3600))
    desk.look(burning("digits"), burning("smol", slo="other"))
    (end,) = desk.look(after_s=61)
    assert [(alert.labels["endpoint"], alert.state) for alert in end.alerts] == [("digits", "resolved")]
    assert desk.look(after_s=61) == ()


def test_a_silence_of_everything_is_refused() -> None:
    for match in ({}, {"endpoint": "*"}, {"endpoint": ""}):
        with pytest.raises(ValueError, match="at least one label"):
            notices.silence(AlertMemory(), Silence("1", match, 2e9))


def test_an_endpoint_that_fails_tells_nothing_of_being_slow_and_a_rollout_holds_tickets_only() -> None:
    desk = Desk()
    slow = burning(slo="quick", sli="latency", severity="page")
    assert [[a.labels["slo"] for a in notice.alerts] for notice in desk.look(burning(), slow)] == [["answers"]]
    assert desk.states() == {"answers": "firing", "quick": "silenced"}
    other = Desk()
    rollout = Signal({"alertname": "RolloutInProgress", "project": "default", "endpoint": "digits"}, "none")
    ticket = burning(slo="leak", severity="ticket")
    assert other.look(rollout, ticket) == ()
    assert [a.labels["slo"] for notice in other.look(rollout, ticket, burning()) for a in notice.alerts] == ["answers"]
    assert [a.labels["slo"] for n in other.look(ticket, burning(), after_s=61) for a in n.alerts] == ["leak"]


def test_receivers_get_what_their_labels_project_and_severity_ask_for() -> None:
    desk = Desk(
        Route("default/all"),
        Route("default/pages", min_severity="page"),
        Route("search/team", project="search"),
        Route("default/smol", match={"endpoint": "smol"}),
    )
    desk.look(burning("digits", severity="ticket"), burning("smol"))
    got = sorted((notice.receiver, notice.alerts[0].labels["endpoint"]) for notice in desk.told)
    assert got == [
        ("default/all", "digits"),
        ("default/all", "smol"),
        ("default/pages", "smol"),
        ("default/smol", "smol"),
    ]


def test_a_thousand_endpoints_that_fail_at_once_are_a_handful_of_notices_that_name_or_count_every_one() -> None:
    desk = Desk()
    signals = [burning(f"e{number}") for number in range(1000)]
    told = desk.look(*signals)
    assert len(told) == notices.NOTICES_MAX
    assert sum(len(notice.alerts) + notice.left_out for notice in told) == 1000
    assert [notice for _ in range(12) for notice in desk.look(*signals)] == []


def test_a_signal_over_the_most_alerts_is_dropped_and_counted_the_least_urgent_first() -> None:
    many = [burning(f"e{number}", severity="ticket") for number in range(alerts.ALERTS_MAX)]
    decision = notices.decide([*many, burning("urgent")], (PHONE,), AlertMemory(), 1.0)
    assert decision.dropped == 1
    assert any(alert.labels["endpoint"] == "urgent" for alert in decision.memory.alerts.values())


def test_a_receiver_that_is_gone_is_forgotten_and_its_outbox_too() -> None:
    desk = Desk()
    desk.look(burning())
    desk.routes = (Route("default/other"),)
    (notice,) = desk.look(burning())
    assert notice.receiver == "default/other"
    assert {each.receiver for each in desk.memory.outbox} == {"default/other"}


def test_the_outbox_of_a_dead_receiver_keeps_the_newest() -> None:
    desk = Desk()
    for number in range(200):
        desk.look(*([burning()] if number % 2 else []), after_s=61)
    held = [notice.number for notice in desk.memory.outbox]
    assert len(held) == notices.OUTBOX_MAX
    assert held[-1] == desk.told[-1].number
    assert notices.delivered(desk.memory, held).outbox == ()


def test_what_goes_up_and_down_is_a_page_once() -> None:
    desk = Desk(PHONE)
    desk.look(burning(severity="ticket"))
    assert [notice.alerts[0].severity for notice in desk.look(burning(severity="page"), after_s=61)] == ["page"]
    for _ in range(4):
        assert desk.look(burning(severity="ticket"), after_s=61) == ()
        assert desk.look(burning(severity="page"), after_s=61) == ()


def test_the_same_alert_has_the_same_id_in_every_process() -> None:
    assert alert_id({"b": "2", "a": "1"}) == alert_id({"a": "1", "b": "2"}) == "e47bef49ec7a4c7d"


def test_every_state_of_the_table_can_be_left() -> None:
    states = {state for state, _ in LIFE} | {state for state in LIFE.values() if state}
    assert states - {"resolved"} == {state for state, _ in LIFE}


NAMES = ("a", "b", "c")
ACTS = st.lists(
    st.tuples(
        st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from(["x", "y"])), max_size=6),  # what is wrong now
        st.sampled_from(["page", "ticket"]),
        st.sampled_from([None, None, None, "acknowledge", "silence", "unsilence"]),
        st.sampled_from([5.0, 5.0, 30.0, 61.0, 400.0]),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@example(
    [
        (wrong, severity, None, after_s)
        for wrong, severity, after_s in (
            ({("a", "x")}, "ticket", 5.0),
            ({("a", "x")}, "page", 5.0),
            ({("a", "x")}, "ticket", 5.0),
            ({("a", "x")}, "page", 61.0),
        )
    ]
)
@given(ACTS)
def test_any_history_tells_each_alert_at_least_once_not_too_often_and_its_end_exactly_once(
    acts: list[tuple[set[tuple[str, str]], Severity, str | None, float]],
) -> None:
    desk = Desk(PHONE, Route("default/slow", repeat_s=3600.0))
    fired: set[str] = set()
    excused: set[str] = set()  # taken or silenced at some moment, maybe before it was told
    severity: Severity
    quiet = [(set[tuple[str, str]](), acts[0][1], None, 700.0)] * 3
    for wrong, severity, act, after_s in (*acts, *quiet):
        desk.look(*(burning(name, slo=slo, severity=severity) for name, slo in wrong), after_s=after_s)
        fired |= {key for key, alert in desk.memory.alerts.items() if alert.state == "firing"}
        excused |= {key for key, alert in desk.memory.alerts.items() if alert.state == "silenced"}
        if act == "acknowledge":
            excused |= desk.memory.alerts.keys()
            for key in desk.memory.alerts:
                desk.memory = notices.acknowledge(desk.memory, key, "ada", desk.now_s)
        if act == "silence":
            desk.memory = notices.silence(desk.memory, Silence("s", {"endpoint": "a"}, desk.now_s + 120))
        if act == "unsilence" and desk.memory.silences:
            desk.memory = notices.unsilence(desk.memory, "s")
    for route in desk.routes:
        mine = [notice for notice in desk.told if notice.receiver == route.receiver]
        for at_s in (notice.at_s for notice in mine):
            recent = [notice for notice in mine if at_s - notices.NOTICES_PER_S < notice.at_s <= at_s]
            assert len(recent) <= notices.NOTICES_MAX
        for key in fired:
            told = [(notice.at_s, each) for notice in mine for each in notice.alerts if each.id == key]
            assert told or key in excused, "an alert that fired was never told"
            going = [(at_s, each) for at_s, each in told if each.state != "resolved"]
            for (one_s, one), (two_s, two) in pairwise(going):
                if one.began_s == two.began_s and one.severity == two.severity == "page":
                    assert two_s - one_s >= min(route.repeat_s, two_s - two.since_s), "told again too soon"
            ends = [each.began_s for _, each in told if each.state == "resolved"]
            assert len(ends) == len(set(ends)), "an end was told twice"
            assert {each.began_s for _, each in going} <= set(ends), "an end was never told"
