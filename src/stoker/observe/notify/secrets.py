"""Values that manifests only name: `env:NAME` and `file:/path`, read anew at each use, so that they can be changed."""

import os
from pathlib import Path
from typing import Final

from stoker.types.errors import InvalidInput

BYTES_MAX: Final = 4096


def resolve(reference: str) -> str:
    """Return the value that `reference` names. Raises InvalidInput, which never holds the value."""
    kind, _, name = reference.partition(":")
    if kind == "env":
        value = os.environ.get(name, "")
        if not value:
            raise InvalidInput(f"{reference} is not set in control's environment")
        return value
    try:
        with Path(name).open("rb") as file:
            text = file.read(BYTES_MAX + 1)
    except OSError as failed:
        raise InvalidInput(f"{reference} cannot be read: {failed.strerror}") from None
    value = text.decode("utf-8", "replace").strip()
    if not value or len(text) > BYTES_MAX:
        raise InvalidInput(f"{reference} is empty or longer than {BYTES_MAX} bytes")
    return value
