"""The report says what was missed, in every form."""

import msgspec

from bench.figures import Figure
from bench.report import Report, Section, aligned, figure_rows, markdown, text

SECTIONS = [
    Section(
        "digits",
        [
            Figure("req/s, c = 64", 1.9, "×", 2.0, "at least"),
            Figure("added latency", 120, "µs", 150, "at most", "of 300 µs"),
            Figure("first start", 4.5, "s"),
        ],
        {"c = 64": [["", "req/s"], ["stoker", "17,000"], ["FastAPI", "8,900"]]},
    )
]
REPORT = Report("python -m bench", {"processor": "2 × test"}, SECTIONS, "2026-01-31")


def test_missed_numbers_are_counted_and_named() -> None:
    assert [figure.what for figure in REPORT.missed] == ["req/s, c = 64"]
    assert "1 number missed" in text(REPORT)
    assert "all numbers hold" in text(Report("x", {"processor": "y"}, []))


def test_text_and_markdown_hold_every_measured_number() -> None:
    for form in (text(REPORT), markdown(REPORT)):
        for piece in ("17,000", "8,900", "MISSED", "≥ 2 ×", "120 µs", "≤ 150 µs", "of 300 µs", "4.5 s", "2 × test"):
            assert piece in form, piece


def test_markdown_tables_have_as_many_columns_in_every_line() -> None:
    lines = [line for line in markdown(REPORT).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 1 + 5 + 4
    assert lines[3] == "| what | measured | hold |  | note |"
    assert all(line.count("|") == 6 for line in lines[3:8])


def test_columns_that_nobody_fills_are_left_out() -> None:
    assert figure_rows([Figure("x", 1.0, "s")]) == [["what", "measured"], ["x", "1 s"]]


def test_a_table_is_aligned() -> None:
    assert aligned([["", "n"], ["long name", "1"], ["x", "1,000"]]).splitlines() == [
        "                  n",
        "  long name       1",
        "  x           1,000",
    ]


def test_the_report_is_whole_as_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(REPORT), type=Report) == REPORT
