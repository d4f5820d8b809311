"""The python engine: the user's class, its declarations, its requirements and its failures."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stoker.protocol.openai import ChatRequest, CompletionRequest, Message
from stoker.runtime.engines import registry
from stoker.types.errors import EngineFailed, RefusedArtifact, StokerError, Unsupported
from stoker.types.generation import Delta, Final, Finish
from stoker.types.models import Signature, TensorSpec
from tests.runtime.models import python_spec, spec_of

ECHO = """
class Model:
    inputs = {"x": ("FP32", [-1])}
    outputs = {"y": ("FP32", [-1])}
    def predict(self, inputs):
        return %s
"""


def load(folder: Path, code: str, task: str = "predict", **changes: Any) -> Any:
    return registry.load(python_spec(folder, code, task, **changes), lambda stage, fraction: None)


def ask(engine: Any) -> Any:
    return engine.predict({"x": np.zeros(2, np.float32)}, ())


def test_lists_and_other_types_become_what_the_signature_says(tmp_path: Path) -> None:
    found = ask(load(tmp_path, ECHO % "{'y': [1, 2]}"))
    assert found["y"].dtype == np.float32
    assert found["y"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("{'z': [1, 2]}", "['y'] missing"),
        ("[1, 2]", "returned list"),
        ("None", "returned NoneType"),
        ("{'y': ['a', 'b']}", "'y' does not become float32"),
        ("{'y': [[1], [2, 3]]}", "'y' does not become float32"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("exit(3)", "SystemExit: 3"),
    ],
)
def test_an_answer_that_does_not_fit_is_told_in_words(tmp_path: Path, answer: str, says: str) -> None:
    engine = load(tmp_path, ECHO % answer)
    with pytest.raises(EngineFailed) as raised:
        ask(engine)
    assert says in raised.value.message
    assert "Traceback" not in raised.value.message


def test_the_manifests_signature_wins_over_the_class(tmp_path: Path) -> None:
    signature = Signature((TensorSpec("x", "INT64", (4,)),), (TensorSpec("y", "BYTES", (1,)),))
    engine = load(tmp_path, ECHO % "{'y': ['é']}", signature=signature)
    assert engine.signature == signature
    assert not engine.batches
    assert engine.predict({"x": np.zeros(4, np.int64)}, ())["y"].tolist() == ["é".encode()]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("class Other: pass", "no class 'Model'"),
        ("class Model: pass", "no method 'predict'"),
        ("class Model:\n  def predict(self, i): ...", "stoker.yaml"),
        ("class Model:\n  inputs = {'x': ('FLOAT', [1])}\n  outputs = inputs\n  def predict(self, i): ...", "inputs"),
        ("class Model:\n  inputs = 3\n  def predict(self, i): ...", "inputs"),
        ("class Model:\n  def load(self, f): raise OSError('no weights')\n  def predict(self, i): ...", "line 2"),
        ("import no_such_package", "No module named 'no_such_package' (model.py line 1)"),
        ("1 +", "SyntaxError"),
        ("exit(1)", "SystemExit"),
    ],
)
def test_a_model_that_does_not_load_says_why(tmp_path: Path, code: str, says: str) -> None:
    with pytest.raises(StokerError) as raised:
        load(tmp_path, code)
    assert says in raised.value.message


def test_a_class_of_another_name_and_its_neighbour_files_are_found(tmp_path: Path) -> None:
    tmp_path.joinpath("its_neighbour.py").write_text("ANSWER = 7")
    code = "import its_neighbour\n" + (ECHO % "{'y': [its_neighbour.ANSWER]}").replace("class Model", "class Mine")
    engine = load(tmp_path, code, metadata={"class": "Mine"})
    assert ask(engine)["y"].tolist() == [7]
    assert not (tmp_path / "__pycache__").exists()


def test_all_that_is_missing_is_listed_at_once(tmp_path: Path) -> None:
    lines = ["# comment", "", "numpy>=1", "numpy<1.0  # old", "no-such-dist==3", 'other; python_version < "3"']
    (tmp_path / "requirements.txt").write_text("\n".join(lines))
    with pytest.raises(Unsupported) as raised:
        load(tmp_path, ECHO % "{}")
    assert f"numpy<1.0 (installed: {np.__version__})" in raised.value.message
    assert "no-such-dist==3 (not installed)" in raised.value.message
    assert "other" not in raised.value.message


def test_a_line_that_is_no_requirement_is_refused(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("-r ../../etc/passwd")
    with pytest.raises(RefusedArtifact, match="line 1"):
        load(tmp_path, ECHO % "{}")


def test_an_embedder_of_the_users_own(tmp_path: Path) -> None:
    code = "class Model:\n  def embed(self, texts): return [[len(t), 1.0] for t in texts]"
    engine = load(tmp_path, code, "embed")
    assert engine.dimensions == 2
    found = engine.embed(["a b", "abc"])
    assert found.vectors.tolist() == [[3, 1], [3, 1]]
    assert found.tokens == [2, 1]


CHAT = """
import asyncio, threading
class Model:
    async def generate(self, request):
        try:
            for number in range(%s):
                await asyncio.sleep(0)
                yield f"{threading.current_thread().name}"
        finally:
            self.closed = True
"""
REQUEST = ChatRequest(model="m", messages=[Message(role="user", content="hi")])


def test_a_generator_runs_in_a_loop_of_its_own(tmp_path: Path) -> None:
    engine = load(tmp_path, CHAT % 300, "chat")

    async def main() -> list[Any]:
        return [item async for item in engine.generate(REQUEST)]

    items = asyncio.run(main())
    engine.close()
    assert items[:300] == [Delta(text="model-loop")] * 300
    assert items[300] == Finish(0, "stop")
    assert isinstance(items[301], Final)
    assert items[301].usage.output_tokens == 300


def test_closing_the_answer_closes_the_users_generator(tmp_path: Path) -> None:
    engine = load(tmp_path, CHAT % "10**9", "chat")

    async def main() -> None:
        items = engine.generate(REQUEST)
        async for _ in items:
            break
        await items.aclose()
        async with asyncio.timeout(10):
            while not getattr(engine._model, "closed", False):
                await asyncio.sleep(0.01)

    asyncio.run(main())
    engine.close()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("yield 5", "yielded int"),
        ("yield 'a'; 1/0", "ZeroDivisionError"),
        ("return", None),
        ("pass", "a coroutine; expected"),
    ],
)
def test_what_a_generator_does_wrong_is_told_in_words(tmp_path: Path, body: str, says: str | None) -> None:
    code = f"class Model:\n  async def generate(self, r):\n    {body}\n"
    code += "    yield ''" if body == "return" else ""
    engine = load(tmp_path, code, "chat")

    async def main() -> None:
        async for _ in engine.generate(REQUEST):
            pass

    if says is None:
        asyncio.run(main())
    else:
        with pytest.raises(EngineFailed, match=says):
            asyncio.run(main())
    engine.close()
    assert "model-loop" not in [thread.name for thread in threading.enumerate()]


def test_more_than_one_choice_is_refused_and_not_ignored(tmp_path: Path) -> None:
    engine = load(tmp_path, CHAT % 1, "chat")
    two = ChatRequest(model="m", messages=REQUEST.messages, n=2)
    for request in (two, CompletionRequest(model="m", prompt=["a", "b"])):
        with pytest.raises(Unsupported):
            asyncio.run(anext(engine.generate(request)))
    engine.close()


def test_the_folder_is_not_changed_by_loading(tmp_path: Path) -> None:
    load(tmp_path, ECHO % "{'y': [1]}")
    assert [path.name for path in tmp_path.iterdir()] == ["model.py"]
    assert spec_of(tmp_path, "python").manifest.entry == "model.py"
