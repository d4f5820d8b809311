"""Small files that are whole or not there, whatever dies when."""

import os
import secrets
from pathlib import Path

from stoker.blob.folder import sync_folder


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write `data` to `path`, durable and at once: beside it first, then renamed. Raises OSError; leaves nothing."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(handle, "wb") as file:  # noqa: PTH123 - the mode must be right from the first byte
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def append_line(path: Path, text: str) -> None:
    """Append a line to `path`, durable. Raises OSError; a part of the line may be there then."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with open(handle, "ab") as file:  # noqa: PTH123 - the mode must be right from the first byte
        file.write(f"{text}\n".encode())
        file.flush()
        os.fsync(file.fileno())
