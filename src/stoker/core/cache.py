"""What a response cache keeps: answers within a number of bytes, for a time, the least recently used out first. Pure.

Three bounds hold at every moment: a store's own bytes, the bytes of all stores of a process together (`Allowance`), and
the age of what is given back. A store that is full makes room out of what is its own; it never takes another's.
"""

import re
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from stoker.types.routes import EndpointRoute

# What an entry takes besides its body, in resident memory: 3 million answers of 300 to 600 bytes through a store of
# 64 MiB on CPython 3.11, flat from the first half million on, 905 bytes (446 of them key, digest and both orders).
ENTRY_OVERHEAD_BYTES: Final = 900
# One answer may take so much of a store, so that a single large one does not empty it.
ENTRY_SHARE: Final = 8

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Allowance:
    """The bytes that the stores of one process may hold together."""

    __slots__ = ("max_bytes", "used_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0


@dataclass(frozen=True, slots=True)
class Kept(Generic[V]):
    """One entry. `size` is all that it counts for."""

    value: V
    size: int
    stored_s: float


class Store(Generic[K, V]):
    """Entries of one endpoint. Times are monotonic seconds; `now_s` never goes back."""

    __slots__ = ("_allowance", "_by_age", "_by_use", "bytes", "max_bytes", "ttl_s")

    def __init__(self, max_bytes: int, ttl_s: float, allowance: Allowance) -> None:
        self.max_bytes = max_bytes
        self.ttl_s = ttl_s
        self.bytes = 0
        self._allowance = allowance
        self._by_use: OrderedDict[K, Kept[V]] = OrderedDict()  # least recently used first
        self._by_age: OrderedDict[K, None] = OrderedDict()  # oldest first

    def __len__(self) -> int:
        return len(self._by_use)

    @property
    def entry_max_bytes(self) -> int:
        """The most that one entry may count for."""
        return self.max_bytes // ENTRY_SHARE

    def get(self, key: K, now_s: float) -> Kept[V] | None:
        """Return the entry of `key`, now the most recently used; None when there is none or it is too old."""
        kept = self._by_use.get(key)
        if kept is None:
            return None
        if now_s - kept.stored_s >= self.ttl_s:
            self.drop(key)
            return None
        self._by_use.move_to_end(key)
        return kept

    def put(self, key: K, value: V, size: int, now_s: float) -> bool:
        """Keep `value` of `size` bytes in place of what `key` had; False when it does not fit, and nothing changed.

        Makes room out of what is too old, then out of what was least recently used.
        """
        size += ENTRY_OVERHEAD_BYTES
        others = self._allowance.used_bytes - self.bytes
        if size > self.entry_max_bytes or others + size > self._allowance.max_bytes:
            return False
        self.drop(key)
        self.sweep(now_s)
        while self.bytes + size > self.max_bytes or self._allowance.used_bytes + size > self._allowance.max_bytes:
            self.drop(next(iter(self._by_use)))
        self._by_use[key] = Kept(value, size, now_s)
        self._by_age[key] = None
        self._count(size)
        return True

    def drop(self, key: K) -> None:
        """Forget `key`, if it is known."""
        kept = self._by_use.pop(key, None)
        if kept is not None:
            del self._by_age[key]
            self._count(-kept.size)

    def sweep(self, now_s: float) -> None:
        """Forget what is too old. Costs as much as there is to forget."""
        while self._by_age:
            oldest = next(iter(self._by_age))
            if now_s - self._by_use[oldest].stored_s < self.ttl_s:
                return
            self.drop(oldest)

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._by_use))  # the least recently used first

    def clear(self) -> None:
        """Forget everything, and give its bytes back."""
        self._by_use.clear()
        self._by_age.clear()
        self._count(-self.bytes)

    def _count(self, change: int) -> None:
        self.bytes += change
        self._allowance.used_bytes += change


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a client's Cache-Control allows: an answer kept before, of at most this age; keeping this one."""

    age_max_s: float = float("inf")
    may_store: bool = True


ANYTHING: Final = Freshness()
_MAX_AGE: Final = re.compile(r"max-age=\"?(\d{1,9})\"?$")


def freshness(header: bytes | None) -> Freshness:
    """Return what `Cache-Control: header` of a request asks for (RFC 9111, 5.2.1); unknown words change nothing.

    `no-store`: no kept answer is given and none is kept. `no-cache`: none is given. `max-age=N`: none that is older.
    """
    if header is None:
        return ANYTHING
    words = [word.strip() for word in header.decode("latin-1").lower().split(",")]
    if "no-store" in words:
        return Freshness(age_max_s=-1.0, may_store=False)
    if "no-cache" in words:
        return Freshness(age_max_s=-1.0)
    ages = [float(found[1]) for word in words if (found := _MAX_AGE.match(word))]
    return Freshness(age_max_s=min(ages)) if ages else ANYTHING


def takers(route: EndpointRoute, version: str) -> tuple[tuple[str, int], ...]:
    """Return the revisions whose answers a request may be given, with their weights; none where that is not clear.

    Without a version it is the revisions that take traffic. A named version answers as itself; when two revisions run
    it (other options, the same model), which one would serve is not known before a replica is chosen.
    """
    if not version:
        return tuple((str(each.revision), each.weight) for each in route.revisions if each.weight > 0)
    named = [str(each.revision) for each in route.revisions if each.version == version]
    return tuple((name, 1) for name in named) if len(named) == 1 else ()
