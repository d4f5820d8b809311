"""What the README and the tutorial show is run as it stands there, against the demo platform."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from tests.whole.rig import STOKER, WAIT_S, Platform, until

ROOT = Path(__file__).parent.parent.parent


def blocks(page: str, language: str = "") -> list[str]:
    """Return the fenced blocks of a page that are marked as `language`."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    return [text for marked, text in fences if marked == language]


def bash(platform: Platform, script: str, folder: Path) -> str:
    """Run lines of a page in a shell, with the demo's port in place of the default one."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace(":8080", f":{platform.port}").replace(".venv/bin/", "")],
        env={**platform.environment, "PATH": f"{STOKER.parent}:{platform.environment['PATH']}"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_lines_to_copy_answer(demo: Platform, tmp_path: Path) -> None:
    said = bash(demo, next(block for block in blocks("README.md", "bash") if "curl" in block), tmp_path)
    assert '"outputs":[{"name":"label"' in said
    assert '"object":"embedding"' in said
    assert said.rstrip().endswith("data: [DONE]")


def test_the_lines_that_ask_how_it_does_are_answered(demo: Platform, tmp_path: Path) -> None:
    said = bash(demo, next(block for block in blocks("README.md", "bash") if "stoker why" in block), tmp_path)
    assert "default/digits" in said, "objectives"
    assert re.search(r"compared .* with ", said), "why"


def test_serving_a_model_of_your_own_works_as_it_is_written(demo: Platform, tmp_path: Path) -> None:
    for seed, name in enumerate(("model.onnx", "model-2.onnx")):
        (tmp_path / name).write_bytes(small_model(seed))
    said = bash(demo, next(block for block in blocks("README.md", "bash") if "stoker push mine" in block), tmp_path)
    assert "mine@2 registered" in said
    (mine,) = [one for one in demo.json("get", "endpoints")["items"] if one["name"] == "mine"]
    assert mine["resource"]["spec"]["model"] == "mine@1", "rolled back"
    bash(demo, "stoker delete endpoint mine", tmp_path)


def small_model(seed: int) -> bytes:
    """Return a linear classifier of four numbers as ONNX."""
    rows, labels = np.random.default_rng(seed).normal(size=(60, 4)).astype(np.float32), np.arange(60) % 2
    trained = LogisticRegression().fit(rows, labels)
    written: bytes = to_onnx(trained, rows[:1], options={"zipmap": False}).SerializeToString()
    return written


def test_the_tutorial_works_as_it_is_written(demo: Platform, tmp_path: Path) -> None:
    shell = blocks("docs/tutorial.md")
    model = next(block for block in blocks("docs/tutorial.md", "python") if "class Model" in block)
    (tmp_path / "adder").mkdir()
    (tmp_path / "adder" / "model.py").write_text(model)
    assert "label" in bash(demo, next(block for block in shell if "stoker predict digits" in block), tmp_path)
    said = bash(demo, next(block for block in shell if "adder@1" in block), tmp_path)
    assert "4" in said
    assert "8" in said
    (tmp_path / "adder" / "model.py").write_text(model.replace("self.bias = 1.0", "self.bias = 100.0"))
    bash(demo, next(block for block in shell if "adder@2" in block), tmp_path)
    bash(demo, "stoker delete endpoint adder", tmp_path)


def test_the_lines_about_keys_make_a_key_that_calls_its_project_only(demo: Platform, tmp_path: Path) -> None:
    lines, limited = blocks("docs/how-to/keys.md")
    said = bash(demo, lines, tmp_path)
    demo.follows()
    key = next(word for word in said.split() if word.startswith("stk_"))
    listing = f"curl -s http://127.0.0.1:8080/v1/models -H 'Authorization: Bearer {key}'"
    assert [model["id"] for model in json.loads(bash(demo, listing, tmp_path))["data"]] == ["digits"]
    bash(demo, limited, tmp_path)
    listed = bash(demo, "stoker keys list", tmp_path)
    assert "20/s 60k tok/min sheddable" in listed
    assert "critical ×2 shop" in listed
    bash(demo, "stoker delete endpoint digits --project vision", tmp_path)
    until(lambda: not demo.json("get", "endpoints", "--project", "vision")["items"], "the endpoint is gone")
