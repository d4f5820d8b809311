"""A log on a terminal: laid out for people, and nothing in it can move their cursor."""

import json

import click

from stoker.cli.logline import readable

LINE = {
    "time": "2026-11-30T01:25:04.143Z",
    "level": "error",
    "process": "default.a-1-x",
    "logger": "stoker.runtime",
    "message": "the model raised",
    "request": "req-1",
    "rows": 3,
    "error": 'Traceback (most recent call last):\n  File "model.py", line 12\nKeyError: 1',
}


def test_a_line_is_when_how_bad_what_and_its_fields_with_the_traceback_below() -> None:
    first, *below = click.unstyle(readable(json.dumps(LINE))).splitlines()
    assert first.split(" ", 2)[2] == "error   the model raised request=req-1 rows=3"
    assert first.split()[1].endswith(":04.143")
    assert below == ["  Traceback (most recent call last):", '    File "model.py", line 12', "  KeyError: 1"]


def test_what_is_no_line_of_ours_stays_as_it_is() -> None:
    for line in ("hello", "", "{", "{}", "[1]", '{"time": 1, "level": "info", "message": "x"}', '{"time": "soon"}'):
        assert readable(line) == line


def test_what_a_model_wrote_moves_no_cursor() -> None:
    wicked = {**LINE, "message": "\x1b[2Jgone\r", "request": "\x07", "error": "\x1b]0;title\x07"}
    shown = click.unstyle(readable(json.dumps(wicked)))
    assert not {"\x1b", "\r", "\x07"} & set(shown)
    assert "\\x1b[2Jgone\\r" in shown
