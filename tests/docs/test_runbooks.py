"""Every cause that can be named has its runbook, complete."""

from pathlib import Path

import pytest

from stoker.core.diagnose.causes import KINDS, Cause, CauseKind
from stoker.core.remedies import FITS
from stoker.types.remedies import ACTS

PAGE = (Path(__file__).parent.parent.parent / "docs" / "how-to" / "runbooks.md").read_text()
SECTIONS = {part.splitlines()[0].strip(): part for part in PAGE.split("\n## ")[1:]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_cause_has_a_section_that_says_what_it_means_how_to_make_sure_and_what_to_do(kind: CauseKind) -> None:
    section = SECTIONS[Cause(kind, 1.0, (), 0.0).runbook]
    assert all(f"**{word}**" in section for word in ("Means", "Make sure", "Do"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_section_says_what_is_done_by_itself_where_anything_is(kind: CauseKind) -> None:
    section = SECTIONS[Cause(kind, 1.0, (), 0.0).runbook]
    said = section.partition("**By itself**")[2].splitlines()[:1]
    named = tuple(word for word in ACTS if f"`{word}`" in "".join(said))
    assert set(named) == set(FITS.get(kind, ()))


def test_no_section_is_left_over() -> None:
    assert {Cause(kind, 1.0, (), 0.0).runbook for kind in KINDS} == set(SECTIONS)
