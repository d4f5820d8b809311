"""The table of phases that `stoker describe` shows."""

import time

import click

from stoker.cli.starts_page import SHOWN_MAX, starts_table
from stoker.core.starts import summarise
from stoker.types.starts import Start


def starts(revision: str, at_s: float) -> list[Start]:
    phases = {"order": 0.02, "process": 0.03, "imports": 0.4, "weights": 0.0123}
    return [
        Start(f"{revision}-x", revision, "onnx", at_s - 60, {**phases, "first answer": 0.002}, 0.5),
        Start(f"{revision}-y", revision, "onnx", at_s, phases, 0.6),
    ]


def test_the_last_start_stands_beside_what_starts_usually_take() -> None:
    lines = click.unstyle(starts_table(summarise(starts("default.a-1", time.time() - 120)))).splitlines()
    assert lines[0] == "default.a-1 with onnx: 2 starts, the last 2m ago"
    assert [line.split()[0] for line in lines[1:]] == [
        "PHASE", "order", "process", "imports", "weights", "total", "first",
    ]  # fmt: skip
    assert lines[-2].split()[:8] == ["total", "600", "ms", "550", "ms", "600", "ms", "2"]
    assert lines[-1].split()[:8] == ["first", "answer", "-", "2.0", "ms", "2.0", "ms", "1"]


def test_of_many_revisions_those_that_started_last_are_shown() -> None:
    found = [one for number in range(9) for one in starts(f"default.a-{number}", 1000.0 * number)]
    heads = [line for line in starts_table(summarise(found)).splitlines() if "starts" in line]
    assert len(heads) == SHOWN_MAX
    assert heads[0].startswith("default.a-8 ")
    assert starts_table(()) == ""
