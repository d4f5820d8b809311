"""Embedding requests against a real replica with a real encoder."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai.types import CreateEmbeddingResponse

from stoker.protocol.link import Link
from stoker.types.errors import InvalidInput, TooLarge
from tests.runtime.models import spec_of
from tests.runtime.rig import Process, ask, drive, running, stats_of


async def embed(link: Link, texts: Any, **changes: Any) -> CreateEmbeddingResponse:
    _, body = await ask(link, "embeddings", json.dumps({"model": "minilm", "input": texts, **changes}).encode())
    return CreateEmbeddingResponse.model_validate_json(body)


def vectors(answer: CreateEmbeddingResponse) -> Any:
    return np.array([item.embedding for item in answer.data], np.float32)


def test_texts_in_vectors_out_however_they_are_cut_and_joined(minilm_folder: Path, tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        texts = [f"sentence number {number}" for number in range(21)]
        whole = await embed(link, texts)  # more than a batch takes
        assert [item.index for item in whole.data] == list(range(21))
        singles = await asyncio.gather(*(embed(link, text) for text in texts))
        assert np.allclose(np.vstack([vectors(answer) for answer in singles]), vectors(whole), atol=1e-5)
        assert sum(answer.usage.prompt_tokens for answer in singles) == whole.usage.total_tokens
        assert whole.model == "minilm"
        end, raw = await ask(link, "embeddings", b'{"model":"minilm","input":"a b","encoding_format":"base64"}')
        assert (end.usage.rows, end.usage.input_tokens) == (1, 4)
        decoded = np.frombuffer(base64.b64decode(json.loads(raw)["data"][0]["embedding"]), "<f4")
        assert np.allclose(decoded, vectors(await embed(link, "a b"))[0], atol=1e-6)
        stats = await stats_of(link)
        assert stats.tokens == 2 * whole.usage.total_tokens + 8
        await embed(link, "x", dimensions=384)

    with running(spec_of(minilm_folder, "onnx", "embed", max_rows=8), tmp_path) as process:
        drive(process, body)


@pytest.mark.parametrize("hostile", [[1, 2, 3], [[1, 2], [3]], [], ["a", 1], None, 5, {"a": 1}, [None]])
def test_inputs_that_are_no_texts_are_refused_by_field(hostile: Any, embedder: Process) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        with pytest.raises(InvalidInput) as raised:
            await embed(link, hostile)
        assert (raised.value.field or "").startswith("input")

    drive(embedder, body)


def test_what_the_model_cannot_do_is_refused_and_not_ignored(embedder: Process) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        with pytest.raises(InvalidInput, match="384") as raised:
            await embed(link, "x", dimensions=128)
        assert raised.value.field == "dimensions"
        with pytest.raises(TooLarge) as too_large:
            await embed(link, ["x", "y" * (1 << 20 | 1)])
        assert too_large.value.field == "input[1]"
        with pytest.raises(InvalidInput):
            await ask(link, "embeddings", b'{"model":"minilm","input":"\xff"}')

    drive(embedder, body)


@pytest.fixture(scope="module")
def embedder(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(spec_of(minilm_folder, "onnx", "embed"), tmp_path_factory.mktemp("embedder")) as process:
        yield process
