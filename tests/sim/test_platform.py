"""The whole platform on virtual time: nothing is lost or counted twice, and the core's decisions show."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core.capacity import Capacity
from stoker.core.scale.policy import Policy as Rules
from stoker.sim import arrivals
from stoker.sim.arrivals import Arrivals
from stoker.sim.endpoint import Terms, simulate
from stoker.sim.ours import Stoker
from stoker.sim.platform.cache import PrefixCache
from stoker.sim.platform.outcome import Outcome
from stoker.sim.platform.plan import (
    GIB,
    Batching,
    EndpointPlan,
    Engine,
    Fault,
    Generating,
    Places,
    PlatformPlan,
    RolloutPlan,
    Tenant,
)
from stoker.sim.platform.world import World
from stoker.sim.policies import named
from stoker.sim.service import Drawn, seconds
from stoker.types.ids import NodeName
from stoker.types.rollouts import Rollout


def steady(per_s: float, duration_s: float, seed: int = 1) -> Arrivals:
    draws = np.random.default_rng(seed)
    return arrivals.poisson(lambda at_s: np.full_like(at_s, per_s), per_s, duration_s, draws)


def at(*when_s: float, tokens: tuple[int, int] | None = None, duration_s: float = 60.0) -> Arrivals:
    """Return arrivals at these times, each of so many tokens read and written."""
    sizes = [np.full(len(when_s), each, dtype=np.int64) for each in tokens or ()] or [np.zeros(0, np.int64)] * 2
    return Arrivals(np.array(when_s), duration_s, *sizes)


def fixed(came: Arrivals, replicas: int, engine: Engine | None = None, **more: object) -> EndpointPlan:
    terms = Terms(initial=replicas, least=0)
    kind = EndpointPlan("one", came, engine or Places(), terms, named(f"fixed-{replicas}"))
    return replace(kind, **more)  # type: ignore[arg-type]


def ran(*endpoints: EndpointPlan, **more: object) -> Outcome:
    return World(PlatformPlan(endpoints, **more)).run()[0]  # type: ignore[arg-type]


def nodes(count: int, cores: float = 4.0) -> tuple[Capacity, ...]:
    return tuple(Capacity(NodeName(f"node-{number}"), cores, 64 * GIB) for number in range(count))


# ---- bookkeeping

ENGINES = (Places(2, Drawn(0.3)), Batching(0.05, 0.02, 8), Generating(slots=4))


@given(
    engine=st.sampled_from(ENGINES),
    gateways=st.integers(1, 3),
    per_s=st.floats(1.0, 25.0),
    deadline_s=st.sampled_from([0.5, 3.0, math.inf]),
    queue_max=st.sampled_from([3, 1000]),
    policy=st.sampled_from(["kpa", "hpa", "fixed-2"]),
    fault=st.sampled_from([None, "replica", "node"]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=20, deadline=None)
def test_every_request_ends_exactly_once_and_in_the_same_way_for_the_same_seed(
    engine: Engine,
    gateways: int,
    per_s: float,
    deadline_s: float,
    queue_max: int,
    policy: str,
    fault: str | None,
    seed: int,
) -> None:
    kind = EndpointPlan(
        "one",
        steady(per_s, 25.0, seed),
        engine,
        Terms(cold_start_s=4.0, least=1, most=6, initial=2),
        named(policy),
        (Tenant("many", 3.0), Tenant("few", 1.0, 2.0, 0), Tenant("batch", 1.0, 1.0, 2)),
        deadline_s,
        queue_max,
    )
    faults = {None: (), "replica": (Fault("replica", 9.0, "one"),), "node": (Fault("node", 9.0, "node-0", 8.0),)}[fault]
    plan = PlatformPlan((kind,), gateways, nodes(3), faults, seed=seed)
    world = World(plan)
    found = world.run()[0]
    assert sum(found.ends.values()) == found.requests == len(kind.arrivals)
    assert found.ends["unfinished"] == 0
    assert all(lane.in_flight == lane.waiting == 0 for site in world.sites.values() for lane in site.lanes)
    assert all(each.in_flight == 0 for site in world.sites.values() for each in site.replicas)
    assert World(plan).run()[0] == found


def test_one_gateway_with_places_waits_exactly_as_the_plain_endpoint_does() -> None:
    came = steady(18.0, 100.0)
    world = World(PlatformPlan((fixed(came, 2),), seed=3))
    found = world.run()[0]
    wait_s = np.sort(world.sites["one"].ledger.columns()[0])
    took_s = seconds(Drawn(), came, 3000).tolist()
    plain = simulate(came.at_s.tolist(), took_s, named("fixed-2")(Terms()), Terms(initial=2, least=0), 100.0)
    assert wait_s == pytest.approx(np.sort(plain.wait_s), abs=1e-9)
    assert found.wait.p99_s == pytest.approx(float(np.quantile(plain.wait_s, 0.99)))
    assert found.replica_hours == pytest.approx(plain.replica_hours)


def test_gateways_that_do_not_know_each_other_make_requests_wait_that_one_would_have_placed() -> None:
    came = steady(38.0, 120.0)
    alone, four = (ran(fixed(came, 5), gateways=gateways) for gateways in (1, 4))
    assert four.latency.p95_s > alone.latency.p95_s
    assert four.latency.p99_s < 2 * alone.latency.p99_s  # two choices and reports keep it near


# ---- engines


def test_a_language_models_request_takes_its_prompt_and_a_step_a_token() -> None:
    engine = Generating(slots=4, step_s=0.02, sequence_s=0.001, read_token_s=0.0001, chunk_tokens=500)
    found = ran(fixed(at(1.0, tokens=(1000, 11)), 1, engine))
    first_s = 2 * (0.02 + 0.05)  # two chunks, nobody writes yet
    assert found.first.p50_s == pytest.approx(first_s)
    assert found.latency.p50_s == pytest.approx(first_s + 10 * 0.021)


def test_sequences_slow_each_other_down_and_a_prompt_slows_them_all() -> None:
    engine = Generating(slots=4, step_s=0.02, sequence_s=0.01, read_token_s=0.001, chunk_tokens=100)
    world = World(PlatformPlan((fixed(at(1.0, 1.5, tokens=(10, 1001)), 1, engine),)))
    world.run()
    first_s, latency_s = world.sites["one"].ledger.columns()[1:3]
    # The second waits for the end of the sixteenth step, then reads ten tokens in one, which the first is in too.
    assert first_s.tolist() == pytest.approx([0.03, 0.01 + 0.04])
    assert latency_s[0] == pytest.approx(0.03 + 16 * 0.03 + (1000 - 16) * 0.04)


def test_more_sequences_than_slots_wait_inside_no_engine_but_in_the_gateway() -> None:
    found = ran(fixed(at(*[1.0] * 9, tokens=(10, 50)), 1, Generating(slots=4)))
    assert found.ends["ok"] == 9
    assert found.wait.p99_s > found.wait.p50_s > 0.0


def test_a_batching_engine_answers_alone_at_once_and_more_in_one_call() -> None:
    engine = Batching(0.05, 0.01, 16)
    assert ran(fixed(at(1.0), 1, engine)).latency.p50_s == pytest.approx(0.06)
    # All that comes in one moment is one batch.
    assert ran(fixed(at(*[1.0] * 2), 1, engine)).latency.p99_s == pytest.approx(0.07)


def test_batches_grow_with_the_load_so_that_it_is_carried() -> None:
    engine = Batching(0.02, 0.0005, 64)  # one at a time: 49/s; in batches up to 1,230/s
    found = ran(fixed(steady(400.0, 20.0), 1, engine))
    assert found.ends["ok"] == found.requests
    assert found.latency.p99_s < 0.3


def test_an_engine_keeps_the_prompts_it_saw_last_as_prefixes() -> None:
    cache = PrefixCache(4)
    assert cache.read((1, 2, 3)) == 0
    assert cache.read((1, 2, 9)) == 2
    assert cache.read((1, 2, 3)) == 3
    assert cache.read((7, 8)) == 0  # 9, the oldest, and the end of the others had to go
    assert cache.read((1, 2, 3)) == 2


def test_a_prompt_goes_where_its_beginning_is_known_and_is_read_only_from_there() -> None:
    talks = [tuple(range(100 * talk, 100 * talk + 8)) for talk in range(6)] * 5
    came = at(*(1.0 + 2.0 * number for number in range(30)), tokens=(8 * 512, 20))
    known = ran(fixed(replace(came, blocks=tuple(talks)), 3, Generating(slots=8)), gateways=2)
    unknown = ran(fixed(came, 3, Generating(slots=8)), gateways=2)
    # Each of two gateways learns for itself where a talk is: at most two of its five turns are read whole.
    assert known.cached_ratio > 0.55
    assert known.first.p50_s < 0.3 * unknown.first.p50_s


# ---- admission


def test_overload_with_a_deadline_is_refused_at_once_and_the_rest_is_in_time() -> None:
    found = ran(fixed(steady(30.0, 60.0), 2, Places(4, Drawn(0.4, 0.2)), deadline_s=3.0))  # capacity 20/s
    refused = found.ends["refused"] + found.ends["full"] + found.ends["late"]
    assert found.ends["ok"] / found.requests > 0.9 * 20 / 30
    assert found.ends["refused"] > 0.5 * refused
    assert found.latency.p99_s < 3.5


def test_a_full_queue_refuses_and_urgent_ones_push_others_out() -> None:
    tenants = (Tenant("people", 1.0, 1.0, 0), Tenant("batch", 4.0, 1.0, 2))
    found = ran(fixed(steady(40.0, 60.0), 2, queue_max=20, tenants=tenants))
    assert found.ends["full"] > 0
    assert found.ends["shed"] > 0


# ---- scaling, placement, faults


def test_a_wanted_replica_without_room_is_blocked_with_the_arithmetic() -> None:
    kind = EndpointPlan("one", steady(30.0, 120.0), terms=Terms(cold_start_s=5.0), policy=named("kpa"), cores=3.0)
    found = ran(kind, nodes=nodes(2))
    assert found.replicas_most == 2
    assert found.blocked_s > 0.0
    assert "needs 3.0 cores, largest free is 1.0" in found.blocked


def test_who_comes_while_nothing_runs_and_nothing_has_room_is_refused_at_once() -> None:
    kind = fixed(steady(5.0, 60.0), 1, terms=Terms(cold_start_s=5.0, least=1, most=2), cores=8.0, deadline_s=20.0)
    world = World(PlatformPlan((kind,), nodes=nodes(1)))
    found = world.run()[0]
    assert found.ends["down"] == found.requests
    assert not world.sites["one"].ledger.columns()[2].any(), "none waits"
    asleep = replace(kind, terms=Terms(cold_start_s=5.0, least=0, most=2))
    assert ran(asleep, nodes=nodes(1)).ends["late"] == found.requests, "it may sleep: it is waited for"


def test_a_crash_loses_no_request_and_the_replica_comes_back() -> None:
    kind = fixed(steady(20.0, 120.0), 3, terms=Terms(cold_start_s=10.0, initial=3, least=3))
    found = ran(kind, faults=(Fault("replica", 30.0, "one"), Fault("replica", 31.0, "one")))
    assert found.ends["ok"] == found.requests
    assert found.retries > 0
    assert found.replicas_most == 3


def test_a_node_that_goes_dark_is_found_by_silence_and_replaced_elsewhere() -> None:
    kind = fixed(steady(12.0, 120.0), 4, terms=Terms(cold_start_s=10.0, initial=4, least=4))
    world = World(PlatformPlan((kind,), 2, nodes(4), (Fault("node", 30.0, "node-1"),)))
    found = world.run()[0]
    assert found.ends["ok"] == found.requests
    assert found.retries > 0
    assert {each.node for each in world.sites["one"].replicas} == {"node-0", "node-2", "node-3"}
    assert found.latency.p99_s < 6.0  # silence is believed after 1.5 s


def test_a_drain_loses_nothing() -> None:
    found = ran(
        EndpointPlan("one", arrivals.make("spike", 2, 900.0), terms=Terms(cold_start_s=5.0), policy=named("kpa"))
    )
    assert found.ends["ok"] == found.requests
    assert found.changes_per_hour > 4


# ---- rollouts

QUICK = Rollout(strategy="canary", steps=(10, 50), dwell="20s", requests_min=100)


def test_who_comes_while_nothing_runs_waits_for_a_start_and_not_for_the_next_look() -> None:
    came = at(0.0, 41.3, duration_s=60.0)
    sleeping = EndpointPlan(
        "one",
        came,
        Places(1, Drawn(0.5, 0.0)),
        Terms(1, 3.0, 0, 1, 1),
        lambda _: Stoker(Rules(0, 1, idle_timeout_s=9.0)),
    )
    world = World(PlatformPlan((sleeping,)))
    (found,) = world.run()
    assert world.sites["one"].ledger.columns()[2].tolist() == pytest.approx([0.5, 3.5], abs=0.1)
    assert found.replica_hours * 3600.0 < 40.0, "asleep in between"


def test_who_comes_just_behind_a_look_waits_for_the_pause_between_two() -> None:
    """Control looks every two seconds, at once when it is asked, but never within 0.2 s of the look before."""
    asleep = EndpointPlan(
        "one",
        at(0.5, 30.55, 61.0, duration_s=90.0),
        Places(1, Drawn(0.5, 0.0)),
        Terms(1, 3.0, 0, 1, 1),
        lambda _: Stoker(Rules(0, 1, idle_timeout_s=9.0)),
        looks_from_s=0.5,
    )
    world = World(PlatformPlan((asleep,)))
    world.run()
    first_s, behind_s, between_s = world.sites["one"].ledger.columns()[2].tolist()
    assert first_s == pytest.approx(0.5)
    assert behind_s == pytest.approx(0.15 + 3.0 + 0.5, abs=0.001), "0.05 s behind the look at 30.5"
    assert between_s == pytest.approx(0.01 + 3.0 + 0.5, abs=0.001)


def rolled(**more: float) -> Outcome:
    kind = fixed(steady(40.0, 400.0), 6, terms=Terms(cold_start_s=5.0, initial=6, least=6))
    return ran(kind, gateways=2, rollouts=(RolloutPlan("one", 20.0, QUICK, **more),), error_ratio=0.002)


def test_a_canary_as_good_as_the_baseline_is_promoted_and_loses_nothing() -> None:
    found = rolled()
    assert found.rollout[-1].phase == "promoted"
    assert [each.weight for each in found.rollout if each.event == "ready"] == [10, 50]
    assert found.ends["failed"] < 0.01 * found.requests
    assert found.ends["ok"] + found.ends["failed"] == found.requests


def test_a_canary_that_fails_is_taken_back_before_it_has_hurt_many() -> None:
    found = rolled(error_ratio=0.3)
    assert found.rollout[-1].phase == "rolled-back"
    assert found.ends["failed"] < 0.02 * found.requests


def test_a_slow_canary_is_taken_back() -> None:
    assert rolled(slower=4.0, slow_s=1.5).rollout[-1].phase == "rolled-back"
