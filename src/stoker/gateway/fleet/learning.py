"""What an answer teaches of the replica it came from: what a unit of its work took, or that it failed.

Of a predictive request the unit is the request. Of a language model's it is a token written (core/sizes.py says what a
token read counts), so that neither long prompts nor long answers make a replica look slow. The first piece of a stream
tells early what the prompt took: an answer may take minutes.
"""

import time

from stoker.core import sizes
from stoker.gateway.exchange import Exchange
from stoker.gateway.fleet.replica import Replica
from stoker.types.errors import Busy, DeadlineExceeded, Draining, ReplicaLost, StokerError, Unsupported


def first_piece(exchange: Exchange, replica: Replica, now_s: float) -> None:
    """Learn from the time to the first piece of a stream. As if nothing of the prompt was cached: the end knows."""
    wish = exchange.wish
    if wish is not None:
        units = sizes.units(wish.prompt_bytes / sizes.CHARS_PER_TOKEN, 0.0)
        replica.answered((now_s - exchange.sent_s) / units, exchange.sent_s, now_s)


def ended(exchange: Exchange, replica: Replica, now_s: float) -> None:
    """Learn from a good end."""
    usage = exchange.usage
    took_s = now_s - exchange.sent_s
    if usage.output_tokens:
        took_s /= sizes.units(usage.input_tokens - usage.cached_tokens, usage.output_tokens)
        if exchange.wish is not None and exchange.lane is not None:
            exchange.lane.choice.ended(exchange, usage)
    replica.answered(took_s, exchange.sent_s, now_s)


def failed(exchange: Exchange, replica: Replica, problem: StokerError) -> None:
    """Learn from a failure, unless it says nothing of the replica: a deadline, a feature it lacks, a drain."""
    if isinstance(problem, Busy):
        replica.refused(problem, exchange.sent_s, time.monotonic(), is_first=exchange.tries == 0)
    if problem.status < 500 or isinstance(problem, (DeadlineExceeded, Draining, ReplicaLost, Unsupported)):
        return
    replica.failed(exchange.sent_s, time.monotonic())
