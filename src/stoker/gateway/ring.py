"""The traces that this gateway keeps: the newest, within a count and a size, until somebody asks."""

import secrets
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from stoker.types.traces import Trace, TraceQuestion

COUNT_MAX: Final = 2000
BYTES_MAX: Final = 4 << 20
LIMIT_MAX: Final = 1000  # in one answer
ENTRY_BYTES: Final = 300  # of memory beside the trace itself

_encode: Final = msgspec.msgpack.Encoder().encode


class _Entry(NamedTuple):
    """A trace as it is sent, and what it is looked for by."""

    id: str
    request: str
    project: str
    endpoints: tuple[str, str]
    is_error: bool
    is_slow: bool
    data: bytes


class Ring:
    """`added` counts all that were ever kept; the newest of them are still here."""

    def __init__(self, count_max: int = COUNT_MAX, bytes_max: int = BYTES_MAX) -> None:
        self.added = 0
        self.size_bytes = 0
        self._boot = secrets.token_hex(4)
        self._entries: deque[_Entry] = deque()
        self._count_max = count_max
        self._bytes_max = bytes_max

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, trace: Trace, *, is_slow: bool) -> None:
        """Keep one; the oldest go."""
        data = _encode(trace)
        names = (trace.endpoint, trace.served_by)
        entries = self._entries
        entries.append(_Entry(trace.id, trace.request, trace.project, names, trace.status >= 500, is_slow, data))
        self.added += 1
        self.size_bytes += len(data) + ENTRY_BYTES
        while len(entries) > self._count_max or (self.size_bytes > self._bytes_max and len(entries) > 1):
            self.size_bytes -= len(entries.popleft().data) + ENTRY_BYTES

    def answer(self, question: TraceQuestion) -> bytes:
        """Return a TraceAnswer as msgpack."""
        limit = max(0, min(question.limit, LIMIT_MAX))
        goes_on = question.boot != "" or question.after >= 0
        if not goes_on:
            found = [entry.data for entry, _ in zip(self._matching(question), range(limit), strict=False)]
            return self._written(found, self.added, 0)
        oldest = self.added - len(self._entries)
        after = question.after if question.boot == self._boot else 0
        begin = min(max(after, oldest), self.added)
        found = [self._entries[at - oldest].data for at in range(begin, min(begin + limit, self.added))]
        return self._written(found, begin + len(found), begin - after if after < begin else 0)

    def _matching(self, wanted: TraceQuestion) -> Iterator[_Entry]:
        for entry in reversed(self._entries):
            if (
                (not wanted.id or wanted.id in (entry.id, entry.request))
                and (not wanted.project or wanted.project == entry.project)
                and (not wanted.endpoint or wanted.endpoint in entry.endpoints)
                and (not wanted.is_error or entry.is_error)
                and (not wanted.is_slow or entry.is_slow)
            ):
                yield entry

    def _written(self, items: list[bytes], following: int, missed: int) -> bytes:
        raw = [msgspec.Raw(item) for item in items]
        return _encode({"items": raw, "boot": self._boot, "next": following, "missed": missed})
