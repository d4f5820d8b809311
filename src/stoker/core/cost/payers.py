"""Who pays for what nobody asked for: idle time and overhead, by the pool's policy. No line's amount is lost in it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from stoker.core.cost.money import split
from stoker.types.costs import NOBODY, OVERHEAD, CostLine, Payer, PoolPrices


def assign(lines: Sequence[CostLine], prices: PoolPrices) -> list[CostLine]:
    """Return the lines with their payers.

    Answers are paid by who asked. The others, by policy: `none`, by the platform; `owner`, by the endpoint's project;
    `proportional`, by whoever had answers from the endpoint, by what these cost, or from the pool where it is no
    endpoint's; where there was nobody, as for `owner`. What is no endpoint's has no owner: the platform pays.
    """
    of_endpoint: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    of_pool: dict[str, int] = defaultdict(int)
    for line in lines:
        if line.kind == "requests":
            of_endpoint[line.project, line.endpoint][line.payer] += line.nano_usd
            of_pool[line.payer] += line.nano_usd
    found: list[CostLine] = []
    for line in lines:
        if line.kind == "requests":
            found.append(line)
            continue
        policy = prices.overhead if line.kind in OVERHEAD else prices.idle
        callers = of_endpoint.get((line.project, line.endpoint), {}) if line.endpoint else of_pool
        found += _paid(line, policy, callers)
    return found


def _paid(line: CostLine, policy: Payer, callers: dict[str, int]) -> Iterable[CostLine]:
    if policy == "none":
        yield msgspec.structs.replace(line, payer=NOBODY)
        return
    names = sorted(callers) if policy == "proportional" else []
    if not any(callers[name] for name in names):
        yield msgspec.structs.replace(line, payer=line.project)
        return
    weights = [callers[name] for name in names]
    for name, part, time_ms in zip(names, split(line.nano_usd, weights), split(line.ms, weights), strict=True):
        if part or time_ms:
            yield msgspec.structs.replace(line, payer=name, nano_usd=part, ms=time_ms)
