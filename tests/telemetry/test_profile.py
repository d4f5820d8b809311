"""What a text looks like without a model: each property against texts that plainly have it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.watched import BUCKETS, CHAT, TRIGRAMS
from stoker.telemetry.profile import EXCERPT, profile
from stoker.telemetry.texts import script_of


def one(text: str, what: str):
    return profile("prompt", [text])[f"prompt.{what}"][0, 0]


@pytest.mark.parametrize(
    "text",
    [
        "Guten Tag",
        "Привет мир",
        "你好 世界",
        "こんにちは",
        "안녕하세요",
        "Καλημέρα",
        "مرحبا",
        "שלום",
        "हिन्दी",
        "ไทย",
        "123 !",
    ],
)
def test_scripts_are_called_as_everywhere_else(text: str) -> None:
    assert one(text, "script") == script_of(text)


def test_digits_signs_and_repetition_are_shares() -> None:
    assert one("ab 12, ", "digits") == pytest.approx(2 / 5)
    assert one("ab 12, ", "signs") == pytest.approx(1 / 5)
    assert one("1、2。", "signs") == pytest.approx(1 / 2)
    assert one("la la la la la la la la la la", "variety") < 0.2 < 0.9 < one("The quick brown fox jumps", "variety")
    assert one("x" * 5_000, "characters") == 5_000


def test_a_text_without_anything_has_no_shares_and_no_wording() -> None:
    found = profile("prompt", ["", "ab"])
    assert np.isnan(found["prompt.digits"][0, 0])
    assert found["prompt.trigram"][:, 0].tolist() == ["", ""]
    assert found["prompt.script"][:, 0].tolist() == ["", "latin"]
    assert not found["prompt.wording"].any()


@given(st.lists(st.text(max_size=600), max_size=6))
def test_whatever_a_text_is_the_columns_are_those_that_are_watched(texts: list[str]) -> None:
    found = profile("answer", texts)
    watched = {tensor.name for tensor in CHAT.signature.outputs}
    assert found.keys() - {"answer.wording"} <= watched
    assert found["answer.wording"].shape == (len(texts), BUCKETS)
    lengths = np.linalg.norm(found["answer.wording"], axis=1)
    assert np.allclose(lengths, [float(len(text.lower()) > 2 or len(text) > 2) for text in texts], atol=1e-5)
    assert set(found["answer.trigram"].ravel()) <= {*TRIGRAMS, ""}
    for name in ("digits", "signs", "variety"):
        shares = found[f"answer.{name}"]
        assert ((shares >= 0) & (shares <= 1) | np.isnan(shares)).all()


def test_texts_together_are_what_they_are_alone_up_to_the_excerpt() -> None:
    texts = ["Guten Tag, wie geht es?", "", "Привет", "a1!" * (EXCERPT // 3)]
    whole = profile("prompt", texts)
    for at, text in enumerate(texts):
        alone = profile("prompt", [text])
        for name in ("prompt.digits", "prompt.script", "prompt.variety", "prompt.wording"):
            assert np.array_equal(whole[name][at], alone[name][0], equal_nan=whole[name].dtype != object)
