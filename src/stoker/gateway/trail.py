"""Which tries a request had, noted as each ends, for those that had more than one; the others cost a look at a counter.

A try's span is the request's plus its number, so that a replica is told it before anything is noted.
"""

from typing import TYPE_CHECKING, Final

from stoker.gateway.exchange import Exchange
from stoker.types.traces import Try

if TYPE_CHECKING:
    from stoker.gateway.fleet.replica import Replica
    from stoker.gateway.lane import Lane

HEDGE: Final = 64  # a hedge's number is that of the try beside it plus this
STEPS_MAX: Final = 60  # that are kept of one request


def note(exchange: Exchange, outcome: str, now_s: float, replica: "Replica") -> None:
    """Keep the newest try, which ends now, at `replica`."""
    was_sent = exchange.sent_s >= exchange.routed_s
    _keep(
        exchange,
        number=exchange.sends if was_sent else 0,
        begin_s=exchange.sent_s if was_sent else exchange.routed_s,
        end_s=now_s,
        outcome=outcome,
        replica=replica,
    )


def note_hedge(exchange: Exchange, outcome: str, now_s: float, replica: "Replica", sent_s: float) -> None:
    """Keep the hedge of `exchange` that was sent to `replica` at `sent_s` and ends now."""
    _keep(
        exchange,
        number=exchange.sends + HEDGE,
        begin_s=sent_s,
        end_s=now_s,
        outcome=outcome,
        replica=replica,
        kind="hedge",
    )


def note_last(exchange: Exchange, outcome: str, now_s: float) -> None:
    """Keep the newest try, unless it is kept already or there was none. `outcome` is for one that came to no end."""
    relay = exchange.relay
    if relay is None or any(each.number == exchange.sends for each in exchange.trail or ()):
        return
    if relay.problem is not None:
        outcome = relay.problem.code
    elif relay.end is not None:
        outcome = "ok"
    note(exchange, outcome, now_s, relay.replica)


def note_step(exchange: Exchange, lane: "Lane", outcome: str, now_s: float) -> None:
    """Keep that the endpoint of `lane` gives the request up: its newest try, or that there was none."""
    endpoint = lane.route.endpoint
    note_last(exchange, outcome, now_s)
    if not exchange.trail or exchange.trail[-1].endpoint != endpoint:
        _keep(exchange, number=0, begin_s=now_s, end_s=now_s, outcome=outcome, endpoint=endpoint)


def _keep(
    exchange: Exchange,
    *,
    number: int,
    begin_s: float,
    end_s: float,
    outcome: str,
    replica: "Replica | None" = None,
    endpoint: str = "",
    kind: str = "",
) -> None:
    trail = exchange.trail = exchange.trail or []
    if exchange.lane is None or len(trail) >= STEPS_MAX:
        return
    endpoint = endpoint or exchange.served_by or exchange.lane.route.endpoint
    trail.append(
        Try(
            number=number,
            kind=kind or _kind(exchange, trail, endpoint),
            endpoint=endpoint,
            begin_s=begin_s,
            end_s=end_s,
            outcome=outcome,
            replica=replica.id if replica is not None else "",
            revision=replica.revision if replica is not None else "",
        )
    )


def _kind(exchange: Exchange, before: list[Try], endpoint: str) -> str:
    if exchange.resume:
        return "migration"
    own = [each for each in before if each.kind != "hedge"]
    if not own:
        return "first"
    return "retry" if own[-1].endpoint == endpoint else "fallback"
