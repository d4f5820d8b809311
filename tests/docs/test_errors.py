"""Every error code that a client can meet has its section: what it means and what to do."""

from pathlib import Path

import pytest
from docs.reference_pages import errors

PAGE = (Path(__file__).parent.parent.parent / "docs" / "how-to" / "errors.md").read_text()
SECTIONS = {part.splitlines()[0].strip(): part for part in PAGE.split("\n## ")[1:]}
CODES = sorted(code for code, kind in errors.all_codes().items() if kind.__module__.startswith("stoker."))


@pytest.mark.parametrize("code", CODES)
def test_a_code_has_a_section_that_says_what_it_means_and_what_to_do(code: str) -> None:
    assert all(f"**{word}**" in SECTIONS[code] for word in ("Means", "Do"))


def test_no_section_is_left_over() -> None:
    assert set(SECTIONS) == set(CODES)
