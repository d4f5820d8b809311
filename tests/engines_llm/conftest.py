"""One loaded engine of each kind for the session: in this process, and as a child behind the remote adapter."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.runtime.engines import llamacpp, openai, openvino, registry
from stoker.runtime.engines.llamacpp import LlamaEngine
from stoker.runtime.engines.openvino import OpenvinoEngine
from stoker.runtime.engines.port import GenerateEngine
from tests.engines_llm.support import ROOT, packaged_model, quiet, spec

CONTEXT = 1024


@pytest.fixture(scope="session")
def gguf() -> Path:
    return packaged_model()


@pytest.fixture(scope="session")
def llama(gguf: Path) -> Iterator[LlamaEngine]:
    engine = llamacpp.load(spec("llamacpp", gguf=gguf, context=CONTEXT, batch_tokens=64), quiet)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def remote(gguf: Path) -> Iterator[GenerateEngine]:
    script = ROOT / "bench" / "baselines" / "llamacpp.py"
    command = [sys.executable, str(script), str(gguf), "--port", "{port}", "--context", str(CONTEXT)]
    engine = openai.load(spec("openai", command=command, model="smol"), quiet)
    assert isinstance(engine, openai.RemoteGenerate)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def vinos() -> Iterator[list[OpenvinoEngine]]:
    """Every pipeline of the session; the last one lives."""
    made: list[OpenvinoEngine] = []
    yield made
    for engine in made:
        engine.close()


@pytest.fixture
def vino(gguf: Path, vinos: list[OpenvinoEngine]) -> OpenvinoEngine:
    """One pipeline for all, and another for the tests behind one whose pipeline died: it fails alone."""
    if not registry.version("openvino"):
        pytest.skip("openvino-genai is not installed")
    if not vinos or vinos[-1].is_closed:
        wanted = spec("openvino", gguf=gguf, context=CONTEXT, batch_tokens=64)
        vinos.append(openvino.load(wanted, quiet, on_death=lambda: None))
    return vinos[-1]


@pytest.fixture(params=["llamacpp", "openvino", "openai"])
def engine(request: pytest.FixtureRequest) -> GenerateEngine:
    """Each adapter in turn."""
    name = {"llamacpp": "llama", "openvino": "vino", "openai": "remote"}[request.param]
    found: GenerateEngine = request.getfixturevalue(name)
    return found
