"""The traces that gateways keep, asked of each over its own socket: for who looks, and for who they are sent to."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import connect
from stoker.telemetry.metrics import Registry
from stoker.types.errors import ReplicaLost, StokerError
from stoker.types.traces import Trace, TraceAnswer, TraceQuestion

ASK_TIMEOUT_S: Final = 2.0
BATCH_MAX: Final = 250  # traces of one gateway that leave at once

_log = logging.getLogger(__name__)
_decode: Final = msgspec.msgpack.Decoder(TraceAnswer).decode


class Traces:
    """Asks the gateways. One that does not answer is left out."""

    def __init__(self, address: Callable[[str], str], gateways: int, registry: Registry) -> None:
        self._names = {name: address(name) for name in (f"gateway-{index}" for index in range(gateways))}
        self._registry = registry
        self._next: dict[str, tuple[str, int]] = {}  # boot and place of what was taken last, of each gateway

    async def find(self, question: TraceQuestion) -> list[Trace]:
        """Return the newest that match, newest first, of all gateways together."""
        answers = await asyncio.gather(*(self._ask(name, question) for name in self._names))
        found = [trace for answer in answers if answer is not None for trace in answer.items]
        return sorted(found, key=lambda trace: -trace.began_at_s)[: question.limit]

    async def take(self) -> list[Trace]:
        """Return what came since the last call, at most BATCH_MAX of each gateway. What was missed is counted."""
        taken = await asyncio.gather(*(self._take(name) for name in self._names))
        return [trace for traces in taken for trace in traces]

    async def _take(self, name: str) -> list[Trace]:
        boot, after = self._next.get(name, ("", 0))
        answer = await self._ask(name, TraceQuestion(boot=boot, after=after, limit=BATCH_MAX))
        if answer is None:
            return []
        self._next[name] = (answer.boot, answer.next)
        if answer.missed and boot == answer.boot:
            self._registry.counter("stoker_traces_missed_total").add(answer.missed)
        return answer.items

    async def _ask(self, name: str, question: TraceQuestion) -> TraceAnswer | None:
        body = msgspec.msgpack.encode(question)
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                link = await connect(self._names[name], timeout_s=ASK_TIMEOUT_S)
                try:
                    head = RequestHead(method="traces", body_bytes=len(body))
                    _, answer = await link.call(head, body, kind=Kind.CALL).answer()
                finally:
                    link.close()
            return _decode(answer)
        except (ReplicaLost, TimeoutError):
            return None  # it starts, or is gone
        except (StokerError, msgspec.DecodeError) as odd:
            _log.warning("the traces of a process could not be read", extra={"worker": name, "reason": str(odd)})
            return None
