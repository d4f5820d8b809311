"""Versions that may be started soon on a node: their files are to be in its page cache, their imports done."""

from typing import Final

import msgspec

from stoker.types.forks import ForkKey

AHEAD_MAX: Final = 64  # versions a node is told of


class Ahead(msgspec.Struct, frozen=True):
    """One version. `folder`: absolute, as engines open it. `fork`: what its replicas can be forked from."""

    model: str  # "digits@1"
    folder: str
    size_bytes: int
    because: str
    fork: ForkKey | None = None


class AheadStatus(msgspec.Struct, frozen=True):
    """How far a node is with one of them: the bytes of its files that were in the page cache when last looked at."""

    model: str
    size_bytes: int
    cached_bytes: int
    because: str
