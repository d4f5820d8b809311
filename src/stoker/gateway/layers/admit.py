"""Whether the request may come in: quarantine, shed bands, full queues, late deadlines. Before anything is spent."""

import time

from stoker.core import admit as core
from stoker.gateway.exchange import Exchange, Handler, Work
from stoker.gateway.fleet import suspicion
from stoker.gateway.lane import Lane
from stoker.types.errors import Shed


def admit(inner: Handler) -> Handler:
    """Refuse at once what cannot be served, so that only what can waits."""

    def handle(exchange: Exchange) -> Work:
        lane = exchange.lane
        assert lane is not None
        if lane.book:
            suspicion.refuse_convicted(lane, exchange)
        refuse_shed(lane, exchange)
        if lane.is_full():
            lane.admission.check(exchange, time.monotonic())
        return inner(exchange)

    return handle


def refuse_shed(lane: Lane, exchange: Exchange) -> None:
    """Raise Shed for a request of the band that the policy of the endpoint's error budget refuses now."""
    if lane.route.sheds and core.is_sheddable(exchange.band):
        raise Shed(
            f"{lane.route.endpoint} has used up its error budget and takes nothing sheddable until it recovers",
            retry_after_s=core.RETRY_AFTER_MAX_S,
        )
