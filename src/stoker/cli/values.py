"""Values typed on a command line: what `4096`, `true` and `mean` mean, and text from `@file` or `@-`."""

import sys
from pathlib import Path
from typing import Final

import click
import msgspec

from stoker.types.errors import InvalidInput, NotFound
from stoker.types.units import parse_seconds

BYTES_MAX: Final = 256 * 2**20


def typed(text: str) -> str | int | float | bool:
    """Return a number or a boolean where `text` is one in JSON, else the text itself."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value if isinstance(value, str | int | float | bool) else text


def content(text: str) -> bytes:
    """Return the bytes that an argument means: `@FILE` a file's, `@-` standard input's, else the argument itself."""
    if text == "@-":
        return sys.stdin.buffer.read(BYTES_MAX)
    if not text.startswith("@"):
        return text.encode()
    return file_bytes(Path(text[1:]))


def lifetime_s(text: str) -> float:
    """Return the seconds of a time such as 30d. Raises ValueError, for a bare number too: 30 may be meant as days."""
    bare = text.strip()
    if bare.isascii() and bare.replace(".", "", 1).isdecimal():
        raise ValueError(f"{bare} what? Write {bare}d for days, {bare}h for hours, {bare}s for seconds")
    return parse_seconds(text)


def check_span(from_s: float, to_s: float) -> None:
    """Raise UsageError for a time that ends before it begins: the answer would be nothing, and look like one."""
    if to_s <= from_s:
        raise click.UsageError("--to is not after --from, so there is no time between them")


def file_bytes(path: Path, bytes_max: int = -1) -> bytes:
    """Return the bytes of a file that somebody named, or its first. Raises NotFound or InvalidInput."""
    try:
        with path.open("rb") as file:
            return file.read(bytes_max)
    except FileNotFoundError as missing:
        raise NotFound(f"there is no file {path}") from missing
    except OSError as refused:
        raise InvalidInput(f"{path} cannot be read: {refused.strerror}") from refused
