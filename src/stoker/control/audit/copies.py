"""The second place of checkpoints: a file on another disk that only grows, or an address that is told each by POST.

A line is signed by the platform's key: whoever gets it needs no other proof, and whoever carries it cannot change it.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from stoker.control.files import append_line
from stoker.core.audit import chain
from stoker.observe.notify import http
from stoker.store import settings
from stoker.store.engine import Database
from stoker.types.errors import Unavailable

SENT: Final = "audit_sent"  # the number of the last checkpoint that the address took
_TAIL_BYTES: Final = 4096  # longer than a line


class Copy(Protocol):
    """Somewhere else."""

    async def send(self, lines: Sequence[str]) -> None:
        """Have it take the checkpoints that it has not. Raises OSError, StokerError; what was taken stays taken."""
        ...


def copy_to(place: str, database: Database) -> Copy | None:
    """Return the second place that a setting names, None for none."""
    if place.startswith(("http://", "https://")):
        return AddressCopy(place, database)
    return FileCopy(Path(place)) if place else None


class FileCopy:
    """A file that is appended to and never written anew."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def send(self, lines: Sequence[str]) -> None:
        """See Copy."""
        await asyncio.to_thread(self._append, lines)

    def _append(self, lines: Sequence[str]) -> None:
        last = self._last()
        for text in lines:
            each = chain.checkpoint_of(text)
            if each is not None and each.number > last:
                append_line(self._path, text)

    def _last(self) -> int:
        """Return the number of the last checkpoint in the file."""
        if not self._path.exists():
            return 0
        with self._path.open("rb") as file:
            file.seek(max(0, self._path.stat().st_size - _TAIL_BYTES))
            *_, last = file.read().removesuffix(b"\n").split(b"\n")
        found = chain.checkpoint_of(last.decode("utf-8", "replace"))
        return found.number if found is not None else 0


class AddressCopy:
    """An address that gets each checkpoint as the body of a POST, in their order; any 2xx is a yes."""

    def __init__(self, url: str, database: Database) -> None:
        self._url = url
        self._database = database

    async def send(self, lines: Sequence[str]) -> None:
        """See Copy."""
        sent = int(await self._database.reading(lambda connection: settings.get(connection, SENT)) or 0)
        for text in lines:
            each = chain.checkpoint_of(text)
            if each is None or each.number <= sent:
                continue
            status = await http.post(self._url, text.encode(), {"Content-Type": "application/json"})
            if not 200 <= status < 300:
                raise Unavailable(f"it answered {status}", retry_after_s=5.0)
            number = str(each.number)
            await self._database.writing(lambda connection, number=number: settings.put(connection, SENT, number))  # type: ignore[misc]
