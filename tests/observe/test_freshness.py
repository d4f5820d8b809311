"""A freshness objective: an answer is good while the version that gave it is young, however long ago it was given."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core.snapshot import EndpointState
from stoker.observe.objectives import ages, slis
from stoker.observe.objectives.ages import Ages
from stoker.observe.objectives.judge import Judge
from stoker.observe.port import TICK_S
from stoker.store.revisions import Made
from stoker.telemetry.metrics import Registry
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.resources import Endpoint, EndpointSpec, Metadata
from stoker.types.slos import Objective
from tests.observe.rig import START_S, Counting, Rig

KEY = (ProjectName("default"), EndpointName("a"))
YOUNG = Objective(name="young", sli="freshness", under="1h", target=0.9, window="6h")
UNDER_S = 3600.0


def state(spec: EndpointSpec | None = None, serving: str = "") -> EndpointState:
    spec = spec or EndpointSpec(model="m", slos=(YOUNG,))
    return EndpointState(*KEY, 1, Endpoint(Metadata("a"), spec), 0.0, serving=serving)


def answer(process: Counting, revision: str, count: int = 1, outcome: str = "good") -> None:
    labels = {"project": "default", "endpoint": "a", "revision": revision, "outcome": outcome}
    process.registry.counter("stoker_first_attempts_total", **labels).add(count)


def judged(rig: Rig, made: dict[str, float], objective: Objective = YOUNG) -> tuple[float, float]:
    """Return how many answers of the objective's whole window were old, of how many."""
    found = slis.source(*KEY, objective, made, rig.clock.now_s)
    (total,), *parts = rig.run(rig.history.sums([found.total, *found.parts], [6 * 3600.0]))
    assert not found.parts_are_good
    return sum(part for (part,) in parts), total


def test_answers_turn_bad_at_the_moment_their_version_is_too_old_and_those_before_stay_good(rig: Rig) -> None:
    process = Counting()
    made = {"default.a-1": START_S + 60.0 - UNDER_S}  # a minute of its youth is left
    for _ in range(20):
        rig.tick(process)
        answer(process, "default.a-1", 10)
    rig.tick(process)
    # Counted in the cells that end 10, 15 … 105 s after the start.
    assert judged(rig, made) == (10 * 9, 200)
    assert judged(rig, {"default.a-1": START_S - 2.0}) == (0, 200)
    assert judged(rig, {"default.a-1": 0.0}) == (200, 200)


def test_only_answers_of_a_version_are_judged(rig: Rig) -> None:
    process = Counting()
    rig.tick(process)
    answer(process, "default.a-1", 3)
    answer(process, "default.a-1", 5, outcome="bad")  # that is another objective's
    answer(process, "", 7)
    rig.tick(process)
    assert judged(rig, {"default.a-1": 0.0}) == (3, 3)
    assert judged(rig, {}) == (0, 3)  # nobody knows how old it is


@settings(max_examples=40, deadline=None)
@given(
    ages_s=st.lists(st.integers(-7200, 300), min_size=1, max_size=4),
    answers=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=50),
)
def test_what_is_counted_is_what_counting_each_answer_with_its_versions_age_gives(
    tmp_path_factory: pytest.TempPathFactory, ages_s: list[int], answers: list[tuple[int, int]]
) -> None:
    rig = Rig(tmp_path_factory.mktemp("history") / "metrics.db")
    process = Counting()
    made = {f"default.a-{number}": START_S + age_s for number, age_s in enumerate(ages_s)}
    old = 0
    rig.tick(process)
    for which, count in answers:
        revision = f"default.a-{which % len(ages_s)}"
        answer(process, revision, count)
        rig.tick(process)
        # A cell counts when it ends, as every window does; the moment is rounded down to the grid.
        old += count if rig.clock.now_s > (made[revision] + UNDER_S) // TICK_S * TICK_S else 0
    assert judged(rig, made) == (old, sum(count for _, count in answers))
    rig.close()


def test_versions_that_the_database_forgot_are_told_by_the_gauge_in_the_history(rig: Rig) -> None:
    process = Counting("control")
    first = Ages(rig.history, process.registry)
    forgotten = Made(KEY, "default.a-1", START_S - 7000.0)
    rig.run(first.follow([state(serving="default.a-1")], [forgotten], rig.clock.now_s))
    rig.tick(process)
    rig.run(first.follow([state(serving="default.a-2")], [Made(KEY, "default.a-2", START_S + 5.0)], rig.clock.now_s))
    rig.tick(process)
    shown = process.registry.snapshot().matching(ages.MADE)
    assert [(one.labels[-1], one.value) for one in shown] == [("default.a-2", START_S + 5.0)]
    again = Ages(rig.history, Registry("control"))  # another process, and the first revision is no more
    rig.run(again.follow([state()], [Made(KEY, "default.a-2", START_S + 5.0)], rig.clock.now_s))
    assert again.of(state()) == {"default.a-1": START_S - 7000.0, "default.a-2": START_S + 5.0}


def test_an_endpoint_has_its_own_versions_and_one_that_is_gone_is_let_go(rig: Rig) -> None:
    known = Ages(rig.history, Registry("control"))
    other = msgspec.structs.replace(state(), name=EndpointName("b"))
    rig.run(known.follow([state(), other], [Made(other.key, "default.b-1", 5.0)], rig.clock.now_s))
    assert (known.of(state()), known.of(other)) == ({}, {"default.b-1": 5.0})
    rig.run(known.follow([state()], [], rig.clock.now_s))
    assert known.known() == set()


def test_an_endpoint_whose_version_grows_old_burns_and_a_new_version_ends_it(rig: Rig) -> None:
    process, judge = Counting(), Judge(rig.history, Registry("control"))
    made = {"default.a-1": START_S - UNDER_S + 300.0}

    def look() -> str:
        (standing,) = rig.run(judge.look([state()], {}, {}, lambda _state: made, rig.clock.now_s))
        return standing.decision.severity

    seen = []
    for number in range(240):
        answer(process, "default.a-1" if number < 120 else "default.a-2", 20)
        if number == 120:
            made["default.a-2"] = rig.clock.now_s
        rig.tick(process)
        seen.append(look())
    assert set(seen[:59]) == {"none"}
    assert seen[65] == "page"
    assert seen[-1] == "none"


def test_a_question_after_a_moment_counts_nothing_before_it_whatever_the_window(rig: Rig) -> None:
    process = Counting()
    rig.tick(process, seconds=60)  # beyond 70 minutes, cells are minutes
    rig.minutes(3 * 60, process, each=lambda _number: answer(process, "default.a-1"))
    found = slis.source(*KEY, YOUNG, {"default.a-1": 1.0}, rig.clock.now_s)
    for back_s in (60.0, 600.0, 5400.0):
        after = msgspec.structs.replace(found.total, after_s=rig.clock.now_s - back_s)
        counts = rig.run(rig.history.sums([after, found.total], [60.0, 1200.0, 9000.0]))
        assert counts[0] == (1, min(back_s, 1200.0) / 60, min(back_s, 9000.0) / 60)
        assert counts[1] == (1, 20, 150)
