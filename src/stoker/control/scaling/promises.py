"""How the times that objectives promise are kept: first tokens and those after them, at the share that is promised."""

import asyncio
from collections.abc import Iterable
from typing import Final

from stoker.core.snapshot import EndpointKey, EndpointState
from stoker.observe.port import Questions, select
from stoker.types.slos import Objective, Sli
from stoker.types.units import parse_seconds

EVERY_S: Final = 10.0
LATELY_S: Final = 60.0
METRICS: Final[dict[Sli, str]] = {
    "ttft": "stoker_time_to_first_token_seconds",
    "inter_token": "stoker_time_per_output_token_seconds",
}
Kept = tuple[float | None, float]  # the time of the last minute (None: nobody was answered), and what is promised


class Promises:
    """Asks the history now and then; the strictest objective of a kind counts."""

    def __init__(self, history: Questions) -> None:
        self._history = history
        self._asked_s = -EVERY_S
        self._known: dict[tuple[EndpointKey, Sli], Kept] = {}

    def of(self, key: EndpointKey, sli: Sli) -> Kept | None:
        """Return how an endpoint keeps what it promises; None where it promises nothing."""
        return self._known.get((key, sli))

    async def look(self, endpoints: Iterable[EndpointState], now_s: float) -> None:
        """Ask again if it is time."""
        if now_s - self._asked_s < EVERY_S:
            return
        self._asked_s = now_s
        wanted = [(each.key, sli, found) for each in endpoints for sli in METRICS if (found := _strictest(each, sli))]
        kept = await asyncio.gather(*(self._ask(key, sli, found) for key, sli, found in wanted))
        self._known = {(key, sli): each for (key, sli, _), each in zip(wanted, kept, strict=True)}

    async def _ask(self, key: EndpointKey, sli: Sli, objective: Objective) -> Kept:
        asked = select(METRICS[sli], project=key[0], endpoint=key[1])
        seen = await self._history.distribution(asked, LATELY_S)
        return seen.quantile(objective.target), parse_seconds(objective.under or 0)


def _strictest(endpoint: EndpointState, sli: Sli) -> Objective | None:
    mine = [each for each in endpoint.resource.spec.slos if each.sli == sli and each.under and not each.tenant]
    return min(mine, key=lambda each: parse_seconds(each.under or 0), default=None)
