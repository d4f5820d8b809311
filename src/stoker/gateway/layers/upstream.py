"""The call itself: one request to the replica whose place is held, or to its server, its answer relayed. Innermost."""

import asyncio
import time
from typing import Final

from stoker.gateway.arms import Arms
from stoker.gateway.exchange import GONE, Exchange, TryFailed
from stoker.gateway.fleet import learning, suspicion
from stoker.gateway.fleet.replica import Replica
from stoker.gateway.relay import Relay
from stoker.gateway.remote.request import is_plain
from stoker.protocol import tracecontext
from stoker.protocol.frames import RequestHead
from stoker.protocol.link import Link, Sender
from stoker.types.errors import Busy, Draining, EngineFailed, ReplicaLost, Unavailable
from stoker.types.feedback import SEGMENT_MAX

# What a replica is not given of the time left: its answer has to get from there to the client. Without it one in ten
# good answers at three times the capacity came up to 6 ms after its deadline.
WAY_S: Final = 0.006
WAY_RATIO: Final = 0.1  # of short deadlines


async def upstream(exchange: Exchange) -> None:
    """Send, and wait until the answer has ended. Raises TryFailed, or the replica's own error."""
    replica, lane = exchange.replica, exchange.lane
    assert replica is not None
    assert lane is not None
    link = replica.link
    if link is None or not link.is_open:
        raise TryFailed(ReplicaLost("the connection to the replica is down"), replica, was_death=False)
    began_s = time.monotonic()
    arms = rollout = lane.arms  # of now: it may have ended when the answer is here
    if arms is not None and not arms.counts_try(exchange):
        arms = None
    relay = send(exchange, replica, _way(exchange, replica, link), began_s)
    try:
        await relay.done
    except asyncio.CancelledError:
        relay.cancel()
        now_s = time.monotonic()
        replica.meters.ended(GONE, now_s - began_s)
        if arms is not None and arms is lane.arms:
            arms.gone(exchange, replica, now_s)
        raise
    problem, now_s = relay.problem, time.monotonic()
    replica.meters.ended(200 if problem is None else problem.status, now_s - began_s)
    if arms is not None and arms is lane.arms:  # else another rollout, or none, runs by now
        _count(arms, exchange, relay, now_s)
    if problem is None:
        assert relay.end is not None
        lane.finished(exchange, relay.end, now_s - began_s)
        if not exchange.resume:  # its usage is of two replicas
            learning.ended(exchange, replica, now_s)
        return
    if isinstance(problem, Draining):
        replica.drains()
    learning.failed(exchange, replica, problem)
    if isinstance(problem, (Unavailable, Busy)) or (
        type(problem) is EngineFailed and (replica.is_ejected or _is_better_elsewhere(exchange, replica, rollout))
    ):
        raise TryFailed(problem, replica, was_death=relay.was_death)
    raise problem


def _count(arms: Arms, exchange: Exchange, relay: Relay, now_s: float) -> None:
    """Count the try for its arm. Where a hedge answered for it, it was the same arm's (hedge.py)."""
    if relay.problem is None:
        assert relay.end is not None
        arms.answered(exchange, relay.replica, relay.end, now_s)
    elif relay.was_death:
        arms.died(exchange, relay.replica, suspicion.shape(exchange), now_s)
    else:
        arms.failed(exchange, relay.replica, relay.problem, now_s)


def _is_better_elsewhere(exchange: Exchange, replica: Replica, rollout: Arms | None) -> bool:
    """Return whether an error of the engine is the canary's, and the baseline can answer instead of it.

    `rollout` is the one under which the try began: an error of the canary may be what ended it.
    """
    lane = exchange.lane
    return (
        rollout is not None
        and lane is not None
        and replica.revision == rollout.canary
        and not (exchange.is_started or exchange.version)
        and lane.choice.has_able(rollout.baseline)
    )


def _way(exchange: Exchange, replica: Replica, link: Link) -> Sender:
    """Return what the try goes through: the server behind the replica where that can be asked itself, else the replica.

    A suspect runs alone, and what goes on elsewhere is refused, in the replica.
    """
    remote = replica.remote
    if remote is None or exchange.on_trial or exchange.resume or not is_plain(exchange.method, exchange.body):
        return link
    exchange.transcript = None  # no other server can go on with it
    return remote


def send(exchange: Exchange, replica: Replica, link: Sender, now_s: float) -> Relay:
    """Send one try to `replica`; return what takes its answer."""
    exchange.sent_s = now_s
    exchange.sends += 1
    body = exchange.body + exchange.resume if exchange.resume else exchange.body
    head = RequestHead(
        method=exchange.method,
        request=exchange.id,
        body_bytes=len(body),
        timeout_s=_inner_s(exchange.deadline_s - now_s),
        header_bytes=exchange.header_bytes,
        alone=exchange.on_trial,
        resume_bytes=len(exchange.resume),
        trace=tracecontext.write(exchange.trace, exchange.span + exchange.sends, is_sampled=exchange.is_sampled),
        trace_state=exchange.caller.state if exchange.caller is not None else "",
        segment=exchange.request.headers.get(b"x-stoker-segment", b"")[:SEGMENT_MAX].decode("latin-1"),
        tenant=exchange.key.limits.tenant or exchange.key.key if exchange.key is not None else "",
        turn=exchange.turn,
    )
    return Relay(exchange, replica, link, head, body)


def _inner_s(left_s: float) -> float:
    """Return what a replica may take when `left_s` are left to the request."""
    return max(left_s - min(WAY_S, WAY_RATIO * left_s), 0.001)
