"""What stays true of every scaling decision, whatever was seen before."""

import math

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core.scale import load
from stoker.core.scale.decide import STALE_S, decide
from stoker.core.scale.forecast import RATES_MAX, SLOTS
from stoker.core.scale.memory import GAPS_MAX, PEAKS_MAX, Memory
from stoker.core.scale.policy import Policy
from stoker.core.scale.sight import Language, Sight

NOW_S = 1_800_000_000.0
rates = st.floats(0.0, 5_000.0)
ratios = st.none() | st.floats(0.0, 1.0)

policies = st.builds(
    Policy,
    min=st.integers(0, 6),
    max=st.integers(6, 60),
    utilization=st.sampled_from((0.0, 0.5, 0.9)),
    drain_s=st.floats(1.0, 60.0),
    down_window_s=st.sampled_from((0.0, 30.0, 600.0)),
    idle_timeout_s=st.sampled_from((0.0, 120.0)),
    waiting_worth=st.sampled_from((0.0, 20.0)),
    fallback_replicas=st.integers(0, 5),
    queue_max=st.sampled_from((0, 512)),
)


@st.composite
def sights(draw: st.DrawFn) -> Sight:
    """What may be seen, at any age; the moment is given later."""
    return Sight(
        at_s=draw(st.sampled_from((0.0, 0.0, 0.0, 1.0, 16.0, 500.0))),
        rate_short=draw(rates),
        rate_long=draw(rates),
        span_s=draw(st.sampled_from((60.0, 60.0, 4.0))),
        arrived=draw(st.integers(0, 10_000)),
        since_s=draw(st.sampled_from((0.0, 2.0))),
        service_s=draw(st.floats(0.0, 100.0)),
        ended=draw(st.integers(0, 10_000)),
        places=draw(st.sampled_from((0.0, 1.0, 4.0, 256.0))),
        waiting=draw(st.integers(0, 10_000)),
        in_flight=draw(st.integers(0, 1_000)),
        ready=draw(st.integers(0, 60)),
        pending=draw(st.integers(0, 60)),
        cold_start_s=draw(st.sampled_from((0.0, 0.5, 40.0, 900.0))),
        failures=draw(st.sampled_from((0, 0, 0, 1, 50))),
        cpu_ratio=draw(ratios),
        language=draw(
            st.builds(
                Language,
                kv_free_ratio=ratios,
                waiting=st.none() | st.floats(0.0, 100.0),
                tokens_per_s=st.none() | st.floats(0.0, 1e6),
                replica_tokens_per_s=st.none() | st.floats(0.0, 1e5),
            )
        ),
    )


histories = st.lists(st.tuples(sights(), st.sampled_from((0.5, 2.0, 2.0, 30.0, 4_000.0))), min_size=1, max_size=10)


@settings(max_examples=50, deadline=None)
@given(policies, histories)
def test_bounds_are_kept_old_numbers_take_nothing_away_and_no_memory_grows(
    policy: Policy, history: list[tuple[Sight, float]]
) -> None:
    memory, now_s = Memory(), NOW_S
    for seen, passed_s in history:
        now_s += passed_s
        sight = msgspec.structs.replace(seen, at_s=now_s - seen.at_s)
        before = memory.desired if memory.desired is not None else sight.ready + sight.pending
        found = decide(sight, policy, memory, now_s)
        assert policy.min <= found.desired <= policy.max
        assert found.because
        is_old = seen.at_s > STALE_S or sight.failures
        if is_old:
            assert found.desired >= min(before, policy.max), found.because
        if found.desired < before and found.desired and before <= policy.max:
            assert found.desired >= before // 2
        if found.limit:
            assert found.desired == policy.max
        memory = found.memory
        assert len(memory.peaks) <= PEAKS_MAX + 1
        assert len(memory.gaps) <= GAPS_MAX
        assert len(memory.day.slots) in (0, SLOTS)
        assert len(memory.day.rates) <= RATES_MAX
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(memory), type=Memory) == memory


@settings(max_examples=50, deadline=None)
@given(policies, histories, sights(), st.floats(1.0, 10.0))
def test_more_load_never_means_fewer_replicas(
    policy: Policy, history: list[tuple[Sight, float]], seen: Sight, times: float
) -> None:
    memory, now_s = Memory(), NOW_S
    for each, passed_s in history:
        now_s += passed_s
        memory = decide(msgspec.structs.replace(each, at_s=now_s), policy, memory, now_s).memory
    now_s += 2.0
    less = msgspec.structs.replace(seen, at_s=now_s, failures=0)
    more = msgspec.structs.replace(
        less,
        rate_long=less.rate_long * times,
        waiting=math.ceil(less.waiting * times),
        in_flight=math.ceil(less.in_flight * times),
    )
    assert decide(more, policy, memory, now_s).desired >= decide(less, policy, memory, now_s).desired


@settings(max_examples=50, deadline=None)
@given(policies, histories)
def test_there_are_at_least_as_many_as_what_arrives_keeps_busy(
    policy: Policy, history: list[tuple[Sight, float]]
) -> None:
    memory, now_s = Memory(), NOW_S
    for seen, passed_s in history:
        now_s += passed_s
        sight = msgspec.structs.replace(seen, at_s=now_s, failures=0)
        found = decide(sight, policy, memory, now_s)
        memory = found.memory
        if memory.served and memory.places:
            busy = load.load(sight, memory).busy / memory.places
            assert found.desired >= min(math.ceil(busy - 1e-6), policy.max), found.because


@settings(max_examples=50, deadline=None)
@given(policies, histories)
def test_a_forecast_holds_nothing_when_it_is_over(policy: Policy, history: list[tuple[Sight, float]]) -> None:
    memory, now_s, needed = Memory(), NOW_S, [0.0]
    for seen, passed_s in history:
        now_s += passed_s
        found = decide(msgspec.structs.replace(seen, at_s=now_s, failures=0), policy, memory, now_s)
        memory = found.memory
        needed += [each.stay for each in found.signals if each.signal != "forecast"]
        assert max(each for _, each in memory.peaks) <= max(needed)
