"""`stoker settings`: what can be changed while the platform runs."""

from typing import Any

import click

from stoker.cli.output import columns, show
from stoker.cli.session import Command, Session, output_option
from stoker.client import tuning
from stoker.types.errors import InvalidInput
from stoker.types.tuning import NAMES, WHOLE, Setting, TuningView
from stoker.types.units import format_bytes, parse_bytes, parse_seconds


@click.command(
    cls=Command,
    example="""
    stoker settings
    stoker settings log_level=debug trace_ratio=0.1
    stoker settings samples_max_bytes=2Gi trace_slow_s=500ms
    stoker settings --unset log_level
    """,
)
@click.argument("changes", metavar="[NAME=VALUE]...", nargs=-1)
@click.option("--unset", multiple=True, type=click.Choice(NAMES), help="As the platform was started again.")
@output_option
@click.pass_obj
def command(session: Session, changes: tuple[str, ...], unset: tuple[str, ...], output: str) -> None:
    """Show, or change, settings while the platform runs.

    A change reaches every gateway and control at once, and outlives restarts. Every other setting is a variable that
    `stoker up` reads.
    """
    asked = dict(map(_read, changes)) | dict.fromkeys(unset)
    connection = session.control().connection
    found = tuning.change(connection, asked) if asked else tuning.settings(connection)
    show(found, output, lambda: table(found))


def table(found: TuningView) -> str:
    """Return a line for each."""
    rows = [
        (each.name, _shown(each, each.value), "set" if each.is_set else "as started", _shown(each, each.usual))
        for each in found.items
    ]
    lines = [columns(("NAME", "VALUE", "", "STARTED WITH"), rows)]
    if found.unread:
        names = "all that is kept" if found.unread == (WHOLE,) else ", ".join(found.unread)
        words = (
            f"{names}: set by another version, cannot be read by this one; of what it knows the last value is used on"
        )
        lines.append(click.style(words, fg="yellow"))
    return "\n".join(lines)


def _shown(each: Setting, value: float | str) -> str:
    if each.name.endswith("_bytes"):
        return format_bytes(int(value))
    if each.name.endswith("_s"):
        return f"{value:g} s" if value else "0 (slower than 99 in 100)" if each.name == "trace_slow_s" else "0"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def _read(text: str) -> tuple[str, Any]:
    """Return the name and the value of `NAME=VALUE`. Raises InvalidInput."""
    name, given, value = text.partition("=")
    if not given or name not in NAMES:
        raise InvalidInput(f"{text}: expected NAME=VALUE, with one of {', '.join(NAMES)}")
    try:
        if name.endswith("_bytes"):
            return name, parse_bytes(value)
        if name.endswith("_s"):
            return name, parse_seconds(value)
        if name in ("trace_ratio", "connections_per_address"):
            return name, float(value) if name == "trace_ratio" else int(value)
    except ValueError as wrong:
        raise InvalidInput(f"{text}: {wrong}", field=name) from wrong
    return name, value
