"""What every embed engine must do, run over the encoder with a tokenizer and over a class of the user's own."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stoker.runtime.engines import registry
from stoker.runtime.engines.onnx_embed import TOKENS_MAX, _groups
from stoker.types.errors import InvalidInput, RefusedArtifact
from tests.runtime.models import python_spec, spec_of

TEXTS = [
    "A kitten plays with a ball of wool.",
    "cat",
    "The stock market fell for the third day in a row, and nobody could say why it had risen before.",
    "déjà vu",
    "",
    "word " * 60,
    "A kitten plays with a ball of wool.",
]
COUNTER = """
class Model:
    def embed(self, texts):
        return [[len(text), text.count("a"), 1.0] for text in texts]
"""


def load(folder: Path, **options: Any) -> Any:
    return registry.load(spec_of(folder, "onnx", "embed", options=options), lambda stage, fraction: None)


@pytest.fixture(scope="module")
def encoder(minilm_folder: Path) -> Any:
    return load(minilm_folder)


@pytest.fixture(params=["onnx", "python"])
def engine(request: pytest.FixtureRequest, encoder: Any, tmp_path: Path) -> Any:
    if request.param == "onnx":
        return encoder
    return registry.load(python_spec(tmp_path, COUNTER, "embed"), lambda stage, fraction: None)


def test_a_vector_a_text_in_order(engine: Any) -> None:
    found = engine.embed(TEXTS)
    assert found.vectors.shape == (len(TEXTS), engine.dimensions)
    assert found.vectors.dtype == np.float32
    assert len(found.tokens) == len(TEXTS)
    assert np.isfinite(found.vectors).all()
    assert np.allclose(found.vectors[0], found.vectors[6])


def test_a_batch_gives_every_text_what_it_gets_alone(engine: Any) -> None:
    together = engine.embed(TEXTS)
    for at, text in enumerate(TEXTS):
        alone = engine.embed([text])
        assert np.allclose(alone.vectors[0], together.vectors[at], atol=1e-5)
        assert alone.tokens == [together.tokens[at]]


def test_meaning_is_nearer_than_chance(encoder: Any) -> None:
    cat, kitten, market = encoder.embed(["a cat", "a kitten", "the stock market fell"]).vectors
    assert cat @ kitten > 0.6
    assert cat @ market < 0.3


def test_vectors_have_length_one_unless_told_otherwise(encoder: Any, minilm_folder: Path) -> None:
    lengths = np.linalg.norm(encoder.embed(TEXTS).vectors, axis=1)
    assert np.allclose(lengths, 1, atol=1e-6)
    raw = load(minilm_folder, normalize=False).embed(TEXTS)
    assert not np.allclose(np.linalg.norm(raw.vectors, axis=1), 1, atol=1e-2)


def test_long_texts_are_cut_at_the_models_length_and_counted_as_cut(encoder: Any) -> None:
    long = encoder.embed(["word " * 5000])
    assert long.tokens == [256]  # what its sentence_bert_config.json says
    assert np.allclose(long.vectors, encoder.embed(["word " * 300]).vectors, atol=1e-5)


def test_long_texts_are_refused_where_cutting_is_off(minilm_folder: Path) -> None:
    strict = load(minilm_folder, truncate=False, max_tokens=16)
    assert strict.embed(["short"]).tokens == [3]
    with pytest.raises(InvalidInput, match="this model takes 16") as raised:
        strict.embed(["short", "word " * 50])
    assert raised.value.field == "input[1]"


def test_pooling_by_the_first_token_differs_from_the_mean(encoder: Any, minilm_folder: Path) -> None:
    cls = load(minilm_folder, pooling="cls").embed(["a cat"]).vectors
    assert not np.allclose(cls, encoder.embed(["a cat"]).vectors, atol=1e-2)


def test_texts_of_like_length_run_together_within_the_memory_they_may_take() -> None:
    tokens = [3, 200, 5, 256, 16, 17, 40, *[256] * 40]
    groups = _groups(tokens)
    assert sorted(at for group in groups for at in group) == list(range(len(tokens)))
    for group in groups:
        longest, shortest = max(tokens[at] for at in group), min(tokens[at] for at in group)
        assert longest <= max(16, 2 * shortest)
        assert longest * len(group) <= TOKENS_MAX


@pytest.mark.parametrize("tokenizer", [None, b"", b"{}"])
def test_a_missing_or_broken_tokenizer_is_named(minilm_folder: Path, tmp_path: Path, tokenizer: bytes | None) -> None:
    shutil.copy(minilm_folder / "model.onnx", tmp_path)
    if tokenizer is not None:
        (tmp_path / "tokenizer.json").write_bytes(tokenizer)
    with pytest.raises(RefusedArtifact, match=r"tokenizer\.json"):
        load(tmp_path)


def test_a_model_that_is_no_encoder_is_refused(digits: Any, minilm_folder: Path, tmp_path: Path) -> None:
    shutil.copy(digits.folders["onnx"] / "model.onnx", tmp_path)
    shutil.copy(minilm_folder / "tokenizer.json", tmp_path)
    with pytest.raises(RefusedArtifact, match="input_ids"):
        load(tmp_path)
