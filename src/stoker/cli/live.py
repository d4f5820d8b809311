"""The live view of `up` and `top`: a frame in, a picture out; and the loop that draws one a second."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import click
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from stoker.cli.frames import Frame, Load, Watch, changes
from stoker.cli.output import duration, rate
from stoker.cli.rollout_page import short
from stoker.cli.tables import endpoint_title, last_line, short_revision
from stoker.client.views import EndpointStats
from stoker.types.units import format_bytes

EVERY_S: Final = 1.0
_BARS: Final = "▁▂▃▄▅▆▇█"
_TURNING: Final = "◐◓◑◒"
_SPARK_WIDTH: Final = 20
# Columns that go first when the terminal is narrow.
_WIDE: Final = 100
_WIDER: Final = 118
_WIDEST: Final = 140
# p99 over this many times p50 is worth a look.
_TAIL_RATIO: Final = 20


def render(frame: Frame, width: int, height: int) -> RenderableType:
    """Return the picture of a frame for a terminal of that size. Pure: the same frame is the same picture."""
    rows_max = max(3, height - 8)
    shown = frame.stats.endpoints[:rows_max]
    parts: list[RenderableType] = [_head(frame), _table(frame, shown, width)]
    if not frame.stats.endpoints:
        parts.append(
            Text("  no endpoints yet: stoker push NAME PATH, then stoker deploy NAME --model NAME", style="dim")
        )
    if hidden := len(frame.stats.endpoints) - len(shown):
        parts.append(Text(f"  … and {hidden} more", style="dim"))
    parts += _notes(frame, shown)
    if frame.trouble:
        parts += [Text(), Text(f"  ! {frame.trouble}", style="yellow")]
    return Padding(Group(*parts), (1, 1))


def sparkline(values: Sequence[float], width: int = _SPARK_WIDTH) -> str:
    """Return the last `width` values as bars against their highest; all spaces when nothing happened."""
    recent = list(values)[-width:]
    top = max(recent, default=0.0)
    if top <= 0:
        return " " * width
    bars = "".join(_BARS[min(7, int(value / top * 7.999))] if value > 0 else "▁" for value in recent)
    return bars.rjust(width)


def watch(
    watched: Watch,
    stop: threading.Event,
    is_over: Callable[[], bool],
    *,
    live: bool,
    full_screen: bool = False,
    footer: str = "",
) -> None:
    """Show the platform until `is_over`, which is asked once a second and when `stop` is set.

    Drawn when `live`, as lines of what changed otherwise.
    """
    if live:
        _draw(watched, stop, is_over, full_screen, footer)
    else:
        _log(watched, stop, is_over)


def _draw(watched: Watch, stop: threading.Event, is_over: Callable[[], bool], full_screen: bool, footer: str) -> None:
    console = Console()

    def picture() -> RenderableType:
        frame = watched.look(time.time())
        return Group(render(frame, console.width, console.height), Text(f"  {footer}", style="dim"))

    with Live(picture(), console=console, screen=full_screen, transient=True, auto_refresh=False) as shown:
        while not is_over():
            stop.wait(EVERY_S)
            shown.update(picture(), refresh=True)


def _log(watched: Watch, stop: threading.Event, is_over: Callable[[], bool]) -> None:
    before: Frame | None = None
    while not is_over():
        frame = watched.look(time.time())
        for line in changes(before, frame):
            click.echo(f"{time.strftime('%H:%M:%S', time.localtime(frame.at_s))} {line}")
        before = frame
        stop.wait(EVERY_S)


def _head(frame: Frame) -> RenderableType:
    ready = sum(one.ready for one in frame.stats.endpoints)
    count = len(frame.stats.endpoints)
    colour = "green" if ready == count else "yellow"
    gateways = frame.stats.gateways
    memory = sum(one.rss_bytes for one in gateways)
    left = Text.assemble(
        (" stoker ", "bold black on bright_yellow"),
        "  ",
        (f"{ready}/{count} ready", f"bold {colour}"),
        "  ",
        (frame.gateway, "cyan"),
    )
    words = [f"{len(gateways)} gateway{'' if len(gateways) == 1 else 's'}"]
    if memory:
        words.append(format_bytes(memory))
    words.append(f"up {_span(frame.at_s - frame.began_s)}")
    grid = Table.grid(Column(ratio=1), Column(justify="right"), expand=True)
    grid.add_row(left, Text(" · ".join(words), style="dim"))
    return grid


def _table(frame: Frame, shown: Sequence[EndpointStats], width: int) -> Table:
    if width < _WIDEST and any(one.rollout is not None for one in shown):
        width = min(width, _WIDER - 1)  # its state is longer: `ready  #10 → #11 10 %`
    table = Table(
        box=box.SIMPLE_HEAD, expand=True, header_style="dim", border_style="bright_black", padding=(0, 1, 0, 0)
    )
    table.add_column("endpoint", no_wrap=True, min_width=10)
    if width >= _WIDE:
        table.add_column("task", no_wrap=True)
    table.add_column("state", ratio=1, no_wrap=True, overflow="ellipsis", min_width=14)
    table.add_column("replicas", justify="right", no_wrap=True)
    if width >= _WIDE:
        table.add_column("running", justify="right", no_wrap=True)
    table.add_column("req/s", justify="right", no_wrap=True, min_width=6)
    if width >= _WIDER:
        table.add_column(f"last {_SPARK_WIDTH * EVERY_S:.0f} s", no_wrap=True, width=_SPARK_WIDTH)
    table.add_column("p50", justify="right", no_wrap=True, min_width=7)
    table.add_column("p99", justify="right", no_wrap=True, min_width=7)
    table.add_column("tokens/s", justify="right", no_wrap=True)
    table.add_column("errors/s", justify="right", no_wrap=True)
    for one in shown:
        table.add_row(*_row(frame, one, width))
    return table


def _row(frame: Frame, one: EndpointStats, width: int) -> list[RenderableType]:
    title = endpoint_title(one)
    load = frame.loads.get(title)
    tail = "yellow" if one.p50_s > 0 and one.p99_s > _TAIL_RATIO * one.p50_s else ""
    tokens = _number(one.tokens_per_s, rate(one.tokens_per_s), "magenta")
    is_wide, is_wider = width >= _WIDE, width >= _WIDER
    return [
        _dot(one, load, frame.at_s),
        *([Text(one.task, style="dim")] if is_wide else []),
        _state(one, load),
        _replicas(one),
        *([_busy(one)] if is_wide else []),
        _number(one.requests_per_s, rate(one.requests_per_s)),
        *([Text(sparkline(frame.history.get(title, ())), style="cyan")] if is_wider else []),
        _number(one.p50_s, duration(one.p50_s)),
        _number(one.p99_s, duration(one.p99_s), tail),
        tokens if one.task != "predict" else Text("-", style="bright_black"),
        _number(one.errors_per_s, rate(one.errors_per_s), "bold red"),
    ]


def _dot(one: EndpointStats, load: Load | None, at_s: float) -> Text:
    title = endpoint_title(one)
    if one.ready:
        return Text.assemble(("● ", "green"), (title, "bold"))
    if load is not None and load.is_failed:
        return Text.assemble(("✗ ", "red"), (title, "bold"))
    return Text.assemble((f"{_TURNING[int(at_s) % len(_TURNING)]} ", "yellow"), (title, "bold"))


def _state(one: EndpointStats, load: Load | None) -> RenderableType:
    if one.ready:
        rolling = short(one.rollout) if one.rollout is not None else ""
        return Text.assemble(("ready", "green"), (f"  {short_revision(one.serving)}", "dim"), (rolling, "cyan"))
    if load is None or load.is_failed or not load.fraction:
        return Text(one.reason or "not ready", style="red" if load is not None and load.is_failed else "yellow")
    bar = ProgressBar(total=1.0, completed=load.fraction, width=8, complete_style="yellow")
    grid = Table.grid(padding=(0, 1))
    grid.add_row(bar, Text(f"{load.fraction:.0%}", style="yellow"))
    return grid


def _notes(frame: Frame, shown: Sequence[EndpointStats]) -> list[RenderableType]:
    """Return a line for each endpoint that has something to say: why it failed, what it loads, what it waits for."""
    lines: list[RenderableType] = []
    for one in shown:
        load = frame.loads.get(endpoint_title(one))
        words = last_line(load.note) if load is not None else one.newer
        if words:
            colour = "red" if load is not None and load.is_failed else "dim"
            line = Text.assemble((f"   {endpoint_title(one)}  ", "bold"), (words, colour))
            line.no_wrap, line.overflow = True, "ellipsis"
            lines.append(line)
    return lines


def _busy(one: EndpointStats) -> Text:
    running = _number(one.running, str(one.running))
    return Text.assemble(running, (f" +{one.queued}", "yellow")) if one.queued else running


def _replicas(one: EndpointStats) -> Text:
    colour = "" if one.replicas_ready >= one.replicas_wanted else "yellow"
    return Text(f"{one.replicas_ready}/{one.replicas_wanted}", style=colour)


def _number(value: float, text: str, style: str = "") -> Text:
    return Text(text, style=style) if value > 0 else Text(text, style="bright_black")


def _span(seconds: float) -> str:
    passed = max(0, int(seconds))
    if passed < 60:
        return f"{passed}s"
    if passed < 3600:
        return f"{passed // 60}m {passed % 60:02d}s"
    return f"{passed // 3600}h {passed % 3600 // 60:02d}m"
