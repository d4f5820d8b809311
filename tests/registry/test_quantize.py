"""Quantizing where it is done: what comes out is what the formats say, and what is refused leaves nothing."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from stoker.registry.gguf import read_header
from stoker.registry.quantize import gguf
from stoker.registry.quantize import onnx as onnx_quantize
from stoker.registry.quantize.ggml import Ggml, Header
from stoker.types.errors import Conflict, InvalidInput, RefusedArtifact, Unavailable, Unsupported
from stoker.types.quantization import QuantizeJob
from tests.registry.rig import METADATA, pair, text

ROW, ROWS = 256, 96
NUMBER_OF = {"F32": 0, "F16": 1}


def model_bytes(weights: np.ndarray, *, kind: str = "F16", **more: Any) -> bytes:
    """A GGUF with a matrix that is quantized, one that is not, and a vector."""
    metadata = METADATA | {"llama.block_count": 1} | more
    tensors = [
        ("token_embd.weight", weights.astype(np.float32 if kind == "F32" else np.float16), NUMBER_OF[kind]),
        ("blk.0.attn_norm.weight", np.arange(ROW, dtype=np.float32), 0),
        ("blk.0.ffn_gate_inp.weight", weights[:4].astype(np.float32), 0),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(pair(key, value) for key, value in metadata.items())
    data = b""
    for name, array, number in tensors:
        data += bytes(-len(data) % 32)
        sizes = array.shape[::-1]
        head += text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, number, len(data))
        data += array.tobytes()
    return head + bytes(-len(head) % 32) + data


@pytest.fixture
def weights() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(ROWS, ROW)).astype(np.float16).astype(np.float32)


def job(folder: Path, data: bytes, to: str, **more: Any) -> QuantizeJob:
    source = folder / "source.gguf"
    source.write_bytes(data)
    values = {"requantize": False, "threads": 3, "seconds": 60.0, "memory_bytes": 2**32, "copies": 2} | more
    return QuantizeJob(str(source), str(folder / "made"), to, **values)  # type: ignore[arg-type]


def tensors(file: Path) -> dict[str, tuple[str, bytes]]:
    data = file.read_bytes()
    with Header(Ggml(), file) as header:
        return {
            header.name(at): (
                header.kind(at),
                data[header.data_offset + header.offset(at) :][: header.size_bytes(at)],
            )
            for at in range(len(header))
        }


def test_q8_0_is_a_scale_and_whole_numbers_and_the_rest_stays_as_it_was(tmp_path: Path, weights: np.ndarray) -> None:
    wanted = job(tmp_path, model_bytes(weights), "q8_0")
    steps: list[tuple[int, int]] = []
    written = gguf.quantize(wanted, lambda done, total: steps.append((done, total)))
    found, before = tensors(Path(wanted.target)), tensors(Path(wanted.source))
    assert {name: kind for name, (kind, _) in found.items()} == {
        "token_embd.weight": "Q8_0",
        "blk.0.attn_norm.weight": "F32",
        "blk.0.ffn_gate_inp.weight": "F32",
    }
    for name in ("blk.0.attn_norm.weight", "blk.0.ffn_gate_inp.weight"):
        assert found[name] == before[name]
    # The format's own definition: blocks of 32, a half-precision scale and 32 signed bytes.
    blocks = np.frombuffer(found["token_embd.weight"][1], np.dtype([("scale", "<f2"), ("values", "i1", 32)]))
    read = (blocks["scale"].astype(np.float32)[:, None] * blocks["values"]).reshape(ROWS, ROW)
    assert np.abs(read - weights).max() <= np.abs(weights).max() / 127 * 0.51
    assert steps[-1] == (steps[-1][1], steps[-1][1])
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert written.types["Q8_0"] == ROWS * ROW // 32 * 34
    with Path(wanted.target).open("rb") as file:
        header = read_header(file, Path(wanted.target).stat().st_size)
    assert header.values["general.file_type"] == 7
    assert header.vocabulary == 3
    assert header.chat_template == "{{ messages }}"


@pytest.mark.parametrize("to", ["q6_k", "q5_k_m", "q4_k_m", "q4_0", "q3_k_m", "q2_k"])
def test_every_thread_count_gives_the_same_smaller_file(to: str, tmp_path: Path, weights: np.ndarray) -> None:
    made = []
    for threads in (1, 2, 7):
        folder = tmp_path / str(threads)
        folder.mkdir()
        wanted = job(folder, model_bytes(weights), to, threads=threads)
        gguf.quantize(wanted, lambda _done, _total: None)
        made.append(Path(wanted.target).read_bytes())
    assert made[0] == made[1] == made[2]
    assert len(made[0]) < len(model_bytes(weights))


def test_float32_and_float16_of_the_same_numbers_become_the_same(tmp_path: Path, weights: np.ndarray) -> None:
    found = []
    for kind in ("F16", "F32"):
        folder = tmp_path / kind
        folder.mkdir()
        wanted = job(folder, model_bytes(weights, kind=kind), "q4_k_m")
        gguf.quantize(wanted, lambda _done, _total: None)
        found.append(tensors(Path(wanted.target))["token_embd.weight"])
    assert found[0] == found[1]


def test_a_piece_smaller_than_the_tensor_changes_nothing(
    tmp_path: Path, weights: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = job(tmp_path, model_bytes(weights), "q4_0")
    gguf.quantize(whole, lambda _done, _total: None)
    monkeypatch.setattr(gguf, "PIECE_ELEMENTS", ROW * 7)
    parts = job(tmp_path, model_bytes(weights), "q4_0")
    Path(whole.target).rename(tmp_path / "whole")
    gguf.quantize(parts, lambda _done, _total: None)
    assert Path(parts.target).read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused_by_name(value: float, tmp_path: Path, weights: np.ndarray) -> None:
    weights[3, 5] = value
    with pytest.raises(RefusedArtifact, match=r"token_embd\.weight holds values that are no numbers"):
        gguf.quantize(job(tmp_path, model_bytes(weights), "q8_0"), lambda _done, _total: None)


def test_what_is_quantized_is_refused_and_done_when_one_insists(tmp_path: Path, weights: np.ndarray) -> None:
    first = job(tmp_path, model_bytes(weights), "q8_0")
    gguf.quantize(first, lambda _done, _total: None)
    data = Path(first.target).read_bytes()
    Path(first.target).unlink()
    with pytest.raises(Conflict, match=r"quantized already \(Q8_0\)"):
        gguf.quantize(job(tmp_path, data, "q4_0"), lambda _done, _total: None)
    # The only matrix is the output too, which q4_0 keeps at six bits.
    again = gguf.quantize(job(tmp_path, data, "q4_0", requantize=True), lambda _done, _total: None)
    assert set(again.types) == {"Q6_K", "F32"}


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, weights: np.ndarray) -> None:
    wanted = job(tmp_path, model_bytes(weights), "q8_0", copies=10**12)
    with pytest.raises(Unavailable, match=r"the disk has .* free"):
        gguf.quantize(wanted, lambda _done, _total: None)
    assert not Path(wanted.target).exists()


def test_a_split_model_and_another_formats_type_are_refused(tmp_path: Path, weights: np.ndarray) -> None:
    with pytest.raises(Unsupported, match="split over several files"):
        gguf.quantize(job(tmp_path, model_bytes(weights, **{"split.count": 2}), "q8_0"), lambda _done, _total: None)
    with pytest.raises(InvalidInput, match="it can become q8_0"):
        gguf.quantize(job(tmp_path, model_bytes(weights), "int8"), lambda _done, _total: None)


# ── ONNX ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def onnx_bytes(operator: str = "MatMul") -> bytes:
    rng = np.random.default_rng(3)
    weights = numpy_helper.from_array(rng.normal(size=(64, 64)).astype(np.float32), "W")
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "W"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 64])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return bytes(model.SerializeToString())


def anything(_size: int) -> None:
    pass


def answers(file: str, rows: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"x": rows})[0])


def test_int8_answers_nearly_the_same_and_is_refused_a_second_time(tmp_path: Path) -> None:
    wanted = job(tmp_path, onnx_bytes(), "int8")
    written = onnx_quantize.quantize(wanted, lambda _done, _total: None, anything)
    assert written.tool.startswith("onnxruntime ")
    assert Path(wanted.target).stat().st_size < len(onnx_bytes()) / 2
    rows = np.random.default_rng(4).normal(size=(50, 64)).astype(np.float32)
    exact = answers(wanted.source, rows)
    assert np.abs(answers(wanted.target, rows) - exact).mean() < 0.02 * np.abs(exact).mean() + 0.1
    data = Path(wanted.target).read_bytes()
    with pytest.raises(Conflict, match="quantized already"):
        onnx_quantize.quantize(job(tmp_path, data, "int8"), lambda _done, _total: None, anything)


def test_weights_that_are_cast_from_small_integers_count_as_quantized(tmp_path: Path) -> None:
    model = onnx.load_from_string(onnx_bytes())
    small = numpy_helper.from_array(np.ones((64, 64), np.int8), "small")
    model.graph.initializer.pop()
    model.graph.initializer.append(small)
    model.graph.node.insert(0, helper.make_node("Cast", ["small"], ["W"], to=TensorProto.FLOAT))
    with pytest.raises(Conflict, match="most of its weights are eight-bit integers"):
        onnx_quantize.quantize(job(tmp_path, model.SerializeToString(), "int8"), lambda _done, _total: None, anything)


def test_a_model_without_a_matrix_product_has_nothing_to_quantize(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="none of its operators can be quantized"):
        onnx_quantize.quantize(job(tmp_path, onnx_bytes("Add"), "int8"), lambda _done, _total: None, anything)


def test_weights_beside_the_model_go_into_it_and_their_files_are_named(tmp_path: Path) -> None:
    model = onnx.load_from_string(onnx_bytes())
    source = tmp_path / "source.gguf"
    onnx.save(model, str(source), save_as_external_data=True, location="weights.bin", size_threshold=0)
    wanted = job(tmp_path, source.read_bytes(), "int8")
    written = onnx_quantize.quantize(wanted, lambda _done, _total: None, anything)
    assert written.replaced == (str(tmp_path / "weights.bin"),)
    (tmp_path / "weights.bin").unlink()
    assert answers(wanted.target, np.ones((1, 64), np.float32)).shape == (1, 64)
