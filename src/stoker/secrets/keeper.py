"""The secrets that one process uses: read when first needed, again as they age, and at once when one is refused.

In memory only. A value that cannot be read again is used on for a bounded time, and the state says so. Whoever asks
gets the value that is there; nobody waits for Vault who has one.
"""

import asyncio
import hashlib
import hmac
import logging
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from stoker.core import secrets as core
from stoker.core.secrets import Reading
from stoker.secrets.reading import Source, read
from stoker.secrets.vault import Vault
from stoker.types.errors import InvalidInput, SecretUnavailable
from stoker.types.secrets import Reference, SecretState

ENTRIES_MAX: Final = 4096  # references in one process
THREADS: Final = 4
LOOK_S: Final = 0.5
ASKED_S: Final = 3600.0  # an entry that nobody follows is kept so long after it was asked for
TTL_S: Final = 20.0
STALE_S: Final = 3600.0

_log = logging.getLogger(__name__)


class _Entry:
    """One reference."""

    __slots__ = (
        "asked_s",
        "changed_at_s",
        "mark",
        "number",
        "problem",
        "read_at_s",
        "reading",
        "reference",
        "task",
        "tried_at_s",
        "value",
    )  # fmt: skip

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.reading = Reading()
        self.value = ""
        self.mark = b""  # tells one value from another
        self.number = 0
        self.problem = ""
        self.asked_s = self.changed_at_s = self.tried_at_s = self.read_at_s = 0.0
        self.task: asyncio.Task[None] | None = None


class Secrets:
    """One in a process; its methods are the event loop's. `close` at the end.

    Args:
        ttl_s: a value from Vault is used so long before it is read again; one of a file at the most.
        stale_s: and so much longer while it cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        vault: Vault | None = None,
        *,
        process: str = "",
        ttl_s: float = TTL_S,
        stale_s: float = STALE_S,
        clock: Callable[[], float] = time.monotonic,
        environ: dict[str, str] | None = None,
    ) -> None:
        self._source = Source(dict(os.environ) if environ is None else environ, folder)
        self._vault = vault
        self.process = process
        self._ttl_s = ttl_s
        self._stale_s = stale_s
        self._clock = clock
        self._salt = os.urandom(16)
        self._entries: dict[str, _Entry] = {}
        self._followed: frozenset[str] = frozenset()
        self._threads: dict[bool, ThreadPoolExecutor] = {}  # of Vault, which may be slow, and of what is here
        self.on_change: Callable[[str], None] = lambda _: None  # a value is another, or the first

    def follow(self, references: Iterable[str]) -> None:
        """Keep these fresh, and no others but what is asked for; a value that nobody may have any more is dropped."""
        self._followed = frozenset(references)
        for each in self._followed:
            self._entry(each)
        self._drop_unused(self._clock())

    def peek(self, reference: str) -> tuple[int, str] | None:
        """Return number and value as they are here; None where there is none that counts. Never waits."""
        found = self._entries.get(reference)
        if found is None or not found.value or not self._is_usable(found):
            return None
        return found.number, found.value

    async def get(self, reference: str) -> str:
        """Return the value; waits for it where there is none yet. Raises SecretUnavailable, InvalidInput."""
        core.parse(reference)
        entry = self._entry(reference)
        if entry is None:
            raise SecretUnavailable(f"this process uses {ENTRIES_MAX} secrets already")
        entry.asked_s = self._clock()
        is_here = self.peek(reference) is not None
        if (not is_here and entry.task is not None) or (
            self._is_due(entry) and (entry.reference.kind != "vault" or not is_here)
        ):
            await self._read(entry)
        found = self.peek(reference)
        if found is None:
            raise SecretUnavailable(entry.problem or f"{entry.reference.place} has no value")
        return found[1]

    async def reread(self, reference: str, *, insists: bool = False) -> bool:
        """Read it now, because who it was shown to refused it; return whether it is another value than before.

        Does nothing within REREAD_S of the last time, unless somebody `insists`.
        """
        entry = self._entries.get(reference)
        if entry is None:
            return False
        before = entry.number
        if insists or entry.task is not None or entry.reading.may_reread(self._clock()):
            await self._read(entry)
        return entry.number != before

    async def run(self) -> None:
        """Keep what is followed fresh; returns only by cancellation."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Begin to read what is due."""
        now_s = self._clock()
        self._drop_unused(now_s)
        for entry in list(self._entries.values()):
            if not self._is_usable(entry):
                entry.value = ""
            if entry.task is None and self._is_due(entry):
                self._begin(entry)

    def states(self) -> list[SecretState]:
        """Return what is known of each that was tried."""
        now_s, wall_s = self._clock(), time.time()
        found = []
        for name, each in sorted(self._entries.items()):
            if not each.tried_at_s:
                continue
            lasts_s = core.ttl_s(each.reference.kind, self._ttl_s) + self._stale_s
            until_s = 0.0
            if each.problem and each.reading.read_s is not None and each.value:
                until_s = wall_s + each.reading.read_s + lasts_s - now_s
            found.append(
                SecretState(
                    name, self.process, each.number, each.read_at_s, each.changed_at_s, each.tried_at_s,
                    until_s, each.problem, bool(each.value) and self._is_usable(each),
                )
            )  # fmt: skip
        return found

    async def close(self) -> None:
        """Read nothing more."""
        tasks = [each.task for each in self._entries.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)

    # ---- the rest

    def _entry(self, reference: str) -> _Entry | None:
        found = self._entries.get(reference)
        if found is None and len(self._entries) < ENTRIES_MAX:
            try:
                found = self._entries[reference] = _Entry(core.parse(reference))
            except InvalidInput:
                return None
        return found

    def _drop_unused(self, now_s: float) -> None:
        for name, each in list(self._entries.items()):
            if name not in self._followed and not (each.asked_s and now_s - each.asked_s < ASKED_S):
                del self._entries[name]
                if each.task is not None:
                    each.task.cancel()

    def _is_due(self, entry: _Entry) -> bool:
        return self._clock() >= entry.reading.due_s(core.ttl_s(entry.reference.kind, self._ttl_s))

    def _is_usable(self, entry: _Entry) -> bool:
        ttl_s = core.ttl_s(entry.reference.kind, self._ttl_s)
        return entry.reading.is_usable(self._clock(), ttl_s, self._stale_s)

    async def _read(self, entry: _Entry) -> None:
        """Read it, together with whoever reads it already."""
        task = self._begin(entry)
        await asyncio.wait((task,))

    def _begin(self, entry: _Entry) -> "asyncio.Task[None]":
        if entry.task is None:
            entry.task = asyncio.get_running_loop().create_task(self._reading(entry))
        return entry.task

    async def _reading(self, entry: _Entry) -> None:
        is_vaults = entry.reference.kind == "vault"
        threads = self._threads.get(is_vaults)
        if threads is None:
            threads = self._threads[is_vaults] = ThreadPoolExecutor(THREADS, "secrets")
        try:
            value = await asyncio.get_running_loop().run_in_executor(threads, self._fetch, entry.reference)
        except SecretUnavailable as problem:
            self._failed(entry, problem.message, problem.retry_after_s or 0.0)
        except Exception as bug:  # a source's odd answer must not end the look at all others
            _log.error("a secret cannot be read", extra={"secret": entry.reference.place, "bug": type(bug).__name__})
            self._failed(entry, f"{entry.reference.place}: {type(bug).__name__}", 0.0)
        else:
            self._took(entry, value)
        finally:
            entry.task = None

    def _fetch(self, reference: Reference) -> str:
        if reference.kind != "vault":
            return read(reference, self._source)
        if self._vault is None:
            raise SecretUnavailable(f"{reference.place}: there is no Vault; set STOKER_VAULT_ADDR")
        return self._vault.read(reference)

    def _took(self, entry: _Entry, value: str) -> None:
        now_s, wall_s = self._clock(), time.time()
        entry.reading, entry.problem = entry.reading.good(now_s), ""
        entry.read_at_s = entry.tried_at_s = wall_s
        mark = hmac.digest(self._salt, value.encode(), hashlib.sha256)
        is_other, entry.mark, entry.value = mark != entry.mark, mark, value
        if is_other:
            entry.number += 1
            entry.changed_at_s = wall_s
            _log.info("a secret was read", extra={"secret": _name(entry), "change": entry.number})
            self.on_change(_name(entry))

    def _failed(self, entry: _Entry, problem: str, wait_s: float) -> None:
        if problem != entry.problem:
            _log.warning("a secret cannot be read", extra={"secret": _name(entry), "reason": problem})
        entry.reading, entry.problem = entry.reading.failed(self._clock(), wait_s), problem
        entry.tried_at_s = time.time()


def _name(entry: _Entry) -> str:
    reference = entry.reference
    return reference.place + (f"#{reference.field}" if reference.field else "")


_states: Final = msgspec.json.Decoder(list[SecretState])


def encode(states: list[SecretState]) -> bytes:
    """Return states as a gateway tells them."""
    return msgspec.json.encode(states)


def decode(body: bytes) -> list[SecretState]:
    """Return what a gateway told. Raises msgspec.DecodeError."""
    return _states.decode(body)
