"""One control process for the tests of a module; each test uses names of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control.conftest import onnx_files
from tests.control.rig import Rig

__all__ = ["onnx_files"]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("api") / "h")
    rig.start()
    yield rig
    rig.close()


@pytest.fixture(scope="module")
def model(rig: Rig, onnx_files: list[Path]) -> str:
    """A registered model with two versions and the alias `prod` on the first."""
    rig.push("m", onnx_files[0])
    rig.push("m", onnx_files[1])
    rig.client.set_alias("m", "prod", 1)
    return "m"
