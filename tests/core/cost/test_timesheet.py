"""Looks at the fleet become hours: no time is lost or counted twice, however often and whenever one looks."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from stoker.core.capacity import Capacity
from stoker.core.cost import timesheet
from stoker.core.cost.attribute import ReplicaTime
from stoker.core.cost.money import HOUR_MS
from stoker.core.cost.timesheet import GAP_MAX_MS, PAUSE_MS, Look, SeenReplica, Sheet

START_MS = 500_000 * HOUR_MS
N1, N2 = Capacity("n1", 8.0, 2**35), Capacity("n2", 4.0, 2**34, gpus=1)


def replica(name: str, node: str = "n1", **changes: object) -> SeenReplica:
    holds = ReplicaTime(name, node, "team", "chat", "1", 1.0, 2**30)
    return SeenReplica(holds, **{"is_ready": True, **changes})  # type: ignore[arg-type]


@st.composite
def histories(draw: st.DrawFn) -> list[Look]:
    """Return looks at a fleet of up to two nodes and four replicas; some late, one perhaps at a clock set back."""
    at_ms, busy_s, found = START_MS, Counter[str](), []
    for _ in range(draw(st.integers(1, 15))):
        at_ms += draw(st.integers(1, 20_000) | st.integers(1, 3 * HOUR_MS) | st.just(GAP_MAX_MS))
        nodes = draw(st.sampled_from([(), (N1,), (N2,), (N1, N2)]))
        replicas = []
        for name, node in (("a", "n1"), ("b", "n1"), ("c", "n2"), ("d", "n2")):
            if draw(st.booleans()) and node in {each.node for each in nodes}:
                busy_s[name] += draw(st.integers(0, 40))
                ready, sleeps = draw(st.booleans()), draw(st.booleans())
                replicas.append(replica(name, node, is_ready=ready, may_sleep=sleeps, busy_s=float(busy_s[name])))
        found.append(Look(at_ms, nodes, tuple(replicas)))
    return found


def told(looks: list[Look]) -> list[Sheet]:
    """Return all hours that the looks tell of, the last one too."""
    sheet, hours = timesheet.begin(START_MS), []
    for each in looks:
        sheet, ended = timesheet.look(sheet, each)
        hours += ended
    return [*hours, sheet]


@given(histories())
def test_every_moment_between_looks_is_counted_once_and_in_its_hour(looks: list[Look]) -> None:
    hours = told(looks)
    wanted: Counter[str] = Counter()
    before_ms = START_MS
    for each in looks:
        if each.at_ms - before_ms <= GAP_MAX_MS:
            for name in (*(node.node for node in each.nodes), *(one.holds.replica for one in each.replicas)):
                wanted[name] += each.at_ms - before_ms
        before_ms = each.at_ms
    found: Counter[str] = Counter()
    for hour in hours:
        for node in hour.present.values():
            found[node.node] += node.present_ms
            assert all(hour.hour_ms <= begin < end <= hour.hour_ms + HOUR_MS for begin, end in node.spans)
            assert all(one[1] <= two[0] for one, two in zip(node.spans, node.spans[1:], strict=False))
        for time in hour.replicas.values():
            found[time.replica] += time.held_ms
            assert time.held_ms <= hour.present[time.node].present_ms
    assert found == wanted
    assert len({hour.hour_ms for hour in hours}) == len(hours)


@given(histories())
def test_an_engine_never_worked_longer_than_its_counter_says(looks: list[Look]) -> None:
    told_s = Counter[str]()
    for each in looks:
        for one in each.replicas:
            told_s[one.holds.replica] = max(told_s[one.holds.replica], int(one.busy_s))
    busy_ms: Counter[str] = Counter()
    for hour in told(looks):
        for time in hour.replicas.values():
            busy_ms[time.replica] += time.busy_ms
    assert all(count <= told_s[name] * 1000 for name, count in busy_ms.items())


@given(st.lists(st.integers(1, 60_000), min_size=1, max_size=30), st.floats(0, 1))
def test_a_steady_engines_share_of_its_time_is_told_however_often_one_looks(steps: list[int], ratio: float) -> None:
    at_ms = START_MS
    looks = [Look(at_ms, (N1,), (replica("a", busy_s=0.0),))]
    for step in steps:
        at_ms += step
        looks.append(Look(at_ms, (N1,), (replica("a", busy_s=(at_ms - START_MS) / 1000 * ratio),)))
    busy_ms = sum(time.busy_ms for hour in told(looks) for time in hour.replicas.values())
    assert abs(busy_ms - (at_ms - START_MS) * ratio) <= 2.0  # whole milliseconds


def test_a_call_that_is_told_at_its_end_is_given_to_the_time_that_follows() -> None:
    looks = [Look(START_MS + at, (N1,), (replica("a", busy_s=busy),)) for at, busy in ((5_000, 0.0), (10_000, 8.0))]
    sheet = told(looks)[-1]
    assert sheet.replicas["a"].busy_ms == 5_000
    sheet, _ = timesheet.look(sheet, Look(START_MS + 15_000, (N1,), (replica("a", busy_s=8.0),)))
    assert (sheet.replicas["a"].busy_ms, sheet.replicas["a"].idle_ms) == (8_000, 7_000)


def test_a_process_that_was_restarted_counts_from_nothing() -> None:
    before, after = replica("a", since_s=1.0, busy_s=100.0), replica("a", since_s=START_MS / 1000 + 6, busy_s=3.0)
    looks = [Look(START_MS + at, (N1,), (one,)) for at, one in ((0, before), (5_000, before), (10_000, after))]
    assert told(looks)[-1].replicas["a"].busy_ms == 3_000


def test_an_agent_that_cannot_say_for_a_moment_how_long_an_engine_worked_makes_no_work_of_it() -> None:
    told_s = ((0, 5_000.0), (5_000, 5_001.0), (10_000, 0.0), (15_000, 5_002.0))
    looks = [Look(START_MS + at, (N1,), (replica("a", since_s=1.0, busy_s=busy_s),)) for at, busy_s in told_s]
    assert told(looks)[-1].replicas["a"].busy_ms == 2_000


def test_what_was_worked_before_the_first_look_is_nobodys_here() -> None:
    looks = [Look(START_MS + at, (N1,), (replica("a", busy_s=100.0),)) for at in (1, 5_000, 10_000)]
    assert told(looks)[-1].replicas["a"].busy_ms == 0


def test_only_what_might_sleep_and_had_no_work_for_a_while_is_kept_warm() -> None:
    steps = range(0, PAUSE_MS + 20_001, 10_000)
    warm = [Look(START_MS + at, (N1,), (replica("a", may_sleep=True),)) for at in steps]
    found = told(warm)[-1].replicas["a"]
    assert (found.idle_ms, found.warm_ms) == (PAUSE_MS, 20_000)
    assert told([Look(each.at_ms, (N1,), (replica("a"),)) for each in warm])[-1].replicas["a"].warm_ms == 0


def test_a_clock_that_is_set_back_adds_nothing_twice() -> None:
    moments = (10_000, 20_000, 12_000, 25_000)
    looks = [Look(START_MS + at, (N1,), (replica("a"),)) for at in moments]
    assert told(looks)[-1].replicas["a"].held_ms == 25_000
    sheet = told(looks)[-1]
    sheet, ended = timesheet.look(sheet, Look(START_MS - HOUR_MS + 5, (N1,), (replica("a"),)))
    assert [each.hour_ms for each in ended] == [START_MS]
    assert (sheet.hour_ms, sheet.replicas) == (START_MS - HOUR_MS, {})
