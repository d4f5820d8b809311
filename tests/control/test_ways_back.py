"""Where `stoker rollback` goes: to what served before, never to what was taken back."""

import msgspec
import pytest

from stoker.control.ways_back import asking_for, earlier
from stoker.core.revisions import ServingConfig, serving_config
from stoker.core.rollout.state import RolloutState
from stoker.core.rollout.table import Phase
from stoker.core.secrets import SCRUBBED
from stoker.core.snapshot import EndpointState, Revision
from stoker.types.ids import Digest, EndpointName, ProjectName, RevisionId
from stoker.types.mapping import MappedInput, SchemaMapping
from stoker.types.models import Signature, TensorSpec
from stoker.types.placement import PlacementSpec
from stoker.types.resources import Batching, Limits
from stoker.types.rollouts import Rollout
from stoker.types.sandbox import Sandbox
from stoker.types.statuses import EndpointStatus
from tests.core.worlds import resource, version

SERVED = {f"default.a-{number}" for number in (1, 2, 4)}
P, A = ProjectName("default"), EndpointName("a")


def revision(number: int) -> Revision:
    config = serving_config(resource("a").spec, version(number))
    assert isinstance(config, ServingConfig)
    return Revision(RevisionId(f"default.a-{number}"), P, A, number, Digest("sha256:0"), config, 1.0)


def past(*moves: tuple[int, int, Phase]) -> list[RolloutState]:
    """Rollouts (from, to, phase), as they came one after the other; newest first."""
    found = [
        RolloutState(P, A, f"default.a-{old}", f"default.a-{new}", Rollout(), "canary", phase, "", 1.0, 1.0)
        for old, new, phase in moves
    ]
    return found[::-1]


def endpoint(serving: int, asked: int) -> EndpointState:
    status = EndpointStatus(revision=f"default.a-{asked}")
    return EndpointState(P, A, 1, resource("a"), 1.0, serving=f"default.a-{serving}", status=status)


@pytest.mark.parametrize(
    ("serving", "asked", "moves", "to"),
    [
        (2, 2, [(1, 2, "promoted")], 1),
        (4, 4, [(1, 2, "rolled-back"), (1, 3, "refused"), (1, 4, "promoted")], 1),
        (4, 4, [(1, 3, "promoted"), (3, 4, "promoted")], 3),
        (1, 2, [(1, 2, "rolled-back")], 1),  # the spec agrees with what serves
        (3, 3, [], 2),  # of a time before there were rollouts
        (3, 3, [(1, 2, "rolled-back")], 1),
        (4, 4, [], 2),  # the third never served
        (1, 1, [], 0),
        (2, 2, [(1, 2, "superseded"), (9, 2, "promoted")], 1),  # what served before is forgotten
    ],
)
def test_it_goes_to_what_served_before(serving: int, asked: int, moves: list[tuple[int, int, Phase]], to: int) -> None:
    history = [revision(number) for number in range(1, 5)]
    found = earlier(endpoint(serving, asked), history, past(*moves), SERVED)
    assert (found.number if found is not None else 0) == to


def test_where_nothing_has_served_yet_it_goes_to_the_revision_before() -> None:
    new = msgspec.structs.replace(endpoint(1, 3), serving="")
    found = earlier(new, [revision(number) for number in range(1, 4)], [], set())
    assert found is not None
    assert found.number == 2


def test_a_secret_that_was_not_kept_is_the_one_of_now() -> None:
    config = msgspec.structs.replace(revision(1).config, env={"KEY": SCRUBBED, "A": "1"}, options={"api_key": SCRUBBED})
    now = resource("a", env={"KEY": "env:STOKER_SECRET_KEY", "B": "2"}, options={"slots": 3}).spec
    asked = asking_for(now, config, version(1))
    assert (asked.env, asked.options) == ({"KEY": "env:STOKER_SECRET_KEY", "A": "1"}, {})


def test_after_a_way_back_the_next_one_goes_further_back_and_not_forth_again() -> None:
    back = msgspec.structs.replace(past((3, 2, "promoted"))[0], is_return=True)
    history = [revision(number) for number in range(1, 4)]
    found = earlier(endpoint(2, 2), history, [back, *past((1, 2, "promoted"), (2, 3, "promoted"))], SERVED)
    assert found is not None
    assert found.number == 1


def test_the_way_back_asks_for_the_pool_and_the_resources_of_then_and_keeps_what_made_no_revision() -> None:
    then = resource("a", cpu=2.0, gpu=0.5, placement=PlacementSpec(pool="large")).spec
    config = serving_config(then, version(1))
    assert isinstance(config, ServingConfig)
    now = resource("a", placement=PlacementSpec(spread="required", apart=("b",))).spec
    back = asking_for(now, config, version(1))
    assert serving_config(back, version(1)) == config
    assert back.placement == PlacementSpec(pool="large", spread="required", apart=("b",))


def test_the_way_back_asks_for_every_field_that_makes_a_revision() -> None:
    """A field that were left as it is now would make a new revision of what served: its gates would hold it up."""
    signature = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1,)),))
    one = version(1, signature=signature)
    then = resource(
        "a",
        task="predict",
        engine="auto",
        goal="latency",
        options={"batch": False},
        env={"A": "b"},
        mapping=SchemaMapping({"x": MappedInput("pixels")}),
        sandbox=Sandbox(tmp="1Mi"),
        batching=Batching(max_rows=3, max_bytes="1Mi"),
        placement=PlacementSpec(pool="large"),
        cpu=3.0,
        gpu=2.0,
        limits=Limits(max_body="2Mi", concurrency=7),
    ).spec
    config = serving_config(then, one)
    assert isinstance(config, ServingConfig)
    plain = serving_config(resource("a").spec, one)
    same = {name for name in config.__struct_fields__ if getattr(config, name) == getattr(plain, name)}
    assert same == {"model", "number", "digest", "task", "memory_bytes", "pad"}, "say another value of each"
    assert isinstance(plain, ServingConfig)
    for known in (one, None):
        assert serving_config(asking_for(resource("a").spec, config, known), one) == config
        assert serving_config(asking_for(then, plain, known), one) == plain


def test_what_the_version_says_by_itself_is_not_pinned_for_later_ones_of_another_format() -> None:
    one = version(1)
    one = msgspec.structs.replace(one, manifest=msgspec.structs.replace(one.manifest, options={"threads": 2}))
    now = resource("a", options={"inter": 1}).spec
    config = serving_config(now, one)
    assert isinstance(config, ServingConfig)
    assert asking_for(now, config, one) == now
    pinned = asking_for(now, config, None)
    assert (pinned.task, pinned.engine, pinned.options) == ("predict", "onnx", {"threads": 2, "inter": 1})


def test_sizes_stay_written_as_they_are() -> None:
    now = resource("a", limits=Limits(max_body="2Mi"), batching=Batching(max_bytes="1Mi")).spec
    config = serving_config(now, version(1))
    assert isinstance(config, ServingConfig)
    back = asking_for(now, config, version(1))
    assert (back.resources.memory, back.limits.max_body, back.batching.max_bytes) == ("100Mi", "2Mi", "1Mi")
    smaller = msgspec.structs.replace(config, memory_bytes=50 << 20)
    assert asking_for(now, smaller, version(1)).resources.memory == 50 << 20
