"""An answer that ends in a loop is told from one that does not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.repetition import LENGTH_MIN, REPEATS, TAIL, ends_in_a_loop

PROSE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()
TABLE = "\n".join(f"| {number} | {number * 7 % 13} | {number**2} |" for number in range(200))
CODE = Path(__file__).read_text()


@pytest.mark.parametrize("text", [PROSE, TABLE, CODE, PROSE[:LENGTH_MIN], "", "no no no no no"])
def test_prose_tables_and_code_do_not(text: str) -> None:
    assert not any(ends_in_a_loop(text[:end]) for end in range(0, len(text) + 1, max(len(text) // 50, 1)))


@pytest.mark.parametrize("unit", ["the ", "I am sorry, I cannot help with that. ", "a" * 40 + "b", "\n", "0, "])
def test_a_loop_does_after_whatever_came_before(unit: str) -> None:
    assert ends_in_a_loop(PROSE + unit * (LENGTH_MIN // len(unit) + REPEATS))


@given(st.text(min_size=1, max_size=TAIL // REPEATS), st.text(max_size=50), st.integers(0, 400))
def test_any_unit_repeated_often_enough_is_found_also_when_it_is_cut_in_the_middle(
    unit: str, before: str, cut: int
) -> None:
    text = before + unit * (REPEATS + 1 + LENGTH_MIN // len(unit)) + unit[: cut % len(unit)]
    if len(unit) * REPEATS <= min(len(text), TAIL):
        assert ends_in_a_loop(text)


@given(st.text(max_size=2 * TAIL))
def test_any_text_is_judged_and_what_is_said_to_loop_has_a_period(text: str) -> None:
    if ends_in_a_loop(text):
        tail = text[-TAIL:]
        periods = [p for p in range(1, len(tail) // REPEATS + 1) if tail[-max(REPEATS * p, LENGTH_MIN) : -p]
                   == tail[-max(REPEATS * p, LENGTH_MIN) + p :]]  # fmt: skip
        assert periods
