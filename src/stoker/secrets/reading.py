"""One reading of a secret that is a variable or a file. Errors never hold the value."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from stoker.types.errors import SecretUnavailable
from stoker.types.secrets import ENV_PREFIX, VALUE_BYTES_MAX, Reference

_MODE_OTHERS: Final = 0o002  # anybody may write it


class Source(NamedTuple):
    """Where the platform's own things are: its variables, and the folder of the projects' secret files."""

    environ: Mapping[str, str]
    folder: Path


def read(reference: Reference, source: Source) -> str:
    """Return the value of an `env:` or `file:` reference. May wait for a disk. Raises SecretUnavailable."""
    if reference.kind == "env":
        value = source.environ.get(reference.name, "") if reference.name.startswith(ENV_PREFIX) else ""
        if not value:
            raise SecretUnavailable(f"{reference.place} is not set where the platform was started")
        return value
    return field_of(reference, _file(reference, source.folder))


def _file(reference: Reference, folder: Path) -> bytes:
    path = Path(reference.name)
    try:
        real = Path(os.path.realpath(path, strict=True))
        _check_place(path, real, folder)
        with open(real, "rb", opener=_opener) as file:
            status = os.fstat(file.fileno())
            if status.st_mode & _MODE_OTHERS:
                raise SecretUnavailable(f"{reference.place} can be written by others; `chmod go-w` it")
            found = file.read(VALUE_BYTES_MAX + 1)
    except OSError as failed:
        raise SecretUnavailable(f"{reference.place} cannot be read: {failed.strerror}") from None
    if len(found) > VALUE_BYTES_MAX:
        raise SecretUnavailable(f"{reference.place} has more than {VALUE_BYTES_MAX} bytes")
    return found


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)


def _check_place(path: Path, real: Path, folder: Path) -> None:
    """Raise SecretUnavailable for a link out of a project's own folder: it would lead to anything."""
    if not path.is_relative_to(folder):
        return
    project = folder / path.relative_to(folder).parts[0]
    if not real.is_relative_to(os.path.realpath(project)) or project.is_symlink():
        raise SecretUnavailable(f"file:{path} leads out of {project}")


def field_of(reference: Reference, data: bytes) -> str:
    """Return what a reference means of what was read: all of it, or a field of JSON. Raises SecretUnavailable."""
    if not reference.field:
        try:
            value: object = data.decode().strip()
        except UnicodeDecodeError:
            raise SecretUnavailable(f"{reference.place} is no UTF-8") from None
    else:
        try:
            value = msgspec.json.decode(data, type=dict[str, object]).get(reference.field)
        except msgspec.DecodeError:
            raise SecretUnavailable(f"{reference.place} is no JSON object, so it has no field") from None
    if not isinstance(value, str) or not value:
        what = f"has no text in its field {reference.field!r}" if reference.field else "is empty"
        raise SecretUnavailable(f"{reference.place} {what}")
    return value
