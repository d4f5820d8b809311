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
parts = st.dictionaries(
    st.sampled_from("abc"), st.builds(Part, amounts, amounts, amounts, amounts, stalled_s=amounts), max_size=3
)
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
    gpus=st.dictionaries(st.sampled_from(["n0/0", "n0/1"]), amounts, max_size=2),
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


def hung(stalled_s: float, replicas: tuple[str, ...] = ("a1",)) -> tuple[Window, Window]:
    """Return a bad window and its baseline: the first replica stood still until it was killed, and the wait is over.

    What had waited is answered in a moment, so that more is answered a second than before.
    """
    requests = 100.0
    share = requests / len(replicas)
    parts = {
        name: Part(share, 0, share * (6.0 if name == replicas[0] else 0.1), 0, "a", stalled_s * (name == replicas[0]))
        for name in replicas
    }
    usual = {name: Part(1000 / len(replicas), 0, 100 / len(replicas), 0, "a") for name in replicas}
    base = Window(
        0.0, 600.0, requests=1000.0, latency=answered(0.1), phases={"compute": answered(0.1)},
        parts={"replica": usual}, signals=Signals(restarts=0.0, cold_requests=0.0, starts=0.0, replicas_ready=1.0,
                                                  replicas_wanted=1.0, ejections=0.0, client_retries=0.0),
        slow_over_s=0.3,
    )  # fmt: skip
    bad = Window(
        600.0, 620.0, requests=requests, errors=30.0, abandoned=20.0, latency=answered(12.0, requests),
        slow=90.0, slow_over_s=0.3,
        phases={"queue": answered(8.0, requests), "compute": answered(0.2, requests), "retry": answered(3.8, requests)},
        parts={"replica": parts}, signals=Signals(restarts=1.0, cold_requests=30.0, starts=1.0, replicas_ready=0.6,
                                                  replicas_wanted=1.0, ejections=1.0, client_retries=0.0),
    )  # fmt: skip
    return bad, base


def test_a_lone_replica_that_stood_still_is_a_bad_replica_and_no_overload() -> None:
    found = diagnose(*hung(25.0), [Change(618.0, "restart", "restarted replica a1: answered no PING for 30 s", "a1")])
    kinds = {cause.kind: cause for cause in found.causes}
    assert found.causes[0].kind == "bad_replica", found.causes
    assert found.causes[0].where == "replica a1"
    assert found.causes[0].confidence > 0.7
    assert "replica a1 stood still for 25.0 s with requests in it" in found.causes[0].evidence
    assert all(kinds[kind].confidence < 0.3 for kind in ("overload", "cold_start", "scale_lag") if kind in kinds)


def test_replicas_that_all_stand_still_are_not_one_bad_replica() -> None:
    bad, base = hung(25.0, ("a1", "a2", "a3"))
    parts = {name: Part(33, 0, 33 * 6.0, 0, "a", 25.0) for name in ("a1", "a2", "a3")}
    found = diagnose(msgspec.structs.replace(bad, parts={"replica": parts}), base, [])
    assert "bad_replica" not in {cause.kind for cause in found.causes}


@pytest.mark.parametrize(
    ("signals", "line"),
    [
        ({"memory_deaths": 2.0, "restarts": 2.0}, "2 replicas were killed for taking more memory than they may"),
        ({"memory_pressure_ratio": 0.4}, "work waits for memory 40 % of the time, 1.0 % before"),
    ],
)
def test_memory_that_is_short_is_seen_by_deaths_and_by_waiting_for_it(signals: dict[str, float], line: str) -> None:
    usual = Signals(memory_deaths=0.0, restarts=0.0, memory_pressure_ratio=0.01)
    base = window(1.0, phases={"decode": answered(1.0)}, signals=usual, slow_over_s=3.0)
    now = msgspec.structs.replace(usual, **signals)
    bad = window(4.0, errors=100.0, phases={"decode": answered(4.0)}, signals=now, slow_over_s=3.0, slow=500.0)
    found = diagnose(bad, base, [])
    assert found.causes[0].kind == "memory", found.causes
    assert line in found.causes[0].evidence


def test_answers_that_loop_are_another_behaviour_of_the_model() -> None:
    base = window(1.0, signals=Signals(repeating_outputs=2.0))
    found = diagnose(window(1.0, signals=Signals(repeating_outputs=150.0)), base, [])
    assert found.causes[0].kind == "model_behaviour"
    assert "15 % of the answers are repeating, 0.2 % before" in found.causes[0].evidence


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


def test_a_gpu_that_filled_up_is_named_and_one_that_was_always_full_is_not() -> None:
    base = window(1.0, phases={"decode": answered(1.0)}, gpus={"n0/0": 0.99, "n0/1": 0.3})
    phases = {"decode": answered(4.0)}
    filled = diagnose(window(4.0, phases=phases, gpus={"n0/0": 0.99, "n0/1": 0.98}), base, [])
    assert [(cause.kind, cause.where) for cause in filled.causes] == [("gpu_saturation", "gpu n0/1")]
    assert "n0/1 busy 98 %, 30 % before" in filled.causes[0].evidence[0]
    for gpus in ({"n0/0": 0.99, "n0/1": 0.3}, {"n0/2": 1.0}, {}):
        found = diagnose(window(4.0, phases=phases, gpus=gpus), base, [])
        assert "gpu_saturation" not in {cause.kind for cause in found.causes}
        assert ("gpu_saturation" in found.not_judged) == (not gpus)


def test_a_worse_revision_is_named_with_its_own_change_and_not_with_the_way_back() -> None:
    revisions = {"a-1": Part(500.0, 0.0, 500.0), "a-2": Part(500.0, 500.0, 500.0)}
    bad = window(1.0, errors=500.0, parts={"revision": revisions})
    base = window(1.0, parts={"revision": {"a-1": Part(1000.0, 0.0, 1000.0)}})
    changes = [Change(-3.0, "traffic", "traffic to 2", "a-2"), Change(25.0, "traffic", "traffic to 1", "a-1")]
    (first, *_) = diagnose(bad, base, changes).causes
    assert (first.kind, first.where) == ("change", "revision a-2")
    assert "traffic to 2, 3 s before it began" in first.evidence
    assert not any("traffic to 1" in each for each in first.evidence)
