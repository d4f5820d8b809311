"""What requests cost: prices as people write them, and the whole numbers that are reckoned with.

Money is counted in nano-dollars (10⁻⁹ US$), in whole numbers, so that a sum does not depend on its order and can be
compared with `==`. A micro-dollar would be too coarse: one cached token at $0.01 a million is 0.01 of it. 2⁶³
nano-dollars, what a database's integer holds, are nine billion dollars.
"""

import calendar
import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

NANO_PER_USD: Final = 10**9
USD_MAX: Final = 1_000_000
DECIMALS: Final = 9
DOLLARS_PATTERN: Final = r"^\$?(1000000|[0-9]{1,6}(\.[0-9]{1,9})?)(?!\n)$"
_DAY: Final = re.compile(r"([12]\d{3})-(\d\d)-(\d\d)")

Dollars = Annotated[
    str | int | float,
    Meta(
        description='US dollars, exactly: "0.15", at most 9 decimals',
        extra={"unit": "dollars"},
        extra_json_schema={"pattern": DOLLARS_PATTERN, "minimum": 0, "maximum": USD_MAX},
    ),
]


def parse_dollars(text: str | float) -> int:
    """Return the nano-dollars that `"0.15"` or `2` mean, exactly. Raises ValueError with what was expected."""
    expected = f"{text!r} is no price; write US dollars with at most {DECIMALS} decimals, such as 0.15"
    try:
        given = Decimal(str(text).strip().removeprefix("$"))
    except InvalidOperation:
        raise ValueError(expected) from None
    if not given.is_finite() or not 0 <= given <= USD_MAX:
        raise ValueError(f"{expected}, from 0 to {USD_MAX:,}")
    nano = given * NANO_PER_USD
    if nano != nano.to_integral_value():
        raise ValueError(expected)
    return int(nano)


def format_dollars(nano_usd: int) -> str:
    """Return nano-dollars as dollars, exactly and as short as can be: `0.000105`, `12`, `-0.5`."""
    if nano_usd < 0:
        return "-" + format_dollars(-nano_usd)
    return ("%d.%09d" % divmod(nano_usd, NANO_PER_USD)).rstrip("0").rstrip(".")  # noqa: UP031 - of each priced answer; 0.4 µs less


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a caller pays for requests of an endpoint; all of its parts add up."""

    input: Annotated[Dollars, Meta(description="a million tokens of prompts, without those that were cached")] = 0
    cached: Annotated[
        Dollars | None, Meta(description="a million tokens of prompts that the engine had kept; null: as `input`")
    ] = None
    output: Annotated[Dollars, Meta(description="a million tokens of answers")] = 0
    requests: Annotated[Dollars, Meta(description="a thousand requests that were answered")] = 0
    compute: Annotated[Dollars, Meta(description="a second of the engine's time")] = 0

    def card(self) -> "Card":
        """Return it as whole numbers. Raises ValueError."""
        paid = parse_dollars(self.input)
        return Card(
            input=paid,
            cached=paid if self.cached is None else parse_dollars(self.cached),
            output=parse_dollars(self.output),
            requests=parse_dollars(self.requests),
            compute=parse_dollars(self.compute),
        )


class Card(msgspec.Struct, frozen=True, omit_defaults=True):
    """A price in nano-dollars: a million input, cached and output tokens, a thousand requests, a second of compute."""

    input: int = 0
    cached: int = 0
    output: int = 0
    requests: int = 0
    compute: int = 0


class DatedCard(msgspec.Struct, frozen=True, omit_defaults=True):
    """A card and the unix time from which on it holds, until the next one does."""

    card: Card
    from_s: float = 0.0


class DefaultPrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A price of every endpoint that has none of its own and fits; the most exact fit, then the newest, holds.

    `since` is a day, in UTC; "" means always.
    """

    price: Price
    model: Annotated[
        str, Meta(max_length=200, description="whose: a model's name, or the remote one's; \"\" for all")
    ] = ""
    engine: Annotated[str, Meta(max_length=63, description='only those that this engine runs; "" for all')] = ""
    task: Annotated[Literal["", "predict", "embed", "chat"], Meta(description='only those of this task; "" all')] = ""
    since: Annotated[str, Meta(max_length=10, description="the first day it holds, as 2026-11-29")] = ""

    def from_s(self) -> float:
        """Return the unix time from which it holds. Raises ValueError."""
        if not self.since:
            return 0.0
        found = _DAY.fullmatch(self.since)
        if found is not None:
            year, month, day = map(int, found.groups())
            if 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]:
                return float(calendar.timegm((year, month, day, 0, 0, 0)))
        raise ValueError(f"{self.since!r} is no day; write it as 2026-11-29")


class PriceBook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The platform's default prices."""

    prices: Annotated[tuple[DefaultPrice, ...], Meta(max_length=1000)] = ()
