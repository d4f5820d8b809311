"""What a death means for the requests that were in the replica. The rules are in core/poison.py; this applies them."""

import time

import xxhash

from stoker.gateway.exchange import Exchange
from stoker.gateway.fleet.replica import Replica
from stoker.gateway.lane import Lane
from stoker.types.errors import UnprocessableInput


def shape(exchange: Exchange) -> bytes:
    """Return the digest that tells equal requests of one endpoint from others. Computed at most once a request."""
    if not exchange.shape:
        digest = xxhash.xxh3_128(f"{exchange.method} {exchange.header_bytes} {exchange.version}\n".encode())
        digest.update(exchange.body)
        exchange.shape = digest.digest()
    return exchange.shape


def refuse_convicted(lane: Lane, exchange: Exchange) -> None:
    """Raise UnprocessableInput when requests like this one are in quarantine."""
    if lane.book.standing(shape(exchange), time.monotonic()) == "convicted":
        raise _refusal(lane)


def is_suspect(lane: Lane, exchange: Exchange) -> bool:
    """Return whether the next try needs a trial. Raises UnprocessableInput when it was convicted meanwhile."""
    standing = lane.book.standing(shape(exchange), time.monotonic())
    if standing == "convicted":
        raise _refusal(lane)
    return standing == "suspect"


def blame(lane: Lane, exchange: Exchange, replica: Replica) -> None:
    """Take note that `replica` died with this request in it. Raises UnprocessableInput on a conviction."""
    death = f"{replica.id} {replica.boot}"
    # A canary that dies of one request alone may die of all of them: that is for the rollout to judge.
    in_trial = exchange.on_trial and (lane.arms is None or replica.revision != lane.arms.canary)
    if lane.book.died(shape(exchange), death, in_trial, time.monotonic()) == "convicted":
        if lane.arms is not None:
            lane.arms.convicted(shape(exchange))
        lane.convicted(exchange, replica.id)
        raise _refusal(lane)


def carry(exchange: Exchange, source: Lane, target: Lane) -> None:
    """Let a request that is suspected in `source` run alone in `target` too. Raises UnprocessableInput if convicted."""
    if is_suspect(source, exchange):
        target.book.died(shape(exchange), f"of {source.route.endpoint}", False, time.monotonic())


def clear(lane: Lane, exchange: Exchange) -> None:
    """Take note that a replica outlived this request."""
    if lane.book:
        lane.book.survived(shape(exchange))
        if lane.arms is not None:
            lane.arms.outlived(shape(exchange))


def _refusal(lane: Lane) -> UnprocessableInput:
    return UnprocessableInput(
        f"this request killed replicas of {lane.route.endpoint} twice, the second time alone; "
        "it and its like are refused for a while"
    )
