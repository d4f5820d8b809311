"""The live view: a frame in, a picture out; and the lines that a log without a terminal shows."""

import io

import pytest
from rich.console import Console

from stoker.cli.frames import Frame, Load, changes
from stoker.cli.live import render, sparkline
from stoker.client.views import EndpointStats, GatewayStats, Stats

READY = EndpointStats(
    project="default",
    endpoint="digits",
    task="predict",
    requests_per_s=1243.2,
    p50_s=0.0012,
    p99_s=0.0083,
    running=3,
    queued=4,
    replicas_ready=2,
    replicas_wanted=2,
    serving="default.digits-3",
    ready=True,
)
LOADING = EndpointStats(
    project="default", endpoint="smol", task="chat", replicas_wanted=1, ready=False, reason="Loading"
)
FAILING = EndpointStats(project="search", endpoint="ranker", task="predict", replicas_wanted=1, reason="CrashLoop")


def frame(*endpoints: EndpointStats, loads: dict[str, Load] | None = None, trouble: str = "") -> Frame:
    return Frame(
        stats=Stats(endpoints, (GatewayStats(0, 40 * 2**20),)),
        at_s=4000.0,
        began_s=275.0,
        gateway="http://127.0.0.1:8080",
        history={"digits": (0.0, 500.0, 1000.0)},
        loads=loads or {},
        trouble=trouble,
    )


def drawn(shown: Frame, width: int = 130, height: int = 30, *, colours: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=colours, color_system="truecolor" if colours else None
    )
    console.print(render(shown, width, height))
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def test_a_ready_endpoint_shows_revision_replicas_rates_and_latencies() -> None:
    text = drawn(frame(READY))
    assert "1/1 ready" in text
    assert "http://127.0.0.1:8080" in text
    assert "1 gateway · 40.0 MiB · up 1h 02m" in text
    line = next(line for line in text.splitlines() if "digits" in line)
    for words in ("●", "predict", "ready  #3", "2/2", "3 +4", "1243", "▁▄█", "1.2 ms", "8.3 ms"):
        assert words in line, line


def test_a_load_shows_how_far_it_is_and_a_failure_why() -> None:
    why = "replica crashed 3 times loading: no such file"
    text = drawn(frame(LOADING, FAILING, loads={"smol": Load("weights", 0.43), "search/ranker": Load(why, 0.0, True)}))
    assert "0/2 ready" in text
    assert "43%" in text
    assert why in text
    assert "✗ search/ranker" in text


@pytest.mark.parametrize("width", [60, 84, 100, 118, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    text = drawn(frame(READY, LOADING, FAILING, loads={"smol": Load("x" * 300, 0.5)}, trouble="away"), width)
    assert all(len(line) <= width for line in text.splitlines()), text
    assert "digits" in text


def test_more_endpoints_than_lines_are_counted_not_shown() -> None:
    many = [EndpointStats(project="default", endpoint=f"e{number:03}", ready=True) for number in range(100)]
    text = drawn(frame(*many), height=24)
    assert len(text.splitlines()) <= 24
    assert "more" in text


def test_an_empty_platform_says_what_to_do_next() -> None:
    assert "stoker push" in drawn(frame())


def test_control_away_is_said_and_the_numbers_stay() -> None:
    text = drawn(frame(READY, trouble="control does not answer"))
    assert "! control does not answer" in text
    assert "1243" in text


def test_the_same_frame_is_the_same_picture() -> None:
    assert drawn(frame(READY, LOADING)) == drawn(frame(READY, LOADING))
    assert "\x1b[" in drawn(frame(READY), colours=True)
    assert "\x1b[" not in drawn(frame(READY))


def test_markup_in_names_and_messages_is_only_text() -> None:
    text = drawn(frame(LOADING, loads={"smol": Load("[bold]not markup[/] [/]", 0.0, True)}))
    assert "[bold]not markup[/] [/]" in text


def test_a_sparkline_is_as_wide_as_asked_and_flat_when_nothing_happened() -> None:
    assert sparkline([], 5) == "     "
    assert sparkline([0, 0], 5) == "     "
    assert sparkline([0, 1, 8], 5) == "  ▁▁█"
    assert len(sparkline(range(1000), 20)) == 20


def test_a_log_has_a_line_for_each_change_and_none_for_the_same() -> None:
    first = frame(READY, LOADING, loads={"smol": Load("weights", 0.1)})
    assert changes(None, first) == ["digits: ready, 2/2 replicas, revision #3", "smol: Loading: weights"]
    assert changes(first, first) == []
    assert changes(first, frame(LOADING, loads={"smol": Load("warm-up")})) == ["smol: Loading: warm-up", "digits: gone"]
    assert changes(first, frame(READY, LOADING, loads={"smol": Load("weights")}, trouble="away")) == ["away"]
