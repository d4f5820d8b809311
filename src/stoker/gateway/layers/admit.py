"""Whether the request may come in: quarantine, full queues, deadlines that cannot be met. Before anything is spent."""

import time

from stoker.gateway.exchange import Exchange, Handler, Work
from stoker.gateway.fleet import suspicion


def admit(inner: Handler) -> Handler:
    """Refuse at once what cannot be served, so that only what can waits."""

    def handle(exchange: Exchange) -> Work:
        lane = exchange.lane
        assert lane is not None
        if lane.book:
            suspicion.refuse_convicted(lane, exchange)
        if lane.is_full():
            lane.admission.check(exchange, time.monotonic())
        return inner(exchange)

    return handle
