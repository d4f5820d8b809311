"""How much may be spent: a budget as a manifest, what gateways know of it, and what they and control say of leases.

Amounts are whole numbers of the budget's unit: of nano-dollars, as everywhere (types/prices.py), of requests or tokens.
A budget of requests or tokens is a quota: all else of it is the same.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

Period = Literal["day", "week", "month", "total"]
BudgetScope = Literal["project", "key", "tag", "platform"]
Unit = Literal["usd", "requests", "tokens"]
UNITS: Final[tuple[Unit, ...]] = ("usd", "requests", "tokens")
OnLimit = Literal["refuse", "fallback", "warn"]
ALERTS: Final = (0.5, 0.8, 1.0)
ENDLESS_S: Final = 2.0**52  # the end of a period that has none: whole seconds that JSON keeps


class BudgetSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose spending is held to what."""

    amount: Annotated[
        str | int | float,
        Meta(description='US dollars a period, exactly: "250.00"; of requests or tokens a whole number'),
    ]
    unit: Annotated[
        Unit,
        Meta(
            description="usd: what answers cost; requests: how many were served; tokens: of their prompts and answers"
        ),
    ] = "usd"
    scope: Annotated[
        BudgetScope,
        Meta(description="whose requests: all of the project, of one key, of one tag, or all keys of the platform"),
    ] = "project"
    key: Annotated[str, Meta(max_length=16, description="scope key: the key's id")] = ""
    tag: Annotated[str, Meta(max_length=64, description="scope tag: the tag")] = ""
    period: Annotated[Period, Meta(description="when it begins anew; weeks begin on Monday, total never ends")] = (
        "month"
    )
    timezone: Annotated[str, Meta(max_length=64, description="whose calendar: a name such as Europe/Berlin")] = "UTC"
    on_limit: Annotated[
        OnLimit,
        Meta(
            description="refuse: 429 budget_exceeded, or quota_exceeded; fallback: the endpoint's fallbacks whose "
            "price still fits, then 429; warn: serve, and tell"
        ),
    ] = "refuse"
    alerts: Annotated[
        tuple[Annotated[float, Meta(gt=0, le=10)], ...],
        Meta(max_length=8, description="fractions of the amount; somebody is told when one is spent"),
    ] = ALERTS


class BudgetRoute(msgspec.Struct, frozen=True):
    """A budget as the data plane sees it. `of` is the project, the key's id or the tag, as `scope` says.

    Of scope platform both `project` and `of` are "".
    """

    budget: int
    name: str
    project: str
    scope: BudgetScope
    of: str
    amount: int
    on_limit: OnLimit = "refuse"
    unit: Unit = "usd"


class Asked(msgspec.Struct, frozen=True):
    """What a gateway says of its lease of one budget.

    at_s: a moment of the period that is meant. cap: the most that it will ever charge to the lease, as it knows; never
    more than what it was told, less where it gives back. room: what of that is neither spent nor reserved.
    need: what the largest request that waits lacks, 0 for none; least: the smallest. want: how much room it would like.
    """

    budget: int
    at_s: float
    cap: int
    room: int
    want: int
    need: int = 0
    least: int = 0


class Question(msgspec.Struct, frozen=True):
    """What a gateway tells control about its leases. `number` grows with each question of one holder."""

    holder: str
    number: int
    asked: tuple[Asked, ...] = ()


class Granted(msgspec.Struct, frozen=True):
    """What a gateway may charge to its lease of one budget in one period, and what is elsewhere.

    period: its beginning, which names it. left: what is neither spent nor leased. others: what living gateways hold.
    """

    budget: int
    period: int
    ends_at_s: float
    cap: int
    left: int
    others: int


class Answer(msgspec.Struct, frozen=True):
    """Control's answer to question `number`. `scarce`: budgets that a gateway could not get enough of."""

    number: int
    granted: tuple[Granted, ...] = ()
    scarce: tuple[int, ...] = ()


class Ended(msgspec.Struct, frozen=True):
    """A holder is dead, and every charge in its journal is settled."""

    holder: str


class BudgetView(msgspec.Struct, frozen=True):
    """A budget and its account of this period. reached: the largest fraction of its alerts that is spent; 0: none."""

    project: str
    name: str
    spec: BudgetSpec
    amount: int
    settled: int
    leased: int
    left: int
    began_at_s: int
    ends_at_s: float
    reached: float
