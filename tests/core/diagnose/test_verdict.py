"""What holds of every diagnosis, whatever the numbers are; and the arithmetic it rests on."""

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.core.diagnose.causes import EVIDENCE_MAX, KINDS, MAKES, REMEDIES, TITLES, CauseKind
from stoker.core.diagnose.outside import poison
from stoker.core.diagnose.shift import Pressure, compare
from stoker.core.diagnose.verdict import CAUSES_MAX, diagnose, weigh
from stoker.core.diagnose.window import PHASES, Change, Part, Signals, Spread, Window

# Many fields; the machine that runs this is seldom alone.
unhurried = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])

amounts = st.one_of(st.just(0.0), st.floats(0, 1e9))
maybe = st.one_of(st.none(), amounts)
spreads = st.builds(Spread, amounts, amounts, amounts, amounts, amounts)
parts = st.dictionaries(st.sampled_from("abc"), st.builds(Part, amounts, amounts, amounts, amounts), max_size=3)
windows = st.builds(
    Window,
    st.just(0.0),
    st.just(600.0),
    requests=amounts,
    errors=amounts,
    refused=st.dictionaries(st.sampled_from(["queue_full", "shed"]), amounts),
    abandoned=amounts,
    latency=spreads,
    slow=amounts,
    phases=st.dictionaries(st.sampled_from(PHASES), spreads),
    prompt_tokens=st.one_of(st.none(), spreads),
    output_tokens=st.one_of(st.none(), spreads),
    rows=st.one_of(st.none(), spreads),
    methods=parts,
    parts=st.dictionaries(st.sampled_from(["replica", "node", "tenant", "revision"]), parts),
    signals=st.builds(Signals, **dict.fromkeys(Signals.__struct_fields__, maybe)),
)


@unhurried
@given(windows, windows)
def test_any_two_windows_give_a_ranking_within_its_bounds(bad: Window, base: Window) -> None:
    found = diagnose(bad, base, [Change(-60.0, "version", "version 2 serves")])
    confidences = [cause.confidence for cause in found.causes]
    assert confidences == sorted(confidences, reverse=True)
    assert all(0 < each < 1 for each in confidences)
    assert len(found.causes) <= CAUSES_MAX
    assert all(len(cause.evidence) <= EVIDENCE_MAX for cause in found.causes)
    assert found.is_wrong or not found.causes


@unhurried
@given(windows)
def test_a_window_compared_with_itself_is_healthy(window: Window) -> None:
    found = diagnose(window, window, [])
    assert not found.is_wrong
    assert found.causes == ()


@unhurried
@given(st.dictionaries(st.sampled_from(KINDS), st.floats(0, 1)))
def test_weighing_never_raises_a_score_and_leaves_a_lone_one_alone(scores: dict[CauseKind, float]) -> None:
    left = weigh(scores)
    assert all(0 <= left[kind] <= scores.get(kind, 0.0) for kind in KINDS)
    if sum(score > 0 for score in scores.values()) == 1:
        assert all(left[kind] == score for kind, score in scores.items())


def test_a_cause_takes_the_score_of_its_consequence() -> None:
    left = weigh({"noisy_tenant": 1.0, "overload": 0.9})
    assert left["noisy_tenant"] == 1.0
    assert left["overload"] < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_words_a_remedy_and_its_consequences(kind: CauseKind) -> None:
    assert TITLES[kind]
    assert REMEDIES[kind]
    assert kind in MAKES


def answered(mean_s: float, count: float = 1000.0) -> Spread:
    return Spread(count, count * mean_s, mean_s, 2 * mean_s, 0.3 * mean_s)


def window(mean_s: float, **more: Any) -> Window:
    return Window(0.0, 600.0, requests=1000.0, latency=answered(mean_s), **more)


def test_added_latency_divides_over_the_phases_without_a_rest() -> None:
    base = window(1.0, phases={"queue": answered(0.2), "decode": answered(0.8)})
    bad = window(3.0, phases={"queue": answered(1.7), "decode": answered(1.3)})
    shift = compare(bad, base)
    assert sum(shift.added_s.values()) == pytest.approx(2.0)
    assert shift.added("queue") == pytest.approx(0.75)


def test_a_phase_that_some_requests_skip_counts_for_all() -> None:
    half = Spread(500.0, 500.0, 1.0, 1.0)
    assert window(1.0, phases={"dependency": half}).phase_s("dependency") == pytest.approx(0.5)


def test_what_nobody_measured_is_not_a_cause() -> None:
    base = window(1.0, phases={"decode": answered(1.0)})
    found = diagnose(window(4.0, phases={"decode": answered(4.0)}), base, [])
    assert found.is_wrong
    assert not {"memory", "saturation", "retry_storm", "cold_start"} & {cause.kind for cause in found.causes}


def test_repeats_count_as_a_cause_of_their_own_only_while_nothing_provokes_them() -> None:
    assert Pressure(repeats=1.5).share("repeats") == 1.0
    assert Pressure(tries=1.5, repeats=1.5).share("repeats") == 0.0
    assert Pressure(tries=1.5, repeats=1.5).share("tries") == 1.0


def test_without_a_baseline_nothing_is_slow_but_errors_are_errors() -> None:
    nothing = Window(0.0, 600.0)
    assert not diagnose(window(4.0, slow=1000.0), nothing, []).is_wrong
    assert diagnose(window(4.0, errors=500.0), nothing, []).is_wrong


def test_few_requests_prove_nothing() -> None:
    base = Window(0.0, 600.0, requests=10.0, latency=answered(1.0, 10.0))
    bad = Window(0.0, 600.0, requests=10.0, errors=3.0, latency=answered(5.0, 10.0))
    assert not diagnose(bad, base, []).is_wrong


def test_a_slow_replica_is_compared_with_its_own_revision_only() -> None:
    def parts_of(slow: str) -> Window:
        replicas = {
            name: Part(250, 0, 250 * (8.0 if name in slow else 1.0), group=name[0]) for name in ("a1", "a2", "b1", "b2")
        }
        return window(4.5, phases={"decode": answered(4.5)}, slow=500.0, parts={"replica": replicas})

    base = window(1.0, phases={"decode": answered(1.0)}, parts={"replica": {}})
    whole_revision = diagnose(parts_of("b1 b2"), base, [])
    one = diagnose(parts_of("b1"), base, [])
    assert "bad_replica" not in {cause.kind for cause in whole_revision.causes}
    assert one.causes[0].kind == "bad_replica"
    assert one.causes[0].where == "replica b1"


def test_replicas_that_die_before_they_are_ready_die_of_no_request() -> None:
    """A crash loop at the load: a corrupt model, a memory that is too small for it."""
    base = Window(0.0, 600.0, requests=3000.0, latency=Spread(3000.0, 30.0, 0.01, 0.02, 0.02))
    dying = Window(600.0, 900.0, requests=1500.0, refused={"unavailable": 1400.0})

    def signal(*, starts: float) -> float:
        signals = Signals(restarts=6.0, starts=starts, cold_requests=1400.0)
        return poison(compare(msgspec.structs.replace(dying, signals=signals), base)).signal

    assert signal(starts=6.0) > 0.4
    assert signal(starts=1.0) <= 0.3
    assert signal(starts=0.0) <= 0.15
