"""Some requests are kept to be looked at: those drawn by their id, and those that failed, were slow or are flagged.

Inside of meter, so that one request is one sample whatever serves it, and around quota and cache, because a refusal and
a kept answer are worth a look too. Here only references are taken; all work is another thread's (gateway/samples.py).
That one failed, was slow or empty is known when its words are gone, so while the hour has room for one that stands out
all answers are listened to: a plain one costs a reference to what is sent anyway, a stream its bytes until it ends, and
of those no more than HEARD_MAX_BYTES together.
"""

import asyncio
import re
import time
from typing import Final

from stoker.core import sampling
from stoker.core.sampling import Sampled
from stoker.gateway.exchange import GONE, Exchange, Handler, Work
from stoker.gateway.layers.cache import Tap
from stoker.gateway.samples import Answer, Sample, Samples
from stoker.types.errors import EngineFailed, StokerError

EMPTY: Final = "empty answer"
FLAG_MAX_BYTES: Final = 64
_HEADER_BYTES: Final = re.compile(rb"inference-header-content-length: (\d+)", re.IGNORECASE)


def sample(samples: Samples, inner: Handler) -> Handler:
    """Offer what `inner` answered to `samples`, where the endpoint keeps some and the key allows it."""

    def handle(exchange: Exchange) -> Work:
        assert exchange.lane is not None
        sampled = exchange.lane.sampled
        if sampled is None or exchange.key is None or not exchange.key.limits.samples:
            return inner(exchange)
        return watched(exchange, sampled)

    async def watched(exchange: Exchange, sampled: Sampled) -> None:
        lane, client = exchange.lane, exchange.connection
        assert lane is not None
        is_drawn = sampling.is_drawn(exchange.id, sampled.rules.rate)
        flag = flag_of(exchange)
        ear, reserved = None, 0
        max_bytes = sampled.rules.max_bytes
        if (is_drawn or flag) and sampled.rules.response:
            ear = exchange.connection = Ear(exchange, max_bytes)
        elif sampled.listens(time.monotonic()) and (not exchange.stream or samples.reserve(max_bytes)):
            reserved = max_bytes if exchange.stream else 0
            ear = exchange.connection = Ear(exchange, max_bytes)
        status, problem = EngineFailed.status, None
        try:
            await inner(exchange)
            status = exchange.status
        except StokerError as told:
            status, problem = told.status, told
            raise
        except asyncio.CancelledError:
            status, problem = (GONE, None) if exchange.cause is None else (exchange.cause.status, exchange.cause)
            raise
        finally:
            exchange.connection = client
            samples.release(reserved)
            took_s = time.monotonic() - exchange.request.started_s
            flag = flag or (EMPTY if is_empty(exchange, status) else "")
            reasons = sampled.reasons(drawn=is_drawn, flagged=bool(flag), status=status, took_s=took_s)
            if reasons and not sampled.takes(reasons, time.monotonic()):
                lane.meters.sample_dropped("hour")
            elif reasons:
                heard = ear.heard if ear is not None else None
                samples.offer(Sample(exchange, sampled.rules, reasons, status, took_s, problem, heard, flag))

    return handle


def flag_of(exchange: Exchange) -> str:
    """Return the word by which the caller wants the request looked at; "" for none."""
    given = exchange.request.headers.get(b"x-stoker-flag", b"")
    return given[:FLAG_MAX_BYTES].decode("latin-1").strip()


def is_empty(exchange: Exchange, status: int) -> bool:
    """Return whether a language model was asked, and said nothing."""
    lane, relay = exchange.lane, exchange.relay
    if lane is None or relay is None or relay.end is None:
        return False  # a kept answer is no news
    was_asked = lane.task == "chat" and status == 200 and exchange.max_tokens != 1
    return was_asked and relay.end.usage.output_tokens <= 1  # the end of an answer counts as a token


class Ear(Tap):
    """A client whose answer is also heard, up to `max_bytes` of it, whether it is a good one or not."""

    __slots__ = ("heard",)

    def __init__(self, exchange: Exchange, max_bytes: int) -> None:
        super().__init__(exchange.connection, max_bytes)
        self.heard = Answer(is_stream=exchange.stream)

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        """See Client."""
        self.heard.is_stream = False
        if found := _HEADER_BYTES.search(headers):
            self.heard.header_bytes = int(found[1])
        super().send(status, headers, body)

    def _take(self, data: bytes) -> None:
        heard = self.heard
        heard.size += len(data)
        if self._left >= len(data):
            self._left -= len(data)
            heard.pieces.append(data)
        else:
            self._left, heard.is_cut = 0, True
