"""Who takes traffic, and what gateways are told."""

import msgspec

from stoker.core.traffic import WEIGHT_FULL, route_table, weights
from stoker.types.ids import KeyId, ProjectName
from stoker.types.models import Signature, TensorSpec
from stoker.types.resources import Cache, Retry, Routing, Traces
from stoker.types.routes import CacheRoute, EndpointRoute, KeyRoute, RouteTable
from stoker.types.slos import Objective
from tests.core.worlds import World

SIGNATURE = Signature(inputs=(TensorSpec("x", "FP32", (-1, 4)),))


def table(
    world: World, keys: tuple[KeyRoute, ...] = (), judged: dict[str, tuple[str, ...]] | None = None
) -> RouteTable:
    return route_table(
        endpoints=world.endpoints.values(),
        revisions=world.revisions.values(),
        assignments=world.assignments.values(),
        keys=keys,
        signatures={("m", 1): SIGNATURE},
        address=lambda name: f"unix:/run/{name}.sock",
        judged=judged,
    )


def only(world: World) -> EndpointRoute:
    (route,) = table(world).endpoints
    return route


def test_the_serving_revision_takes_all() -> None:
    assert weights("a-1", "a-2", ["a-1", "a-2"]) == {"a-1": WEIGHT_FULL, "a-2": 0}


def test_the_target_takes_all_while_nothing_serves() -> None:
    assert weights("", "a-2", ["a-1", "a-2"]) == {"a-1": 0, "a-2": WEIGHT_FULL}


def test_an_endpoint_that_loads_is_in_the_table_so_that_callers_hear_that_it_does() -> None:
    world = World()
    world.apply("a")
    world.turn()
    route = only(world)
    assert [(each.revision, each.weight, len(each.replicas)) for each in route.revisions] == [("default.a-1", 100, 1)]


def test_replicas_have_addresses_signature_and_limits() -> None:
    world = World()
    world.apply("a", replicas=2, routing=Routing(affinity="session"))
    world.settle()
    route = only(world)
    (revision,) = route.revisions
    assert [each.address for each in revision.replicas] == [
        f"unix:/run/{name}.sock" for name in world.replicas("default.a-1")
    ]
    assert revision.signature == SIGNATURE
    assert (revision.version, revision.platform, route.task, route.timeout_s) == ("1", "onnx", "predict", 5.0)
    assert route.affinity == "session"


def test_what_may_be_kept_and_shared_is_told_and_starts_no_new_revision() -> None:
    world = World()
    world.apply("a")
    world.settle()
    assert (only(world).cache, only(world).coalesce) == (None, False)
    state = world.endpoints["a"]
    spec = msgspec.structs.replace(state.resource.spec, cache=Cache(ttl="2m", max_bytes="1Mi"), coalesce=True)
    resource = msgspec.structs.replace(state.resource, spec=spec)
    world.endpoints["a"] = msgspec.structs.replace(state, resource=resource, generation=state.generation + 1)
    world.settle()
    route = only(world)
    assert (route.cache, route.coalesce) == (CacheRoute(120.0, 1 << 20, shared=False), True)
    assert [each.revision for each in route.revisions] == ["default.a-1"]


def test_how_failures_are_met_is_told_without_a_new_revision() -> None:
    world = World()
    world.apply("a")
    world.settle()
    before = only(world)
    assert (before.hedge, before.resume) == (False, "exact")
    state = world.endpoints["a"]
    spec = msgspec.structs.replace(state.resource.spec, retry=Retry(hedge=True, resume="never"))
    resource = msgspec.structs.replace(state.resource, spec=spec)
    world.endpoints["a"] = msgspec.structs.replace(state, resource=resource, generation=state.generation + 1)
    world.settle()
    after = only(world)
    assert (after.hedge, after.resume) == (True, "never")
    assert after.revisions == before.revisions


def test_a_warming_revision_is_shown_without_weight_until_the_switch() -> None:
    world = World()
    world.apply("a", model=1)
    world.settle()
    world.apply("a", model=2)
    world.turn()
    world.turn()
    shown = {each.revision: (each.weight, len(each.replicas)) for each in only(world).revisions}
    assert shown == {"default.a-1": (100, 1), "default.a-2": (0, 1)}


def test_a_draining_replica_is_out_of_the_table_before_it_is_stopped() -> None:
    world = World()
    world.apply("a", replicas=2)
    world.settle()
    world.apply("a", replicas=1)
    world.turn()
    assert len(only(world).revisions[0].replicas) == 1
    assert all(process.phase == "ready" for process in world.processes["n0"].values())


def test_a_deleted_endpoint_is_out_of_the_table_at_once() -> None:
    world = World()
    world.apply("a")
    world.settle()
    world.delete("a")
    assert table(world).endpoints == ()


def test_equal_states_give_equal_tables_whatever_their_order() -> None:
    world = World()
    for name in ("b", "a"):
        world.apply(name, replicas=2)
    world.settle()
    keys = tuple(KeyRoute(str(at) * 64, KeyId(f"k{at}"), ProjectName("default")) for at in range(3))
    first = msgspec.json.encode(table(world, keys))
    world.endpoints = dict(reversed(world.endpoints.items()))
    world.assignments = dict(reversed(world.assignments.items()))
    assert msgspec.json.encode(table(world, tuple(reversed(keys)))) == first


def test_gateways_are_told_which_tenants_to_count_and_which_of_their_times() -> None:
    world = World()
    own = (
        Objective(name="all", target=0.9, sli="latency", under="1s"),
        Objective(name="answers", target=0.9, tenant="ada"),
        Objective(name="quick", target=0.9, sli="latency", under="1s", tenant="bob"),
        Objective(name="quicker", target=0.9, sli="latency", under="300ms", tenant="bob"),
        Objective(name="first", target=0.9, sli="ttft", under="1s", tenant="bob"),
    )
    world.apply("a", slos=own)
    world.settle()
    route = only(world)
    assert route.promised_to == ("ada",)
    assert route.timed_for == {
        "bob": ("stoker_tenant_request_duration_seconds", "stoker_tenant_time_to_first_token_seconds")
    }
    assert msgspec.json.decode(msgspec.json.encode(route), type=EndpointRoute) == route


def test_gateways_count_the_tenants_that_an_objective_for_each_follows() -> None:
    world = World()
    each = Objective(name="each", target=0.9, each="tenant")
    quick = Objective(name="quick", target=0.9, sli="latency", under="1s", each="tenant")
    world.apply("a", slos=(each, quick))
    world.settle()
    (route,) = table(world, judged={"default/a/each": ("ada", "bob"), "default/a/quick": ("bob",)}).endpoints
    assert route.promised_to == ("ada", "bob")
    assert route.timed_for == {"bob": ("stoker_tenant_request_duration_seconds",)}
    assert only(world).promised_to == ()


def test_an_endpoint_says_its_own_share_of_traces_or_none() -> None:
    world = World()
    world.apply("a", traces=Traces(rate=0.0))
    world.settle()
    assert only(world).trace_ratio == 0.0
    world = World()
    world.apply("a")
    world.settle()
    assert only(world).trace_ratio is None
