"""What is said of how replicas are confined, and when one may not start."""

import pytest

from stoker.core import sandbox
from stoker.types.sandbox import Confinement, Finding, Level, Network, Sandbox, Wall

HELD = tuple(Finding(wall, True, f"{wall} shut") for wall in sandbox.ORDER)


def seen(*open_: Wall, level: Level = "standard") -> Confinement:
    return Confinement(level, ("seccomp",), tuple(Finding(e.wall, e.wall not in open_, e.said) for e in HELD))


@pytest.mark.parametrize(
    ("asked", "engine", "means"),
    [("auto", "onnx", "none"), ("auto", "openai", "open"), ("none", "openai", "none"), ("open", "onnx", "open")],
)
def test_only_the_engine_whose_server_is_elsewhere_has_a_network_unasked(
    asked: Network, engine: str, means: Network
) -> None:
    assert sandbox.network(Sandbox(network=asked), engine) == means


def test_the_replica_that_is_kept_from_least_speaks_for_all() -> None:
    said = sandbox.condition([seen(), seen("processes", "network"), seen("room")])
    assert said is not None
    assert (said.status, said.reason) == (False, "NetworkOpen")
    assert said.message.startswith("network: network shut; processes: ")
    assert "in force: seccomp, files shut" in said.message
    assert sandbox.condition([seen("files"), Confinement("off")]) == sandbox.condition([Confinement("off")])
    assert sandbox.condition([]) is None


def test_room_without_a_bound_is_said_and_no_failure_of_the_standard() -> None:
    said = sandbox.condition([seen("room")])
    assert said is not None
    assert said.status
    assert "but room: " in said.message
    assert not sandbox.is_open(seen("room"))
    assert not sandbox.is_open(None)
    assert sandbox.is_open(Confinement("off"))


@pytest.mark.parametrize("wall", sandbox.ORDER)
def test_strict_starts_nothing_where_any_wall_is_missing_and_says_which(wall: Wall) -> None:
    assert sandbox.refusal(seen(wall)) == ""
    assert sandbox.refusal(seen(level="strict")) == ""
    assert f"{wall}: {wall} shut" in sandbox.refusal(seen(wall, level="strict"))
