"""`stoker trace`: where the time of one request went, as bars in their time."""

import shutil
import sys
from collections.abc import Sequence

import click

from stoker.cli.output import clock, duration, fields, items, show
from stoker.cli.session import Command, Session, output_option
from stoker.client.views import TracedRequest
from stoker.telemetry.spans import Span
from stoker.types.traces import Trace

WIDTH = 80  # columns, where there is no terminal
NAME_MAX = 34
TIME_WIDTH = 8
_COLOURS = {"server": "cyan", "client": "blue", "queue": "yellow", "wait": "yellow", "prefill": "magenta"}


@click.command(
    cls=Command,
    example="""
    stoker trace 4bf92f3577b34da6a3ce929d0e0e4736
    stoker trace req-3f1c9a0b7d2e-1a -o json
    """,
)
@click.argument("name", metavar="ID")
@output_option
@click.pass_obj
def command(session: Session, name: str, output: str) -> None:
    """Show where the time of one request went. ID is that of a trace, or what x-request-id said."""
    found = session.control().trace(name)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH
    show(items(found), output, lambda: "\n\n".join(page(one, width) for one in found))


def page(one: TracedRequest, width: int) -> str:
    """Return one request: what it was, and its spans."""
    return f"{_head(one.trace)}\n\n{waterfall(one.spans, width)}"


def waterfall(spans: Sequence[Span], width: int) -> str:
    """Return a line for each span: its name by its depth, how long it took, and a bar where it lies in the whole."""
    names = [f"{'  ' * span.depth}{span.name}" for span in spans]
    room = min(max(map(len, names)), NAME_MAX)
    bar = max(width - room - TIME_WIDTH - 4, 10)
    whole_s = max(1e-9, *(span.end_s for span in spans))
    lines = []
    for name, span in zip(names, spans, strict=True):
        shown = name if len(name) <= room else f"{name[: room - 1]}…"
        took = duration(span.end_s - span.begin_s).rjust(TIME_WIDTH)
        begin = min(round(span.begin_s / whole_s * bar), bar - 1)
        length = max(min(round(span.end_s / whole_s * bar), bar) - begin, 0)
        is_thin = (span.end_s - span.begin_s) / whole_s * bar < 0.5  # wherever it lies between two columns
        drawn = click.style("▏" if is_thin else "█" * length or "▏", fg=_colour(span))
        lines.append(f"{shown.ljust(room)}  {took}  {' ' * begin}{drawn}")
        if span.error:
            lines.append(click.style(f"{'  ' * (span.depth + 1)}{span.error}", fg="red"))
    return "\n".join(lines)


def _colour(span: Span) -> str:
    if span.error:
        return "red"
    if span.kind != "internal":
        return _COLOURS[span.kind]
    found = [colour for word, colour in _COLOURS.items() if word in span.name]
    return found[0] if found else "green"


def _head(trace: Trace) -> str:
    usage = trace.usage
    tokens = f"{usage.input_tokens} in, {usage.output_tokens} out" if usage is not None and usage.input_tokens else ""
    status = f"{trace.status} {trace.code}".strip()
    return fields(
        [
            ("trace", click.style(trace.id, bold=True)),
            ("request", trace.request),
            ("endpoint", f"{trace.project}/{trace.endpoint}" + (f" → {trace.served_by}" if trace.served_by else "")),
            ("revision", trace.revision),
            ("tenant", trace.tenant),
            ("at", f"{clock(trace.began_at_s)}  {trace.gateway}"),
            ("status", click.style(status, fg="red") if trace.status >= 500 else status),
            ("tokens", tokens),
            ("kept", trace.because),
        ]
    )
