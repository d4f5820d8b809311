"""The usage record of one request: what it took, what it costs, and which leases of budgets paid it.

A gateway writes one for each request that reached an endpoint, before the answer's last byte; control settles each
exactly once (docs/explanation/usage-and-prices.md).
What a request took besides its answer (a try that failed, a hedge that lost, a copy) has records of its own, marked by
a flag of WASTE: they have no price and are no requests.
"""

from enum import IntFlag
from typing import Final

import msgspec

TAGS_MAX: Final = 8  # of one request, those of its key included
TAG_MAX: Final = 64  # characters of a tag's name, and of its value

Tags = tuple[tuple[str, str], ...]  # by name, each name once


class Flag(IntFlag):
    """What is to be known of a request besides its numbers."""

    FAILED = 1  # answered with an error, or its stream ended with one
    CANCELLED = 2  # its client went away before the end
    CACHED = 4  # a kept answer, or another request's call: no engine worked for it
    RETRIED = 8  # more than one try
    HEDGED = 16  # a second replica was asked beside the first
    SHADOWED = 32  # a copy went to another revision, which nobody pays
    CANARY = 64  # the revision under trial answered
    MOVED = 128  # another endpoint answered than the one asked
    STREAM = 256
    ESTIMATED = 512  # it was cut before the engine told its tokens: pieces were counted
    WASTED_TRY = 1024  # no request, but a try of one that was tried again
    WASTED_HEDGE = 2048  # no request, but the slower one of two replicas that were asked
    WASTED_COPY = 4096  # no request, but its copy for a revision on trial


WASTE: Final = int(Flag.WASTED_TRY | Flag.WASTED_HEDGE | Flag.WASTED_COPY)


class Charge(msgspec.Struct, frozen=True, array_like=True):
    """What one lease of one budget pays for a request, in the budget's unit."""

    budget: str
    lease: str
    amount: int


class UsageRecord(msgspec.Struct, frozen=True, array_like=True):
    """One request. An array on the wire: new fields go to the end, with a default, and none is ever taken away.

    at_ms: unix time of its end. endpoint: that was asked; served_by: that answered, "" when it is the same. tenant: as
    everywhere, the key's tenant or else its id. input_tokens count cached_tokens too. compute_us: its share of the
    engine's time. attempts: what was sent to replicas. price_nano_usd: what the caller pays.
    """

    at_ms: int
    request: str
    project: str
    endpoint: str
    served_by: str
    revision: str
    key: str
    tenant: str
    tags: Tags
    method: str
    status: int
    flags: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    rows: int
    compute_us: int
    bytes_in: int
    bytes_out: int
    attempts: int
    price_nano_usd: int
    charges: tuple[Charge, ...] = ()


class UsageBatch(msgspec.Struct, frozen=True, array_like=True):
    """Consecutive records of one incarnation of a gateway's process, the first with the sequence number `first`.

    Numbers begin with 1. lost: so many numbers before `first` can never be read again (a disk broke them).
    """

    gateway: str
    incarnation: str
    first: int
    lost: int
    records: list[UsageRecord]


class Settled(msgspec.Struct, frozen=True):
    """Control's answer to a batch: every record up to `until` is settled for good."""

    until: int


class Place(msgspec.Struct, frozen=True):
    """A place among the records that are kept, in the order in which they were settled."""

    batch: int = 0
    skip: int = 0

    def __str__(self) -> str:
        """Return it as the API has it: `17.250`."""
        return f"{self.batch}.{self.skip}"


def parse_place(text: str) -> Place:
    """Return the place that `str` made `text` of; "" is the first. Raises ValueError."""
    if not text:
        return Place()
    batch, dot, skip = text.partition(".")
    if (
        len(text) > 32
        or dot != "."
        or not (batch.isascii() and batch.isdecimal() and skip.isascii() and skip.isdecimal())
    ):
        raise ValueError(f"{text[:40]!r} is no place; give `next` of the page before")
    return Place(int(batch), int(skip))


class RecordView(msgspec.Struct, frozen=True):
    """One request, as people bill it. at: the end, RFC 3339 in UTC; flags: names of Flag; price_usd: dollars, exactly.

    The rest is as in UsageRecord.
    """

    at: str
    request: str
    project: str
    endpoint: str
    served_by: str
    revision: str
    key: str
    tenant: str
    tags: dict[str, str]
    method: str
    status: int
    flags: tuple[str, ...]
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    rows: int
    compute_us: int
    bytes_in: int
    bytes_out: int
    attempts: int
    price_usd: str


class RecordPage(msgspec.Struct, frozen=True):
    """Records in the order in which they were settled. next: give it as `after` for what follows, now or later.

    is_last: no more were settled so far. kept_from: when the oldest request ended that is kept, "" for none.
    """

    items: list[RecordView]
    next: str
    is_last: bool
    kept_from: str = ""
