"""Control processes in folders of their own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.control.rig import Rig

HERE = Path(__file__).parent


TEST_S = 600  # to give up: processes start, serve and are killed here, on a busy machine as well


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for each in items:
        if each.path.is_relative_to(HERE):
            each.add_marker(pytest.mark.timeout(TEST_S))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "h")
    yield rig
    rig.close()


@pytest.fixture(scope="session")
def onnx_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three small ONNX models with the same signature and different weights."""
    folder = tmp_path_factory.mktemp("onnx")
    return [_save(folder / f"m{at}.onnx", float(at)) for at in range(1, 4)]


def _save(path: Path, scale: float) -> Path:
    weights = numpy_helper.from_array(np.full((4, 3), scale, dtype=np.float32), "W")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, str(path))
    return path
