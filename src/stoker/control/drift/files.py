"""Where what is remembered of drift lies: a file an endpoint and kind, whole or not there."""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from stoker.control.files import write_whole
from stoker.types.drift import Reference

BYTES_MAX: Final = 16 << 20

T = TypeVar("T")
log = logging.getLogger(__name__)


class Learning(msgspec.Struct, frozen=True):
    """A window in which rows are gathered. `model` is the version that served when it began, `seed` of its vectors."""

    until_s: float
    window_s: float
    model: str
    seed: str = ""


class Learned(msgspec.Struct, frozen=True):
    """A reference learned from live rows, of one model version at one endpoint."""

    model: str
    made_at_s: float
    reference: Reference


def read(root: Path, key: tuple[str, str], kind: type[T]) -> T | None:
    """Return what was written of an endpoint; None when nothing was, or nobody can read it any more."""
    path = _path(root, key, kind)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.msgpack.decode(data, type=kind) if len(data) <= BYTES_MAX else None
    except (msgspec.DecodeError, ValueError) as damaged:
        log.warning("%s cannot be read and begins anew: %s", path.name, damaged)
        return None


def write(root: Path, key: tuple[str, str], value: msgspec.Struct) -> None:
    """Write what is remembered of an endpoint. Raises OSError."""
    root.mkdir(mode=0o700, exist_ok=True)
    write_whole(_path(root, key, type(value)), msgspec.msgpack.encode(value))


def remove(root: Path, key: tuple[str, str], kind: type[msgspec.Struct]) -> None:
    """Remove what was written of an endpoint, if anything."""
    _path(root, key, kind).unlink(missing_ok=True)


def sweep(root: Path, known: Collection[tuple[str, str]]) -> None:
    """Remove the files of endpoints that are not in `known`: they are deleted."""
    for path in root.glob("*.msgpack"):
        project, _, rest = path.name.partition(".")
        if (project, rest.partition(".")[0]) not in known:
            path.unlink(missing_ok=True)


def _path(root: Path, key: tuple[str, str], kind: type) -> Path:
    return root / f"{key[0]}.{key[1]}.{kind.__name__.lower()}.msgpack"  # names hold no dot
