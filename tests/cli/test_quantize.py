"""`stoker quantize` and `stoker models compare`: what is printed, and how they end."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from stoker.cli.compare import likeness_table, read_texts, verdict
from stoker.types.errors import InvalidInput
from stoker.types.likeness import Estimate, Likeness, Side
from tests.cli.conftest import Run
from tests.cli.test_signing import key_files
from tests.control.rig import until
from tests.engines_llm.support import packaged_model


@pytest.fixture
def matrix(tmp_path: Path) -> str:
    """A model of one matrix, as a file."""
    weights = np.random.default_rng(5).normal(size=(64, 64)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 64])],
        [numpy_helper.from_array(weights, "W")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    file = tmp_path / "model.onnx"
    file.write_bytes(model.SerializeToString())
    return str(file)


def test_the_next_version_is_made_and_its_size_before_and_after_is_told(run: Run, matrix: str) -> None:
    assert run("push", "q", matrix).returncode == 0
    done = run("quantize", "q", "--to", "int8", "--alias", "small")
    assert done.returncode == 0, done.stderr
    assert "q@2 registered" in done.stdout
    assert "% smaller), made from q@1" in done.stdout
    assert "q@1 quantized to int8 by onnxruntime" in run("models", "inspect", "q@small").stdout

    found = json.loads(run("quantize", "q@1", "--to", "int8", "--as", "other", "-o", "json").stdout)
    assert (found["name"], found["number"]) == ("other", 1)
    assert found["manifest"]["lineage"]["parent"] == "q@1"
    assert found["manifest"]["metadata"]["quantized_to"] == "int8"
    assert found["manifest"]["lineage"]["pushed_from"]


def test_refusals_end_as_other_conflicts_do_and_say_what_to_do(run: Run, matrix: str) -> None:
    run("push", "r", matrix)
    run("quantize", "r", "--to", "int8")
    done = run("quantize", "r@2", "--to", "int8")
    assert done.returncode == 4
    assert "quantized already" in done.stderr
    assert "can become int8" in run("quantize", "r@1", "--to", "q4_k_m").stderr
    assert "no model 'nobody'" in run("quantize", "nobody", "--to", "int8").stderr
    assert run("quantize", "r@1", "--to", "q5").returncode == 2
    assert "no language model in the format gguf" in run("models", "compare", "r@1", "r@2").stderr


def test_where_signatures_are_demanded_the_parent_needs_one_and_the_new_version_gets_one(
    run: Run, matrix: str, tmp_path: Path
) -> None:
    private, public = key_files(tmp_path)
    assert run("push", "s8", matrix).returncode == 0
    run("trust", "add", "quantizers", public)
    run("trust", "policy", "required")
    try:
        done = run("quantize", "s8", "--to", "int8")
        assert "demands a signature of every version; give --sign-key" in done.stderr
        done = run("quantize", "s8", "--to", "int8", "--sign-key", private)
        assert "s8@1 is not signed by anyone this project trusts" in done.stderr
        assert run("models", "sign", "s8@1", "--key", private).returncode == 0
        done = run("quantize", "s8", "--to", "int8", "--sign-key", private)
        assert done.returncode == 0, done.stderr
        assert run("models", "verify", "s8@2").returncode == 0
    finally:
        run("trust", "policy", "off")
        run("trust", "remove", "quantizers")


def test_ctrl_c_ends_the_work_and_leaves_nothing(run: Run, home: Path) -> None:
    assert run("push", "smol", str(packaged_model())).returncode == 0
    argv = [sys.executable, "-m", "stoker.cli.main", "--home", str(home), "quantize", "smol", "--to", "q3_k_m"]
    with subprocess.Popen([*argv, "--requantize"], stderr=subprocess.PIPE) as command:
        until(lambda: list((home / "tmp").glob(".partial-*/made")), "it writes")
        command.send_signal(signal.SIGINT)
        command.communicate()
    assert command.returncode == 130
    until(lambda: not list((home / "tmp").iterdir()), "it is gone")
    assert "smol@2" not in run("models", "smol").stdout


@pytest.mark.parametrize(
    ("line", "why"), [("3", "line 2"), ('{"prompt": "x"}', "line 2"), ("not json", "line 2"), ('"a" "b"', "line 2")]
)
def test_a_line_that_is_no_text_is_named(line: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text(f'"fine"\n{line}\n')
    with pytest.raises(InvalidInput, match=why):
        read_texts(file)


def test_texts_are_quoted_lines_or_objects_with_text(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('"one"\n\n{"text": "zwei\\nLinien", "source": "x"}\n')
    assert read_texts(file) == ("one", "zwei\nLinien")


def side(ref: str, size_bytes: int) -> Side:
    return Side(ref, size_bytes, "llamacpp 1", 1.0, Estimate(29.1, 20, 40), 27.1, 7.3)


def test_the_table_tells_the_change_with_its_interval() -> None:
    found = Likeness(
        base=side("a@1", 200 * 2**20),
        other=side("a@2", 100 * 2**20),
        texts=48,
        tokens=3599,
        perplexity_ratio=Estimate(1.08, 1.065, 1.095),
        agreement_ratio=Estimate(0.851, 0.832, 0.868),
        read_speed_ratio=Estimate(1.14, 1.1, 1.18),
        write_speed_ratio=Estimate(1.63, 1.55, 1.72),
        size_ratio=0.5,
    )
    table = likeness_table(found)
    for words in ("+8.0%", "+6.5% … +9.5%", "85.1%", "×1.14", "×0.50", "3599 tokens of 48 texts", "reads these texts"):
        assert words in table


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(1.01, 1.02, "worse"), (0.98, 0.99, "better"), (0.99, 1.01, "No difference is proven")],
)
def test_the_verdict_is_no_more_than_the_interval_says(low: float, high: float, word: str) -> None:
    assert word in verdict(Estimate(1.0, low, high))
