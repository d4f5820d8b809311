"""What engines did for a request besides its answer: tries that failed or came second, copies for a version on trial.

Each is a usage record of its own, with a flag of WASTE: no request, no price, and a line of its own among the costs
(core/cost/hours.py). Who did not finish told nobody what it took, so that is as near as its time says.
"""

import time
from typing import TYPE_CHECKING

from stoker.protocol.frames import EndHead
from stoker.protocol.usage import encode
from stoker.types.errors import Busy, Draining
from stoker.types.usage import Flag, UsageRecord

if TYPE_CHECKING:
    from stoker.gateway.exchange import Exchange, TryFailed
    from stoker.gateway.usage.record import Bill


class Took:
    """What a try took: of tokens and of the engine's time."""

    __slots__ = ("cached_tokens", "compute_us", "input_tokens", "output_tokens", "rows")

    def __init__(self, end: EndHead | None, share: float = 1.0, compute_s: float = 0.0) -> None:
        """As `end` says, or `share` of that; `compute_s` where nobody says how long the engine worked."""
        usage = end.usage if end is not None else None
        self.input_tokens = int(usage.input_tokens * share) if usage is not None else 0
        self.output_tokens = int(usage.output_tokens * share) if usage is not None else 0
        self.cached_tokens = int(usage.cached_tokens * share) if usage is not None else 0
        self.rows = usage.rows if usage is not None else 0
        if end is not None and end.timings.compute_s > 0:
            of_batch = self.rows / max(end.timings.batch_rows, self.rows) if self.rows else 1.0
            compute_s = end.timings.compute_s * of_batch * share
        self.compute_us = int(compute_s * 1e6)


def waste(bill: "Bill | None", exchange: "Exchange", flag: Flag, revision: str, took: Took) -> None:
    """Write down what a try of `exchange` took of `revision` for nobody. A record that finds no room is lost."""
    key = exchange.key
    if bill is None or key is None or not (took.compute_us or took.input_tokens):
        return
    route = bill.asked.route
    record = UsageRecord(
        int(time.time() * 1000), exchange.id, route.project, route.endpoint, "", revision, key.key,
        key.limits.tenant or key.key, bill.tags, exchange.method, 0, int(flag),
        took.input_tokens, took.output_tokens, took.cached_tokens, took.rows, took.compute_us, 0, 0, 0, 0,
    )  # fmt: skip
    bill.journal.append(encode(record), must=False)


def waste_try(exchange: "Exchange", failed: "TryFailed", now_s: float) -> None:
    """Write down the try that failed: its prompt as learned, and the time it had. A refused one took nothing."""
    lane = exchange.lane
    if lane is None or isinstance(failed.problem, Busy | Draining):
        return
    took = Took(None, compute_s=max(now_s - exchange.sent_s, 0.0))
    if lane.task != "predict":
        took.input_tokens = int(lane.expectation.tokens(len(exchange.body), 0, writes=False))
    waste(exchange.bill, exchange, Flag.WASTED_TRY | Flag.ESTIMATED, failed.replica.revision, took)
