"""Outermost: every exchange ends in exactly one answer, whatever happens inside."""

import asyncio
import logging

from stoker.gateway.exchange import GONE, Exchange, Handler
from stoker.gateway.tracer import Tracer
from stoker.types.errors import EngineFailed, StokerError

_log = logging.getLogger(__name__)


def rescue(tracer: Tracer, inner: Handler) -> Handler:
    """Answer errors in the protocol's shape; a bug is a 500 that tells nothing of its inside. Then the trace ends."""

    async def handle(exchange: Exchange) -> None:
        try:
            await inner(exchange)
        except StokerError as problem:
            exchange.fail(problem)
            # Its frames hold the request's body, and a relay holds it: 200 refused bodies of
            # 1 MB were 205 MB that stayed until the collector ran.
            problem.__traceback__ = problem.__context__ = problem.__cause__ = None
        except asyncio.CancelledError:
            if exchange.cause is None:  # the client went away, or the process ends
                exchange.status = GONE
                exchange.connection.abort()
            else:
                exchange.fail(exchange.cause)
        except Exception as bug:  # the boundary of the process: one request's bug is its own
            _log.exception("a layer failed", extra={**exchange.names(), "method": exchange.method})
            exchange.fail(EngineFailed(f"internal error: {type(bug).__name__}; the log has it under {exchange.id}"))
        finally:
            exchange.record()  # of one that was given up without an answer; the others are written down
            tracer.end(exchange)
            exchange.relay = None  # they know each other: bodies would stay until the collector runs

    return handle
