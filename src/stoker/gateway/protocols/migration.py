"""A stream whose replica went away goes on in another one. The rules are in core/failover.py; this applies them.

What the client was sent is kept while it streams (protocol/openai_resume.py) and read only now. The next try is sent
the same request and, behind its body, what the client has; its events follow in the same answer. Whatever goes wrong
with the next try, the client is told why its stream was cut.
"""

import logging
import time

from stoker.core import failover
from stoker.core.retry import TRIES_MAX
from stoker.gateway.exchange import Exchange
from stoker.protocol.openai import ChatRequest, CompletionRequest
from stoker.protocol.openai_reply import DONE
from stoker.protocol.openai_resume import Told, Transcript, asked
from stoker.types.errors import DeadlineExceeded, StokerError
from stoker.types.resources import ResumeMode

_log = logging.getLogger(__name__)


def transcript(request: ChatRequest | CompletionRequest, mode: ResumeMode) -> Transcript | None:
    """Return what keeps the answer to a streamed request; None when it could not go on elsewhere anyway."""
    return Transcript() if not failover.obstacle(asked(request), mode) else None


def begin(exchange: Exchange, cut: StokerError) -> bool:
    """Prepare the next try of a stream that `cut` ended; False when there is nothing left to try, and it is ended.

    Raises what the client is told when its stream cannot go on.
    """
    lane = exchange.lane
    assert lane is not None
    told = exchange.transcript.read() if exchange.transcript is not None else None
    if exchange.cut is not None:
        return _again(exchange, told)
    if told is None or (told.is_finished and told.wants_usage):  # nobody knows the usage any more
        lane.meters.migration(cut.code, "declined")
        raise cut
    exchange.cut = cut
    if told.is_finished:
        exchange.end(DONE)
        return False
    exchange.resume = told.resume()
    exchange.is_proven = failover.is_proven(time.monotonic() - exchange.first_byte_s)
    return True


def _again(exchange: Exchange, told: Told | None) -> bool:
    """Let a continuation that gave nothing yet be tried once more, as a suspect. A second cut is the end."""
    assert exchange.cut is not None
    if told is None or exchange.tries >= TRIES_MAX or told.resume() != exchange.resume:
        raise exchange.cut
    exchange.is_proven = False
    return True


def reason(exchange: Exchange, problem: StokerError) -> StokerError:
    """Return what a client is told of `problem`: of a continuation that failed, why there had to be one."""
    if exchange.cut is None or isinstance(problem, DeadlineExceeded):
        return problem
    _log.warning(
        "a stream that was cut did not go on",
        extra={**exchange.names(), "code": problem.code, "reason": problem.message},
    )
    return exchange.cut
