"""The embeddings answer, as OpenAI's own SDK reads it."""

import base64
import json

import numpy as np
from openai.types import CreateEmbeddingResponse

from stoker.protocol.openai_embedding import embedding_body

VECTORS = np.random.default_rng(3).normal(size=(2, 5)).astype(np.float32)


def test_numbers_come_back_exactly_in_the_order_of_the_inputs() -> None:
    body = embedding_body(VECTORS, [3, 4], model='m"1', encoding=None)
    answer = CreateEmbeddingResponse.model_validate_json(body)
    assert answer.model == 'm"1'
    assert [item.index for item in answer.data] == [0, 1]
    assert np.array_equal(np.array([item.embedding for item in answer.data], np.float32), VECTORS)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (7, 7)
    assert answer.object == "list"


def test_base64_is_little_endian_float32() -> None:
    answer = json.loads(embedding_body(VECTORS, [1, 1], model="m", encoding="base64"))
    for row, item in zip(VECTORS, answer["data"], strict=True):
        assert np.array_equal(np.frombuffer(base64.b64decode(item["embedding"]), "<f4"), row)


def test_vectors_that_are_no_whole_rows_in_memory_are_still_right() -> None:
    strided = VECTORS[:, ::2]
    answer = json.loads(embedding_body(strided, [1, 1], model="m", encoding="base64"))
    assert np.array_equal(np.frombuffer(base64.b64decode(answer["data"][1]["embedding"]), "<f4"), strided[1])
