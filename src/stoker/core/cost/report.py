"""Costs as they are asked for: added up by names, what a request costs at each endpoint, and what the month will."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from stoker.core.cost.outlook import Forecast
from stoker.core.cost.unit_costs import Amounts, UnitCosts, unit_costs
from stoker.core.usage import Sums
from stoker.types.costs import OVERHEAD, LineKind
from stoker.types.days import DAY_S, format_day, format_moment, month
from stoker.types.prices import format_dollars

WHOSE: Final = ("kind", "pool", "payer", "project", "endpoint", "revision", "key")  # columns of a line by their name
TIMES: Final = ("hour", "day", "month")
BUSY: Final[frozenset[LineKind]] = OVERHEAD | {"requests"}
FOR_NOBODY: Final[frozenset[LineKind]] = frozenset(("keep_warm", "idle", "unallocated", "reserved_unused"))


class Group(NamedTuple):
    """What was spent, in nano-dollars and milliseconds of machines, by columns of lines; tags are pairs."""

    by: Mapping[str, Any]
    nano_usd: int
    ms: int


class Row(msgspec.Struct):
    """What was spent on what `by` names. usd: dollars, exactly; machine_s: of replicas, or of machines without any."""

    by: dict[str, str] = {}
    usd: str = "0"
    nano_usd: int = 0
    machine_s: float = 0.0


class EndpointCosts(msgspec.Struct, frozen=True):
    """What an endpoint's answers cost, everything in that its replicas did or did not do; dollars, None for nothing."""

    project: str
    endpoint: str
    usd: str
    requests: int
    input_tokens: int
    output_tokens: int
    usd_per_1k_requests: str | None
    usd_per_1m_input_tokens: str | None
    usd_per_1m_output_tokens: str | None
    utilisation_ratio: float | None
    idle_ratio: float | None


class Month(msgspec.Struct, frozen=True):
    """What this month has cost, and will have by its end, in dollars."""

    spent_usd: str
    expected_usd: str
    low_usd: str
    high_usd: str
    because: str


class Report(msgspec.Struct, frozen=True):
    """What was spent from `from_s` until `to_s` (unix seconds), the dearest first, and all of it together.

    utilisation_ratio, idle_ratio: of the money, or of the time where no pool has a price, what engines worked for, and
    what nobody used. unusual: why today or yesterday is out of the ordinary.
    """

    from_s: int
    to_s: int
    items: tuple[Row, ...]
    total: Row
    endpoints: tuple[EndpointCosts, ...]
    utilisation_ratio: float | None
    idle_ratio: float | None
    month: Month | None = None
    unusual: str = ""


def columns(by: Sequence[str]) -> set[str]:
    """Return the columns of lines that the names `by` need. Raises ValueError for an unknown one."""
    found = set()
    for name in by:
        if name in TIMES:
            found.add("at_s" if name == "hour" else "day_s")
        elif name in ("tag", "tags") or name.startswith("tag:"):
            found.add("tags")
        elif name in WHOSE:
            found.add(name)
        else:
            known = ", ".join((*WHOSE, "tag:NAME", *TIMES))
            raise ValueError(f"{name!r} is nothing to count by; there are {known}")
    return found


def rows(groups: Iterable[Group], by: Sequence[str]) -> tuple[tuple[Row, ...], Row]:
    """Return the groups, which have what `columns` says, by the names `by`, the dearest first; and all together."""
    found: dict[tuple[str, ...], Row] = {}
    total = Row()
    ms: dict[int, int] = {}
    for group in groups:
        named = {name: _value(name, group.by) for name in by}
        row = found.setdefault(tuple(named.values()), Row(by=named))
        for each in (row, total):
            each.nano_usd += group.nano_usd
            ms[id(each)] = ms.get(id(each), 0) + group.ms
    for each in (*found.values(), total):
        each.usd = format_dollars(each.nano_usd)
        each.machine_s = ms.get(id(each), 0) / 1000.0
    times = [name for name in by if name in TIMES]
    items = sorted(found.values(), key=lambda row: (-row.nano_usd, -row.machine_s, *row.by.values()))
    items.sort(key=lambda row: [row.by[name] for name in times])
    return tuple(items), total


def ratios(groups: Iterable[Group]) -> tuple[float | None, float | None]:
    """Return what share of the money, or of the time where there is none, engines worked for, and nobody used."""
    kept = list(groups)
    is_priced = any(each.nano_usd for each in kept)
    busy, idle, whole = (
        sum((each.nano_usd if is_priced else each.ms) for each in kept if kinds is None or each.by["kind"] in kinds)
        for kinds in (BUSY, FOR_NOBODY, None)
    )
    return (busy / whole, idle / whole) if whole else (None, None)


def endpoints(groups: Iterable[Group], used: Mapping[tuple[str, str], Sums]) -> tuple[EndpointCosts, ...]:
    """Return what answers cost, by endpoint, the dearest first. groups: by project, endpoint and kind."""
    spent: dict[tuple[str, str], dict[str, Group]] = {}
    for group in groups:
        if group.by["endpoint"]:
            kinds = spent.setdefault((group.by["project"], group.by["endpoint"]), {})
            before = kinds.get(group.by["kind"], Group({}, 0, 0))
            kinds[group.by["kind"]] = Group({}, before.nano_usd + group.nano_usd, before.ms + group.ms)
    found = [_endpoint(*whose, kinds, used.get(whose, Sums())) for whose, kinds in spent.items()]
    return tuple(each for _, each in sorted(found, key=lambda pair: (-pair[0], pair[1].project, pair[1].endpoint)))


def month_of(found: Forecast | None) -> Month | None:
    """Return the forecast in dollars."""
    if found is None:
        return None
    spent, expected, low, high = map(format_dollars, (found.spent, found.expected, found.low, found.high))
    return Month(spent, expected, low, high, found.because)


def _endpoint(project: str, name: str, kinds: Mapping[str, Group], used: Sums) -> tuple[int, EndpointCosts]:
    amounts = Amounts(
        spent=sum(each.nano_usd for each in kinds.values()),
        held_ms=sum(each.ms for each in kinds.values()),
        busy_ms=sum(each.ms for kind, each in kinds.items() if kind in BUSY),
        idle_ms=sum(each.ms for kind, each in kinds.items() if kind in FOR_NOBODY),
        requests=used.requests - used.failed - used.cancelled,
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        cached_tokens=used.cached_tokens,
    )
    each: UnitCosts = unit_costs(amounts)
    return amounts.spent, EndpointCosts(
        project,
        name,
        format_dollars(amounts.spent),
        amounts.requests,
        amounts.input_tokens,
        amounts.output_tokens,
        _dollars(each.per_1k_requests),
        _dollars(each.per_1m_input_tokens),
        _dollars(each.per_1m_output_tokens),
        each.utilisation_ratio,
        each.idle_ratio,
    )


def _dollars(nano_usd: int | None) -> str | None:
    return None if nano_usd is None else format_dollars(nano_usd)


def _value(name: str, values: Mapping[str, Any]) -> str:
    if name == "hour":
        return format_moment(values["at_s"])[:14] + "00Z"
    if name in TIMES:
        day = values["day_s"] // DAY_S
        return format_day(day) if name == "day" else format_day(month(day)[0])[:7]
    if name in ("tag", "tags"):
        return ",".join(f"{tag}={value}" for tag, value in values["tags"])
    if name.startswith("tag:"):
        return str(dict(values["tags"]).get(name[4:], ""))
    return str(values[name])
