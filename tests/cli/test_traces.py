"""Traces on a terminal: a line for each, and one as bars in their time."""

import click
import pytest

from stoker.cli import trace as pages
from stoker.cli.traces import table
from stoker.client.views import TracedRequest
from stoker.telemetry.spans import Span, spans
from tests.cli.conftest import Run
from tests.gateway.test_ring import trace
from tests.telemetry.test_spans import chat

WATERFALL = """\
chat smol              1.00 s  █████████████████████████████████████████████████
  auth                 900 µs  ▏
  admit                1.0 ms  ▏
  queue                100 ms       █████
  first r0            48.0 ms  ██
    replica_lost
  retry r1             800 ms            ███████████████████████████████████████
    replica.queue    100.0 ms              █████
    replica.prefill    200 ms                   ██████████
    replica.decode     400 ms                             ████████████████████
"""


def test_a_waterfall_shows_each_part_where_it_was_within_80_columns() -> None:
    drawn = click.unstyle(pages.waterfall(spans(chat()), 80))
    assert [line.rstrip() for line in drawn.splitlines()] == WATERFALL.splitlines()
    assert max(map(len, drawn.splitlines())) <= 80


def test_what_took_no_time_is_a_line_wherever_it_lies_between_two_columns() -> None:
    whole = Span("1", "", "a" * 20, "server", 0.0, 1.0, 0, {})
    short = Span("2", "1", "b", "internal", 0.0145, 0.016, 1, {})
    assert pages.waterfall([whole, short], 80).splitlines()[1].split()[-1] == click.style("▏", fg="green")


@pytest.mark.parametrize("width", [1, 20, 200])
def test_no_width_and_no_name_breaks_it(width: int) -> None:
    odd = trace(1, endpoint="e" * 300, seconds=0.0, status=503, code="x" * 100)
    page = click.unstyle(pages.page(TracedRequest(odd, tuple(spans(odd))), width))
    assert f"model.predict {'e' * 10}" in page


def test_the_list_tells_who_answered_and_why_it_was_kept() -> None:
    shown = table([trace(7, endpoint="big", served_by="small", because="fallback", status=503)], 67.0)
    assert [click.unstyle(cell) for cell in shown.splitlines()[1].split()] == [
        "60s", "big", "→", "small", "503", "100", "ms", "0", "fallback", f"{7:032x}",
    ]  # fmt: skip


def test_without_traces_the_commands_say_so(run: Run) -> None:
    assert "no traces" in run("traces", "--slow").stdout
    done = run("trace", "req-nobody")
    assert done.returncode != 0
    assert "no trace of 'req-nobody'" in done.stderr
