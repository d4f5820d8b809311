"""When who offers keys that are none has to wait: longer with each, by the address it comes from.

A key that is good is never refused for what others did, from whatever address: who asks looks the key up first, where
that costs a hash, or knows it from before (`Guesses.knows`). So nobody can be locked out, and somebody who tries keys
hears 429, soon for a minute at a time. A key that turns out to be good was no guess: what it counted is taken back
(`Guesses.forgive`), which tells nobody what the key itself does not. The table is bounded: who was seen longest ago is
forgotten.
"""

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Final

import msgspec

FREE: Final = 10  # a deployment with an old key, restarted a few times, is no attack
FIRST_WAIT_S: Final = 1.0
WAIT_S_MAX: Final = 60.0
FORGET_S: Final = 600.0  # of quiet, and it begins anew
SOURCES_MAX: Final = 4096  # about 4 MB, if each has tried TRIED_MAX
TRIED_MAX: Final = 4  # digests that are remembered of a source: a program or two with keys that are too new
GOOD_MAX: Final = 4096


def source(address: str) -> str:
    """Return what an address is counted as: itself, or the /64 of an IPv6 one, which one customer has whole."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Address(int(found) >> 64 << 64))


class _Source(msgspec.Struct):
    """Keys that were none, of one source. tried: how many of `count` were of a digest, the newest last."""

    count: int = 0
    until_s: float = 0.0
    last_s: float = 0.0
    tried: dict[str, int] = msgspec.field(default_factory=dict)


class Guesses:
    """What one process remembers of keys that were offered."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, _Source] = OrderedDict()
        self._good: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def wait_s(self, address: str, now_s: float) -> float:
        """Return how long keys from `address` are not looked up yet; 0: they are."""
        if not self._failures:
            return 0.0
        found = self._failures.get(source(address))
        return max(found.until_s - now_s, 0.0) if found is not None else 0.0

    def failed(self, address: str, now_s: float, digest: str = "") -> float:
        """Count a key that is none; return how long `address` has to wait now. One that waits already waits on.

        digest: of the key's text, for `forgive`.
        """
        name = source(address)
        found = self._failures.pop(name, None)
        if found is None or now_s - found.last_s >= FORGET_S:
            found = _Source()
        if found.until_s <= now_s:
            found.count += 1
            if digest:
                found.tried[digest] = found.tried.pop(digest, 0) + 1
                if len(found.tried) > TRIED_MAX:
                    del found.tried[next(iter(found.tried))]
            if found.count > FREE:
                found.until_s = now_s + min(FIRST_WAIT_S * 2.0 ** min(found.count - FREE - 1, 10), WAIT_S_MAX)
        found.last_s = now_s
        self._failures[name] = found
        if len(self._failures) > SOURCES_MAX:
            self._failures.popitem(last=False)
        return max(found.until_s - now_s, 0.0)

    def forgive(self, is_good: Callable[[str], bool]) -> None:
        """Take back what was counted for keys that are good by now, by their digests. The others still count."""
        for name, found in list(self._failures.items()):
            good = [digest for digest in found.tried if is_good(digest)]
            for digest in good:
                found.count -= found.tried.pop(digest)
            if good and found.count <= FREE:
                found.until_s = 0.0
            if not found.count:
                del self._failures[name]

    def knows(self, digest: str) -> bool:
        """Return whether a key of that digest was good before; whether it still is, is for others to say."""
        return digest in self._good

    def succeeded(self, digest: str) -> None:
        """Remember a good key by the digest of its text."""
        self._good[digest] = None
        self._good.move_to_end(digest)
        if len(self._good) > GOOD_MAX:
            self._good.popitem(last=False)
