"""What is said of how long starts take: of each revision and engine, phase by phase."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.core.starts import LATELY_MAX, expected_s, quantile, summarise
from stoker.types.starts import FIRST_ANSWER, FORKED, ORDER, TOTAL, Start, Took

SECONDS = st.floats(0.0, 1e4)
PHASES = st.dictionaries(
    st.sampled_from([ORDER, "process", "imports", "verify", "weights", "warm-up", FIRST_ANSWER]), SECONDS
)


def start(at_s: float, phases: dict[str, float], total_s: float = 1.0, revision: str = "a-1") -> Start:
    return Start(f"{revision}-x", revision, "onnx", at_s, phases, total_s)


def test_the_last_start_stands_beside_the_median_and_the_slow_ones() -> None:
    starts = [start(float(n), {"imports": float(n)}, 10.0 + n) for n in range(1, 12)]
    (found,) = summarise(starts)
    imports, total = found.phases
    assert (imports.phase, imports.last_s, imports.median_s, imports.p90_s, imports.starts) == (
        "imports",
        11,
        6,
        10,
        11,
    )
    assert (total.phase, total.last_s, total.median_s, total.p90_s) == (TOTAL, 21, 16, 20)
    assert found.last_at_s == 11.0


def test_the_total_comes_after_its_parts_and_the_first_answer_after_it() -> None:
    early = start(1.0, {ORDER: 0.1, "process": 0.1, "imports": 0.3, "warm-up": 0.2, FIRST_ANSWER: 0.01})
    late = start(2.0, {"process": 0.1, "imports": 0.3, "verify": 0.1})  # started again; nobody asked it yet
    (found,) = summarise([late, early])
    names = [each.phase for each in found.phases]
    assert names == [ORDER, "process", "imports", "warm-up", "verify", TOTAL, FIRST_ANSWER]
    assert found.phases[-1].last_s is None
    assert found.phases[0].last_s is None


def test_a_start_that_was_forked_has_that_in_the_place_of_its_process() -> None:
    alone = start(1.0, {ORDER: 0.1, "process": 0.1, "imports": 0.3, "warm-up": 0.2})
    forked = start(2.0, {"forked": 0.02, "imports": 0.0})
    for starts in ([alone, forked], [start(0.5, {ORDER: 0.1, **forked.phases, "weights": 0.1, "warm-up": 0.2}), alone]):
        (found,) = summarise(starts)
        names = [each.phase for each in found.phases]
        assert {"process", "forked"} < set(names[:3]), names
        assert names.index("imports") == 3


def test_revisions_are_told_apart_and_the_one_that_started_last_comes_first() -> None:
    found = summarise([start(5.0, {}, revision="a-1"), start(9.0, {}, revision="a-2"), start(7.0, {}, revision="a-1")])
    assert [(each.revision, each.phases[-1].starts) for each in found] == [("a-2", 1), ("a-1", 2)]


def test_the_next_start_takes_what_those_took_that_were_made_as_the_last_and_ordered() -> None:
    alone = [start(float(n), {ORDER: 0.5, "process": 0.1}, 3.0) for n in range(3)]
    forked = [start(10.0 + n, {ORDER: 0.25, FORKED: 0.01}, 1.0 + n) for n in range(2)]
    after_a_death = Start("a-1-x", "a-1", "onnx", 20.0, {"process": 0.1}, 9.0, is_restart=True)
    (found,) = summarise([*forked, after_a_death, *alone])
    assert found.lately == (Took(10.0, 1.25), Took(11.0, 2.25))
    assert summarise(alone)[0].lately == tuple(Took(float(n), 3.5) for n in range(3))
    assert summarise([after_a_death])[0].lately == ()
    many = [start(float(n), {"process": 0.1}, 1.0) for n in range(LATELY_MAX + 5)]
    assert [each.at_s for each in summarise(many)[0].lately] == [float(n) for n in range(5, LATELY_MAX + 5)]


def test_scaling_counts_with_a_slow_start_and_knows_when_it_knows_none() -> None:
    assert expected_s([float(n) for n in range(1, 12)]) == 10.0
    assert expected_s([]) == 0.0


@given(st.lists(st.builds(start, SECONDS, PHASES, SECONDS), min_size=1, max_size=20))
def test_every_phase_is_told_of_once_and_is_slow_where_it_is_slow(starts: list[Start]) -> None:
    (found,) = summarise(starts)
    names = [each.phase for each in found.phases]
    assert len(names) == len(set(names))
    assert set(names) == {TOTAL}.union(*(each.phases for each in starts))
    for each in found.phases:
        seen = [one.total_s if each.phase == TOTAL else one.phases.get(each.phase) for one in starts]
        taken = [seconds for seconds in seen if seconds is not None]
        assert each.starts == len(taken)
        assert min(taken) <= each.median_s <= max(taken)
        assert each.median_s <= each.p90_s or len(taken) < 3
        assert each.p90_s in taken


@given(st.lists(SECONDS, min_size=1), st.floats(0.0, 1.0))
def test_a_quantile_is_a_value_that_was_seen(values: list[float], ratio: float) -> None:
    assert quantile(values, ratio) in values
    assert quantile(values, 0.0) == min(values)
    assert quantile(values, 1.0) == max(values)
