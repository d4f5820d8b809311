"""A version is refused when it is surely worse than what it was made from, and not for a few odd texts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.gate import likeness
from stoker.types.likeness import Estimate, Likeness, Side
from stoker.types.models import Lineage, VersionManifest
from stoker.types.releases import GoldenGate, LikenessGate


def found(
    perplexity: tuple[float, float, float] = (1.01, 1.0, 1.02),
    agreement: tuple[float, float, float] = (0.95, 0.94, 0.96),
    writes: tuple[float, float, float] = (1.5, 1.4, 1.6),
) -> Likeness:
    def side(ref: str, value: float) -> Side:
        return Side(ref, 100, "llamacpp", 1.0, Estimate(value, value, value), 20.0, 5.0)

    return Likeness(
        base=side("m@1", 20.0),
        other=side("m@2", 20.0 * perplexity[0]),
        texts=48,
        tokens=3_600,
        perplexity_ratio=Estimate(*perplexity),
        agreement_ratio=Estimate(*agreement),
        read_speed_ratio=Estimate(1.1, 1.0, 1.2),
        write_speed_ratio=Estimate(*writes),
        size_ratio=0.4,
    )


def test_what_reads_surely_worse_is_refused_with_its_numbers() -> None:
    refused = likeness.judge(LikenessGate(), found((1.2, 1.11, 1.3)))
    assert not refused.is_passed
    assert "perplexity is more than 10.0% higher, and chance does not explain it" in refused.because
    assert "+20.0%, +11.0 to +30.0 at 95 %" in refused.because
    assert refused.numbers["perplexity_ratio_low"] == 1.11


def test_what_other_texts_may_explain_passes_and_says_so() -> None:
    passed = likeness.judge(LikenessGate(), found((1.2, 1.09, 1.3)))
    assert passed.is_passed
    assert "other texts may say otherwise" in passed.because
    assert "otherwise" not in likeness.judge(LikenessGate(), found()).because


def test_another_next_token_too_often_and_a_slower_one_where_that_is_asked_are_refused() -> None:
    apart = found(agreement=(0.7, 0.6, 0.79))
    assert "the same next token less than 80.0%" in likeness.judge(LikenessGate(), apart).because
    assert not likeness.judge(LikenessGate(), apart).is_passed
    assert likeness.judge(LikenessGate(agreement_min=0.75), apart).is_passed
    slow = found(writes=(0.5, 0.4, 0.6))
    assert likeness.judge(LikenessGate(), slow).is_passed
    refused = likeness.judge(LikenessGate(slower_max=0.3), slow)
    assert not refused.is_passed
    assert "it writes more than 30.0% slower" in refused.because


def test_a_model_that_says_no_numbers_is_refused_and_its_numbers_can_be_stored() -> None:
    broken = likeness.judge(LikenessGate(perplexity_worse_max=100), found((math.nan, math.nan, math.nan)))
    assert not broken.is_passed
    assert all(math.isfinite(each) for each in broken.numbers.values())


RATIO = st.tuples(st.floats(0.5, 3), st.floats(0, 0.5), st.floats(0, 0.5)).map(
    lambda drawn: (drawn[0], drawn[0] - drawn[1], drawn[0] + drawn[2])
)


@given(RATIO, st.floats(0, 2), st.floats(0, 1))
def test_a_looser_bound_never_refuses_what_a_tighter_one_passes(
    ratio: tuple[float, float, float], tight: float, more: float
) -> None:
    def passes(bound: float) -> bool:
        return likeness.judge(LikenessGate(perplexity_worse_max=bound), found(ratio)).is_passed

    assert passes(tight + more) or not passes(tight)
    assert passes(tight) == (ratio[1] <= 1.0 + tight)


@pytest.mark.parametrize(
    ("when", "is_quantized", "is_asked"),
    [("quantized", True, True), ("quantized", False, False), ("always", False, True), ("off", True, False)],
)
def test_versions_in_fewer_bits_are_compared_by_default_and_others_where_asked(
    when: str, is_quantized: bool, is_asked: bool
) -> None:
    metadata = {"quantized_from": "m@1"} if is_quantized else {}
    manifest = VersionManifest("gguf", (), "m.gguf", metadata=dict(metadata), lineage=Lineage(parent="base@3"))
    assert likeness.is_asked(LikenessGate(when=when), manifest) is is_asked  # type: ignore[arg-type]
    assert likeness.origin(manifest) == ("m@1" if is_quantized else "base@3")


@pytest.mark.parametrize(
    ("gate", "ratio", "is_alone", "is_passed", "words"),
    [
        (GoldenGate(at_most=19.0), (1.0, 1.0, 1.0), True, False, "perplexity 20 on 48 examples; at most 19 is asked"),
        (GoldenGate(at_most=21.0), (1.0, 1.0, 1.0), True, True, "perplexity 20 on 48 examples"),
        (GoldenGate(), (1.0, 1.0, 1.0), True, True, "perplexity 20 on 48 examples; nothing to compare it with"),
        (GoldenGate(), (1.04, 1.03, 1.05), False, True, "20 by the serving revision (+4.0%, +3.0 to +5.0 at 95 %)"),
        (GoldenGate(), (1.2, 1.1, 1.3), False, False, "worse by 20.0%, at most 0.05 is allowed, and chance does not"),
        (GoldenGate(), (1.2, 1.01, 1.4), False, True, "worse by 20.0%, at most 0.05 is allowed, but other texts may"),
        (GoldenGate(worse_max=0.5), (1.2, 1.1, 1.3), False, True, "perplexity 24 on 48 examples, 20 by the serving"),
    ],
)
def test_examples_are_held_to_a_bound_and_to_what_serves_but_not_beyond_chance(
    gate: GoldenGate, ratio: tuple[float, float, float], is_alone: bool, is_passed: bool, words: str
) -> None:
    judged = likeness.perplexity(gate, found(ratio), is_alone=is_alone)
    assert (judged.is_passed, words in judged.because) == (is_passed, True), judged.because
