import contextlib
import re
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.observe.patterns import compiled, fits

PIECES = st.sampled_from(["a", "b", "-", ".", ".*", ".+", "|", "[ab]", "[^a]", "\\.", "5"])


@given(st.lists(PIECES, max_size=8).map("".join), st.text(alphabet="ab-.5", max_size=8))
def test_a_pattern_fits_what_the_same_regular_expression_fits(pattern: str, value: str) -> None:
    assert fits(pattern, value) == (re.fullmatch(pattern, value, re.DOTALL) is not None)


@given(st.text(alphabet=string.printable, max_size=30))
def test_any_text_is_a_pattern_or_is_refused_in_words(text: str) -> None:
    with contextlib.suppress(ValueError):
        fits(text, "value")


def test_a_pattern_made_to_be_slow_is_not() -> None:
    hostile = ".*a" * 30 + "|" + ".*.*" * 20 + "b"
    began_s = time.process_time()
    assert not fits(hostile, "a" * 29 + "c" * 171)
    assert time.process_time() - began_s < 1.0  # re alone would take longer than the universe


@pytest.mark.parametrize("pattern", ["(a+)+b", "a{2}", "^a", "a$", "[", "a\\", "*"])
def test_what_is_not_known_is_refused_with_its_place(pattern: str) -> None:
    with pytest.raises(ValueError, match="is not known"):
        compiled(pattern)
