"""Small models for every room, made once a session."""

from pathlib import Path

import pytest

from stoker.app import demo as demo_models


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the demo's classifier as ONNX."""
    model = demo_models.prepare("digits", tmp_path_factory.mktemp("digits"))
    paths: tuple[Path, ...] = tuple(model.paths)
    return str(paths[0])
