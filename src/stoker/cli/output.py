"""How results are printed: aligned columns for people, JSON or YAML for programs; and numbers as people read them."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import click
import msgspec

Row = Sequence[str]
GAP = "  "


def show(value: Any, output: str, people: Callable[[], str]) -> None:
    """Print `value` as `output` says: "json", "yaml", or what `people` returns."""
    if output == "table":
        text = people()
        if text:
            click.echo(text)
        return
    plain = msgspec.to_builtins(value)
    if output == "yaml":
        from stoker.protocol import yamltree  # PyYAML takes longer to import than most commands to run

        click.echo(yamltree.to_text([plain]), nl=False)
    else:
        click.echo(msgspec.json.format(msgspec.json.encode(plain), indent=2).decode())


def items(values: Sequence[Any]) -> dict[str, Any]:
    """Return a list as the API writes one."""
    return {"items": list(values)}


def columns(header: Row, rows: Sequence[Row], *, empty: str = "") -> str:
    """Return rows as aligned columns under a dim header; cells may be styled. On a terminal no line wraps."""
    if not rows:
        return empty
    widths = [max(len(click.unstyle(row[at])) for row in (header, *rows)) for at in range(len(header))]
    lines = [click.style(_line(header, widths), dim=True), *(_line(row, widths) for row in rows)]
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        lines = [_cut(line, width) for line in lines]
    return "\n".join(lines)


def fields(pairs: Sequence[tuple[str, str]]) -> str:
    """Return `name  value` lines, aligned; pairs without a value are left out."""
    shown = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{click.style(name.ljust(width), dim=True)}{GAP}{value}" for name, value in shown)


def duration(seconds: float) -> str:
    """Return a time as people read it: `850 µs`, `12.3 ms`, `1.20 s`, `-` for none."""
    if seconds <= 0:
        return "-"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms" if seconds < 0.1 else f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def rate(per_s: float) -> str:
    """Return a rate as people read it: `0`, `3.2`, `140`, `12.3k`."""
    if per_s <= 0:
        return "0"
    if per_s < 10:
        return f"{per_s:.1f}"
    return f"{per_s:.0f}" if per_s < 10_000 else f"{per_s / 1000:.1f}k"


def age(since_s: float, now_s: float | None = None) -> str:
    """Return how long ago a unix time was: `90s`, `12m`, `30h`, `4d`; `-` for 0."""
    if since_s <= 0:
        return "-"
    passed = max(0, int((time.time() if now_s is None else now_s) - since_s))
    if passed < 120:
        return f"{passed}s"
    if passed < 120 * 60:
        return f"{passed // 60}m"
    return f"{passed // 3600}h" if passed < 48 * 3600 else f"{passed // 86400}d"


def clock(at_s: float) -> str:
    """Return a unix time as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s)) if at_s > 0 else "-"


def is_live() -> bool:
    """Return whether a person watches on a terminal that can move its cursor."""
    return sys.stdout.isatty() and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _line(row: Row, widths: Sequence[int]) -> str:
    cells = [cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(row, widths, strict=True)]
    return GAP.join(cells).rstrip()


def _cut(line: str, width: int) -> str:
    """Return a line no wider than `width`; a cut line loses its colours rather than leave one open."""
    plain = click.unstyle(line)
    return line if len(plain) <= width else plain[: width - 1] + "…"
