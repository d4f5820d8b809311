"""A line of a log as people read it on a terminal: when, how bad, what, then the fields, then a traceback below it."""

from datetime import datetime
from typing import Any, Final

import click
import msgspec

COLOURS: Final = {"error": "red", "warning": "yellow", "debug": "bright_black"}
_SHOWN: Final = ("time", "level", "process", "logger", "message", "error")  # by their place, or by whose log it is


def readable(line: str) -> str:
    """Return `line` for a terminal; what is no line of ours (a model prints what it likes) as it is."""
    if not line.startswith("{"):
        return line
    try:
        fields = msgspec.json.decode(line, type=dict[str, Any])
        at = datetime.fromisoformat(fields["time"]).astimezone()
        level, message = str(fields["level"]), str(fields["message"])
    except (msgspec.MsgspecError, KeyError, ValueError, TypeError):
        return line
    shown = [
        click.style(f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}", dim=True),
        click.style(_plain(level).ljust(7), fg=COLOURS.get(level)),
        _plain(message),
        *(click.style(f"{_plain(name)}={_value(fields[name])}", dim=True) for name in fields if name not in _SHOWN),
    ]
    below = str(fields.get("error", "")).splitlines()
    return "\n".join([" ".join(shown), *(f"  {click.style(_plain(each), fg='red')}" for each in below)])


def _value(value: object) -> str:
    if isinstance(value, str):
        return _plain(value)
    return _plain(msgspec.json.encode(value).decode())


def _plain(text: str) -> str:
    """Return text that moves no cursor and hides nothing, whatever a model wrote."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
