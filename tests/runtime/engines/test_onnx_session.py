"""How an ONNX model is opened: threads measured on the model, within the cores there are; devices that are there."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from stoker.runtime.engines import onnx_threads, registry
from stoker.runtime.engines.cores import whole_cores
from stoker.runtime.engines.onnx_session import CPU, CUDA, SessionOptions, providers_of
from stoker.types.errors import InvalidInput
from tests.runtime.models import Digits, spec_of

TWO = 2.0
needs_two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: nothing to choose")


def dense(folder: Path, width: int, columns: Any = None) -> Path:
    """Lay out one matrix product of `width` × `width`."""
    weights = np.random.default_rng(0).random((width, width), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", columns or width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", width])],
        [numpy_helper.from_array(weights, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    folder.mkdir(parents=True, exist_ok=True)
    save(made, folder / "model.onnx")
    return folder


def about(folder: Path, **changes: Any) -> str:
    engine: Any = registry.load(spec_of(folder, "onnx", **changes), lambda stage, fraction: None)
    return str(engine.about)


@needs_two_cores
def test_threads_are_measured_on_the_model_within_a_second_and_the_table_is_told(tmp_path: Path) -> None:
    began_s = time.process_time()  # of all threads; who else has the cores does not matter
    told = about(dense(tmp_path, 600), cores=TWO)
    assert time.process_time() - began_s < 3 * onnx_threads.MEASURE_S
    assert told.startswith(("1 thread (", "2 threads ("))
    assert "of 2 cores; calls of 1 and of 64 rows took with 2: " in told
    assert ", 1: " in told


@needs_two_cores
def test_a_model_whose_calls_are_over_at_once_gets_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_threads, "CALL_MIN_S", 0.5)  # whatever the machine is busy with
    assert about(dense(tmp_path, 4), cores=TWO).startswith("1 thread (of 2 cores")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cores": TWO, "options": {"threads": 3}}, "3 threads (as asked, of "),
        ({"cores": 1.0}, "1 thread (the replica has 1 core)"),
        ({"cores": 0.5}, "1 thread (the replica has 1 core)"),
    ],
)
def test_what_is_not_measured_says_why(digits: Digits, changes: Any, told: str) -> None:
    assert about(digits.folders["onnx"], **changes).startswith(told)


@needs_two_cores
def test_a_model_that_cannot_be_measured_gets_all_cores_and_says_why(tmp_path: Path) -> None:
    free = dense(tmp_path / "free", 8, "columns")
    assert about(free, cores=TWO) == "2 threads (all cores; its inputs have free sizes, so nothing could be measured)"
    padded = {"columns": {"to": [8]}}
    assert "calls of 1 and of " in about(free, cores=TWO, pad=padded)
    assert "does not take zeros" in about(free, cores=TWO, pad={"columns": {"to": [7]}})
    large = dense(tmp_path / "large", 600)
    assert "too large to be opened again" in about(large, cores=TWO, memory_bytes=4 << 20)


def test_no_more_threads_than_cores_that_this_process_may_use() -> None:
    usable = len(os.sched_getaffinity(0))
    assert whole_cores(1000.0) <= usable
    assert whole_cores(0.3) == whole_cores(1.9) == 1


GPU = [CUDA, CPU]


@pytest.mark.parametrize(
    ("options", "available", "providers"),
    [
        (SessionOptions(), GPU, [CPU]),
        (SessionOptions(device="auto"), [CPU], [CPU]),
        (SessionOptions(device="auto"), GPU, [CUDA, CPU]),
        (SessionOptions(device="cuda"), GPU, [CUDA, CPU]),
    ],
)
def test_the_device_is_what_was_asked_for_and_what_is_there(
    options: SessionOptions, available: list[str], providers: list[str]
) -> None:
    assert [each[0] if isinstance(each, tuple) else each for each in providers_of(options, available)] == providers


def test_a_gpu_is_told_which_one_and_how_much_of_it() -> None:
    (_, gpu), _ = providers_of(SessionOptions(device="cuda", device_id=1, gpu_memory="2Gi"), GPU)
    assert gpu["device_id"] == "1"
    assert gpu["gpu_mem_limit"] == str(2 << 30)
    with pytest.raises(InvalidInput) as wrong:
        providers_of(SessionOptions(device="cuda", gpu_memory="lots"), GPU)
    assert wrong.value.field == "options.gpu_memory"


def test_a_gpu_that_is_not_there_is_an_error_that_says_what_to_do(digits: Digits) -> None:
    with pytest.raises(InvalidInput, match=r"install onnxruntime-gpu .*, or set device to auto or cpu") as absent:
        about(digits.folders["onnx"], options={"device": "cuda"})
    assert absent.value.field == "options.device"
    assert about(digits.folders["onnx"], options={"device": "auto"}).startswith("1 thread")
    with pytest.raises(InvalidInput, match="'tpu'"):
        about(digits.folders["onnx"], options={"device": "tpu"})
