"""Advice keeps what is promised in its own simulation, saves something, and whoever follows it is left in peace."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core.cost import fit
from stoker.sim.arrivals import Arrivals
from stoker.sim.platform import plan
from stoker.sim.sizing.advice import WORTH_RATIO, Advice, Way, advise
from stoker.sim.sizing.answer import Range
from stoker.sim.sizing.demand import counted
from stoker.sim.sizing.slos import Slo
from stoker.sim.sizing.trial import Kind
from stoker.types.errors import InvalidInput

ENGINE = plan.Batching(base_s=0.02, row_s=0.004, max_rows=4)
LATENCY = Slo("latency", 0.95, 0.5)


def kind(*slos: Slo, cold_start_s: float = 5.0) -> Kind:
    return Kind(ENGINE, slos, cold_start_s)


def way(least: int, most: int, idle_timeout_s: float = 600.0, cores: float = 1.0) -> Way:
    return Way(Range(least, most), idle_timeout_s, cores)


def came(*per_minute: int) -> Arrivals:
    return counted(per_minute, 0)


def advised(of: Kind, now: Way, recorded: Arrivals) -> Advice:
    return advise(of, now, recorded, replicas_max=8)


def test_who_is_called_an_hour_of_many_may_sleep() -> None:
    found = advised(kind(LATENCY), way(2, 2), came(*[0] * 20, *[40] * 10, *[0] * 60))
    assert found.then is not None
    assert found.then_effect is not None
    assert found.then.range.min == 0
    assert found.saved_ratio > 0.8
    assert found.then_effect.late_ratio <= 0.05


def test_sleep_is_not_advised_where_each_wake_breaks_the_promise() -> None:
    once_in_a_while = came(*([1] + [0] * 19) * 3)
    found = advised(kind(LATENCY), way(1, 1), once_in_a_while)
    assert found.is_kept
    assert found.then is None
    relaxed = advised(kind(Slo("latency", 0.95, 20.0)), way(1, 1), once_in_a_while)
    assert relaxed.then is not None
    assert relaxed.then.range.min == 0


def test_an_endpoint_without_a_promise_is_held_to_what_it_would_do_with_replicas_to_spare() -> None:
    found = advised(kind(), way(1, 1), came(*([1] + [0] * 19) * 3))
    assert not found.is_promised
    assert found.slos[0].limit_s < 1.0
    assert found.then is None


def test_what_does_not_keep_its_promise_is_given_more() -> None:
    slow = Kind(plan.Batching(base_s=0.2, row_s=0.0, max_rows=1), (Slo("latency", 0.9, 0.5),), 5.0)
    found = advised(slow, way(1, 1), came(*[360] * 5))
    assert not found.is_kept
    assert found.then is not None
    assert found.then_effect is not None
    assert found.then.range.max > 1
    assert found.saved_ratio < 0.0
    assert found.then_effect.kept["latency_p90"] >= 0.9


def test_cores_are_taken_only_where_a_slower_engine_still_keeps_the_promise() -> None:
    recorded, now = came(*[30] * 20), way(1, 1, cores=4.0)
    of = Kind(ENGINE, (Slo("latency", 0.95, 0.5),), 5.0, cores=4.0)
    found = advise(of, now, recorded, replicas_max=4, fewer=lambda cores: (1.0, 0.25))
    assert found.then is not None
    assert (found.then.cores, found.then.share) == (1.0, 0.25)
    tight = Kind(ENGINE, (Slo("latency", 0.95, 0.05),), 5.0, cores=4.0)
    assert advise(tight, now, recorded, replicas_max=4, fewer=lambda cores: (1.0, 0.25)).then is None


def test_nothing_is_simulated_where_nothing_came() -> None:
    with pytest.raises(InvalidInput, match="nothing came"):
        advised(kind(LATENCY), way(1, 1), Arrivals(np.zeros(0), 600.0, np.zeros(0, int), np.zeros(0, int)))


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.sampled_from((0, 0, 0, 1, 13, 200)), min_size=10, max_size=20).filter(any),
    st.integers(0, 3),
    st.integers(1, 3),
    st.sampled_from((0.2, 1.0, 10.0)),
    st.sampled_from((1.0, 8.0)),
    st.booleans(),
)
def test_advice_keeps_its_promises_saves_something_and_is_final(
    counts: list[int], least: int, more: int, limit_s: float, cold_start_s: float, is_promised: bool
) -> None:
    engine = plan.Batching(base_s=0.06, row_s=0.012, max_rows=4)  # slow, so that few requests to simulate keep it busy
    of = Kind(engine, (Slo("latency", 0.95, limit_s),) if is_promised else (), cold_start_s)
    now, recorded = way(least, max(least, 1) + more - 1), came(*counts)
    found = advised(of, now, recorded)
    if found.then is None:
        return
    assert found.then_effect is not None
    assert all(found.then_effect.kept[each.name] >= each.target for each in found.slos)
    assert found.saved_ratio >= WORTH_RATIO or (is_promised and not found.is_kept)
    assert found.then.range.max >= now.range.max, "room for bursts costs nothing"
    again = advised(of, found.then, recorded)
    assert again.then is None, f"{found.then} was advised, and then {again.then}"
    assert again.is_kept


# ---- what of a node


@given(st.integers(1, 1 << 36), st.integers(0, 1 << 36))
def test_memory_has_room_over_the_most_that_was_seen_and_is_advised_once(now: int, seen: int) -> None:
    wanted = fit.memory(now, seen)
    assert fit.memory(wanted, seen) == wanted
    if wanted < now:
        assert wanted >= seen * fit.MEMORY_ROOM
        assert wanted <= now * fit.LESS_RATIO
    if wanted > now:
        assert seen * fit.MEMORY_ROOM > now


@given(st.floats(0.05, 64.0), st.floats(0.0, 64.0))
def test_cores_are_never_more_than_now_and_are_advised_once(now: float, seen: float) -> None:
    wanted = fit.cores(now, seen)
    assert wanted <= now
    assert fit.cores(wanted, seen) == wanted
    assert wanted == now or wanted >= min(seen * fit.CORES_ROOM, now)


def test_a_replica_holds_the_larger_of_its_shares() -> None:
    assert fit.share((1.0, 1 << 30), (4.0, 16 << 30)) == 0.25
    assert fit.share((1.0, 8 << 30), (4.0, 16 << 30)) == 0.5
    assert fit.share((9.0, 0), (4.0, 1)) == 1.0
    assert math.isclose(fit.share((0.5, 0), (2.0, 1)), 0.25)
