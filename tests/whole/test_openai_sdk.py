"""OpenAI's own SDKs, unmodified, against the demo platform: Python in two majors and the npm package."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.whole.rig import WAIT_S, Platform

SDKS = Path(sys.prefix) / "sdks"  # `make test` puts other versions here, each in its own folder
DEMO = {"digits", "minilm", "smol"}  # no endpoint of another test is left
SCRIPT = Path(__file__).parent / "sdk"


def python_sdks() -> list[str]:
    """Return `""` for the SDK of this environment and the folder of the major before, if it is there."""
    return ["", str(SDKS / "openai-previous")]


def run(command: list[str], platform: Platform, **environment: str) -> dict[str, object]:
    platform.follows(lambda table: {each.endpoint for each in table.endpoints if each.project == "default"} == DEMO)
    done = subprocess.run(
        command,
        env={**os.environ, "OPENAI_BASE_URL": f"{platform.url}/v1", "OPENAI_API_KEY": platform.key, **environment},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{platform.logs()}"
    said: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return said


def check(said: dict[str, object]) -> None:
    assert said["models"] == sorted(DEMO)
    assert said["model"] == "smol"
    assert said["chat_text"], "an empty answer"
    assert said["chat_usage_adds_up"] is True
    assert said["request_id"]
    assert said["stream_text"], "an empty stream"
    assert said["stream_usage"] == [0, 1], "usage on the last chunk alone, which has no choices"
    assert said["completion_text"]
    assert said["embedding_dimensions"] == [384, 384]
    assert said["embedding_norm"] == pytest.approx(1.0, abs=1e-3)
    assert said["json"] == ["age", "name"]
    assert said["errors"] == {
        "unknown model": [404, "NotFoundError"],
        "bad key": [401, "AuthenticationError"],
        "bad temperature": [400, "BadRequestError"],
        "too long": [400, "BadRequestError"],
    }


@pytest.mark.parametrize("folder", python_sdks(), ids=["this major", "the major before"])
def test_the_python_sdk_talks_to_it_unmodified(demo: Platform, folder: str) -> None:
    if folder and not Path(folder).exists():
        pytest.skip("`make sdks` installs it")
    check(run([sys.executable, str(SCRIPT / "openai_sdk.py")], demo, PYTHONPATH=folder))


@pytest.mark.parametrize("name", ["openai", "openai-previous"])
def test_the_npm_sdk_talks_to_it_unmodified(demo: Platform, name: str) -> None:
    node = shutil.which("node")
    package = SDKS / "npm" / "node_modules" / name
    if node is None or not package.exists():
        pytest.skip("`make sdks` installs it where Node is")
    check(run([node, str(SCRIPT / "openai_sdk.mjs")], demo, OPENAI_PACKAGE=str(package)))
