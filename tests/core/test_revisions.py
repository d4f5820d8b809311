"""Serving configurations: what makes a new revision, and what is refused before anything is started."""

import msgspec
import pytest

from stoker.core.revisions import ServingConfig, Unservable, config_digest, serving_config
from stoker.types.ids import Digest, ModelName
from stoker.types.models import ModelVersion, Signature, TensorSpec, VersionManifest
from stoker.types.resources import Batching, EndpointSpec, Pad

SIGNATURE = Signature((TensorSpec("ids", "INT64", (-1, -1)),), (TensorSpec("label", "INT64", (-1,)),))
VERSION = ModelVersion(
    name=ModelName("m"),
    number=1,
    digest=Digest("sha256:" + "0" * 64),
    manifest=VersionManifest("onnx", (), "model.onnx", SIGNATURE, ("predict",)),
    created_at_s=0.0,
    size_bytes=1,
)


def config_of(batching: Batching) -> ServingConfig | Unservable:
    return serving_config(EndpointSpec("m", batching=batching), VERSION)


def test_fields_that_came_later_change_no_digest_while_nobody_uses_them() -> None:
    config = config_of(Batching())
    assert isinstance(config, ServingConfig)
    # Of this configuration before there were max_bytes and pad.
    assert config_digest(config) == "sha256:cdaf3c281866827faa3c0d7e686a75f139a1ab73d564e9f7bfec4fc2c93f6ac6"
    other = config_of(Batching(max_bytes="1Mi"))
    assert isinstance(other, ServingConfig)
    assert config_digest(other) != config_digest(config)
    assert msgspec.json.decode(msgspec.json.encode(other), type=ServingConfig) == other


def test_padding_that_the_model_cannot_have_is_refused_with_its_field() -> None:
    assert config_of(Batching(pad={"length": Pad(axes={"id": 1})})) == Unservable(
        "the model has no input or output 'id'; it has ids, label", "spec.batching.pad.length.axes.id"
    )
    assert isinstance(config_of(Batching(pad={"length": Pad(axes={"ids": 1})})), ServingConfig)


@pytest.mark.parametrize("engine", [None, "auto", "onnx", "openai"])
def test_an_engine_that_can_run_the_format_is_taken(engine: str | None) -> None:
    assert isinstance(serving_config(EndpointSpec("m", engine=engine), VERSION), ServingConfig)


@pytest.mark.parametrize("engine", ["python", "llamacpp", "nonsense"])
def test_an_engine_that_cannot_run_the_format_is_refused_before_a_replica_crashes_of_it(engine: str) -> None:
    assert serving_config(EndpointSpec("m", engine=engine), VERSION) == Unservable(
        f"engine {engine!r} cannot run m@1, whose format is onnx; onnx can, and auto takes what fits", "spec.engine"
    )
