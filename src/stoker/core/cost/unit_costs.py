"""What an endpoint's answers cost each: a thousand requests, a million tokens read, a million written."""

from typing import Final

import msgspec

from stoker.core.cost.attribute import CACHED_UNITS, DECODE_UNITS, PREFILL_UNITS, units

MILLION: Final = 1_000_000


class Amounts(msgspec.Struct, frozen=True):
    """What was spent on an endpoint in nano-dollars, and what came of it.

    spent: everything that its replicas cost. held_ms: the time they were there, busy_ms: in which their engines worked,
    idle_ms: in which they were ready, or kept warm, for nobody. requests: those that were answered.
    """

    spent: int
    held_ms: int
    busy_ms: int
    idle_ms: int
    requests: int
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


class UnitCosts(msgspec.Struct, frozen=True):
    """In nano-dollars; None where there was none of it. utilisation_ratio, idle_ratio: of replicas' time, 0–1."""

    per_1k_requests: int | None
    per_1m_input_tokens: int | None
    per_1m_output_tokens: int | None
    utilisation_ratio: float | None
    idle_ratio: float | None


def unit_costs(amounts: Amounts) -> UnitCosts:
    """Return them with everything in that was spent: idle time too, for somebody pays it.

    A token that is written costs twice what one does that is read, a cached one a tenth (core/cost/attribute.py).
    """
    done = units(amounts.input_tokens, amounts.output_tokens, amounts.cached_tokens)
    reads = PREFILL_UNITS * max(0, amounts.input_tokens - amounts.cached_tokens) + CACHED_UNITS * amounts.cached_tokens
    return UnitCosts(
        per_1k_requests=amounts.spent * 1000 // amounts.requests if amounts.requests else None,
        per_1m_input_tokens=(
            amounts.spent * reads * MILLION // (done * amounts.input_tokens) if done and amounts.input_tokens else None
        ),
        per_1m_output_tokens=amounts.spent * DECODE_UNITS * MILLION // done if amounts.output_tokens else None,
        utilisation_ratio=amounts.busy_ms / amounts.held_ms if amounts.held_ms else None,
        idle_ratio=amounts.idle_ms / amounts.held_ms if amounts.held_ms else None,
    )
