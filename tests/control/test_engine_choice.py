"""What a replica chose with the engine `auto`: told in its spec, read back from its folder, shown by describe."""

from pathlib import Path

import click
import msgspec

from stoker.app.home import Home
from stoker.cli.describe import _engines
from stoker.client.views import ReplicaView
from stoker.control.replicas import choice_file
from stoker.control.views import _choice
from stoker.core.revisions import ServingConfig, config_digest, serving_config
from stoker.types.engines import EngineChoice, EngineMeasurement
from stoker.types.ids import Digest, ModelName
from stoker.types.models import ModelVersion, VersionManifest
from stoker.types.resources import EndpointSpec

CHOICE = EngineChoice(
    "openvino",
    "throughput",
    "150 tokens/s with 4 at once for throughput; llamacpp 60 tokens/s with 4 at once",
    (
        EngineMeasurement("llamacpp", "1", "", 1.0, 0.5, 0.8, 60.0, 4, 232, 32),
        EngineMeasurement("openvino", "2", "", 4.7, 0.1, 0.5, 150.0, 4, 232, 32),
        EngineMeasurement("third", "3", "it cannot read this file"),
    ),
    1.0,
)


def test_the_choice_is_read_from_the_replicas_folder_and_none_before_it_is_made(tmp_path: Path) -> None:
    path = choice_file(Home(tmp_path), "default.smol-1-abcde")
    assert _choice(path) is None
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{half")
    assert _choice(path) is None
    path.write_bytes(msgspec.json.encode(CHOICE))
    assert _choice(path) == CHOICE


def test_describe_shows_the_table_once_with_the_numbers_and_the_reason() -> None:
    shown = click.unstyle(
        _engines([ReplicaView("a", choice=CHOICE), ReplicaView("b", choice=CHOICE), ReplicaView("c")])
    )
    assert shown.count("openvino: 150 tokens/s with 4 at once") == 1
    rows = {line.split()[0]: line for line in shown.splitlines()}
    assert rows["openvino"].endswith("taken")
    assert "500 ms" in rows["llamacpp"]
    assert rows["third"].endswith("it cannot read this file")
    assert "32 tokens after a prompt of 232" in shown
    assert _engines([ReplicaView("c")]) == ""


def test_describe_shows_how_engines_are_set_up_once_for_equal_ones() -> None:
    one, other = "1 thread (the replica has 1 core)", "2 threads"
    shown = _engines([ReplicaView("a", engine=one), ReplicaView("b", engine=one), ReplicaView("c", engine=other)])
    assert shown.splitlines() == [one, other]


def config(**spec: object) -> ServingConfig:
    manifest = VersionManifest(format="gguf", files=(), entry="m.gguf", tasks=("chat",))
    version = ModelVersion(ModelName("smol"), 1, Digest("sha256:" + "0" * 64), manifest, 0.0, 1)
    made = serving_config(msgspec.convert({"model": "smol", **spec}, EndpointSpec), version)
    assert isinstance(made, ServingConfig)
    return made


def test_a_goal_makes_a_revision_of_its_own_only_with_auto() -> None:
    assert config_digest(config()) == config_digest(config(goal="latency"))
    assert config_digest(config(engine="auto")) != config_digest(config(engine="auto", goal="latency"))
