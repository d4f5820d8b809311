"""What a finished request costs, and the most that one can cost before it runs.

The parts are added exactly and rounded up once, to a whole nano-dollar: a request costs at most one nano-dollar more
than its parts, and sums of requests are sums of integers. A part is tokens × (nano-dollars a million) and so in
femto-dollars; a request's share of a thousand and the microseconds of a second's price are made such too.

What is paid: an answer. One with an error, and a request that was refused, costs nothing, whatever was tried for it;
retries, hedges and copies are the platform's. A kept answer costs its share of `requests`, for no engine worked. A
stream that its client leaves costs what had been made (gateway/usage/record.py counts it).
"""

import math
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from stoker.types.prices import Card, DatedCard, DefaultPrice

FREE: Final = Card()
FEMTO_PER_NANO: Final = 1_000_000
# Tokens that no byte of the body stands for: templates put a few around each message, and each message of a body takes
# more bytes than that (`{"role":"user","content":""}` has 28), so only a constant is left.
TEMPLATE_TOKENS_MAX: Final = 1024
OUTPUT_TOKENS_MAX: Final = 32_768  # of an answer whose request names no limit


class Work(msgspec.Struct, frozen=True):
    """What a request took, or at most takes. input_tokens count cached_tokens too."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    compute_us: int = 0


def price(card: Card, work: Work) -> int:
    """Return what a request that was answered costs, in nano-dollars."""
    cached = min(work.cached_tokens, work.input_tokens)
    femto = (
        (work.input_tokens - cached) * card.input
        + cached * card.cached
        + work.output_tokens * card.output
        + card.requests * 1000
        + work.compute_us * card.compute
    )
    return -(-femto // FEMTO_PER_NANO)


def bound(cards: Iterable[Card], most: Work) -> int:
    """Return what a request costs at most, by whichever of `cards`, when it takes no more than `most` of anything.

    Cached tokens of `most` say nothing: any of its input tokens may be cached, or none, whatever costs more.
    """
    dearest = 0
    for card in cards:
        femto = (
            most.input_tokens * (max(card.cached, card.input))
            + most.output_tokens * card.output
            + card.requests * 1000
            + most.compute_us * card.compute
        )
        dearest = max(dearest, femto)
    return -(-dearest // FEMTO_PER_NANO)


def at_most(*, body_bytes: int, max_tokens: int, left_s: float, writes: bool) -> Work:
    """Return the most that a request can take, as far as it says.

    Args:
        max_tokens: its own limit for all its answers together; 0: it names none, OUTPUT_TOKENS_MAX is taken.
        left_s: until its deadline, after which no engine works for it.
        writes: whether its answer is made of tokens.
    """
    return Work(
        input_tokens=body_bytes + TEMPLATE_TOKENS_MAX,
        output_tokens=(max_tokens or OUTPUT_TOKENS_MAX) if writes else 0,
        compute_us=max(int(left_s * 1e6) + 1, 0),
    )


def card_at(cards: Sequence[DatedCard], now_s: float) -> Card:
    """Return the card that holds at `now_s`; FREE before the first one's day. `cards` are by time."""
    held = FREE
    for each in cards:
        if each.from_s > now_s:
            break
        held = each.card
    return held


def cards_of(book: Sequence[DefaultPrice], *, models: Sequence[str], engine: str, task: str) -> tuple[DatedCard, ...]:
    """Return the default cards of an endpoint without a price of its own, by time.

    The most exact entries count: those that name its model before those with its engine before those with its task.
    Until the first of them begins, the next less exact ones do: a price that is announced makes nothing free
    meanwhile. Raises ValueError for an entry that cannot be read.

    Args:
        models: the names it goes by: the registered model's, and the one that a remote server knows.
    """
    fits = [each for each in book if _fits(each, models, engine, task)]
    found: list[DatedCard] = []
    for exactness in sorted({_exactness(each) for each in fits}, reverse=True):
        until_s = found[0].from_s if found else math.inf
        chosen = sorted((each.from_s(), number) for number, each in enumerate(fits) if _exactness(each) == exactness)
        found[:0] = [DatedCard(fits[number].price.card(), from_s) for from_s, number in chosen if from_s < until_s]
    return tuple(found)


def _fits(entry: DefaultPrice, models: Sequence[str], engine: str, task: str) -> bool:
    return (
        (not entry.model or any(fnmatchcase(name, entry.model) for name in models))
        and entry.engine in ("", engine)
        and entry.task in ("", task)
    )


def _exactness(entry: DefaultPrice) -> tuple[int, bool, bool]:
    """Return how exactly `entry` says whose price it is: letters of a model's name before an asterisk count."""
    return len(entry.model.replace("*", "")), bool(entry.engine), bool(entry.task)
