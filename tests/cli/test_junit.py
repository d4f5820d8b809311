"""Reports that every CI reads, whatever a check said."""

from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.cli import junit
from stoker.types.errors import InvalidInput

ANY = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\ufffe\uffff"), max_size=20)


@given(name=ANY, why=ANY)
def test_what_a_model_says_in_its_last_words_is_xml_all_the_same(name: str, why: str) -> None:
    suite = fromstring(junit.report(name, [junit.Case(name, name, failed=why), junit.Case("a", "b", skipped=why)]))
    counted = "1" if why else "0"
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", counted, counted)


def test_a_report_that_cannot_be_written_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be written"):
        junit.write(tmp_path / "none" / "report.xml", junit.report("a", []))
