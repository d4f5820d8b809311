"""What llama.cpp says of texts: the same in steps of any size, and what its server says of what it writes."""

from collections.abc import Iterator
from math import exp
from pathlib import Path

import pytest

from stoker.runtime.engines import llamacpp_score
from stoker.runtime.engines.llamacpp import LlamaEngine
from stoker.runtime.engines.llamacpp_score import WRITTEN_TOKENS, Scorer
from stoker.types.errors import RefusedArtifact
from tests.engines_llm.support import answer, completion, packaged_model

TEXT = (
    "The harbour was quiet when the last boat came in. Two men tied the ropes, counted the boxes and went home without "
    "a word. Only the lamp at the end of the pier was still burning."
)


@pytest.fixture(scope="module")
def scorer() -> Iterator[Scorer]:
    return Scorer(packaged_model(), 1)


def test_each_token_after_the_first_has_a_loss_and_a_best(scorer: Scorer) -> None:
    found = scorer.score(TEXT)
    assert len(found.losses) == len(found.best) == len(found.tokens) - 1
    assert all(loss >= 0 for loss in found.losses)
    assert found.written == WRITTEN_TOKENS
    assert found.read_s > 0
    assert found.write_s > 0


def test_prose_surprises_less_than_the_same_words_shuffled(scorer: Scorer) -> None:
    shuffled = " ".join(sorted(TEXT.split(), key=lambda word: word[::-1]))
    prose, mixed = (scorer.score(text).losses for text in (TEXT, shuffled))
    assert exp(sum(prose) / len(prose)) * 3 < exp(sum(mixed) / len(mixed))


def test_a_token_that_is_the_best_has_the_highest_probability(scorer: Scorer) -> None:
    found = scorer.score(
        "The capital of France is Paris. The capital of Italy is Rome. The capital of France is Paris."
    )
    hits = [loss for loss, token, best in zip(found.losses, found.tokens[1:], found.best, strict=True) if token == best]
    assert hits
    assert min(found.losses) in hits
    assert all(loss < 3 for loss in hits)


def test_the_same_is_said_in_steps_of_any_size_and_after_any_other_text(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scorer.score(TEXT)
    assert scorer.score(TEXT).losses == whole.losses
    monkeypatch.setattr(llamacpp_score, "BATCH_TOKENS", 16)
    steps = Scorer(packaged_model(), 1).score(TEXT)
    assert steps.tokens == whole.tokens
    assert len(whole.tokens) > 2 * 16
    assert sum(abs(one - two) for one, two in zip(steps.losses, whole.losses, strict=True)) / len(whole.losses) < 0.05
    agreeing = sum(one == two for one, two in zip(steps.best, whole.best, strict=True))
    assert agreeing > 0.9 * len(whole.best)


def test_what_the_engine_writes_it_finds_as_probable_when_it_reads_it(scorer: Scorer, llama: LlamaEngine) -> None:
    written = answer(llama, completion(TEXT, max_tokens=8, temperature=0, logprobs=1))
    said = [token.logprob for delta in written.deltas for token in delta.logprobs]
    before, after = scorer.score(TEXT), scorer.score(TEXT + written.text())
    assert after.tokens[: len(before.tokens)] == before.tokens
    assert len(after.tokens) == len(before.tokens) + len(said) == len(before.tokens) + 8
    assert after.losses[-8:] == pytest.approx([-one for one in said], abs=0.05)
    assert after.best[-8:] == after.tokens[-8:]


@pytest.mark.parametrize("text", ["", "a", "\x00", "\N{GRINNING FACE}" * 5], ids=repr)
def test_no_text_is_too_short_too_long_or_too_odd(scorer: Scorer, text: str) -> None:
    found = scorer.score(text)
    assert len(found.losses) == max(0, len(found.tokens) - 1)
    assert (found.written > 0) == bool(found.tokens)


def test_a_text_that_is_too_long_is_cut(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer, "_tokens_max", 40)
    assert len(scorer.score(TEXT * 10).tokens) == 40


def test_a_file_that_is_no_model_is_refused_with_the_engines_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(packaged_model().read_bytes()[:100_000])
    with pytest.raises(RefusedArtifact, match=r"llama.cpp cannot load broken.gguf: ."):
        Scorer(broken, 1)
