"""Asks replicas over their own sockets what they counted, and gives the reference to those that do not have it."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import Link, connect
from stoker.types.drift import Answer, Question, Reference
from stoker.types.errors import ReplicaLost, StokerError

TIMEOUT_S: Final = 5.0
AT_ONCE: Final = 16

log = logging.getLogger(__name__)


class Asking:
    """Asks at most AT_ONCE replicas at once."""

    def __init__(self, address: Callable[[str], str]) -> None:
        self._address = address
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def ask_all(
        self, replicas: Iterable[str], question: Question, reference: Reference | None
    ) -> dict[str, Answer]:
        """Return the answers by replica; one that starts, is gone or answers nonsense is not among them."""
        names = list(replicas)
        answers = await asyncio.gather(*(self._ask(name, question, reference) for name in names))
        return {name: one for name, one in zip(names, answers, strict=True) if one is not None}

    async def _ask(self, replica: str, question: Question, reference: Reference | None) -> Answer | None:
        try:
            async with self._slots, asyncio.timeout(TIMEOUT_S):
                link = await connect(self._address(replica), timeout_s=TIMEOUT_S)
                try:
                    answer = await _asked(link, question)
                    if answer.counts is None and reference is not None and not answer.problem:
                        again = msgspec.structs.replace(question, body=_slim(reference), take=False)
                        counts = await _asked(link, again)
                        answer = msgspec.structs.replace(answer, counts=counts.counts, problem=counts.problem)
                finally:
                    link.close()
        except (ReplicaLost, TimeoutError):
            return None
        except (StokerError, ValueError) as odd:  # msgspec's errors are ValueErrors
            log.warning("a replica's counts could not be read", extra={"replica": replica, "reason": str(odd)})
            return None
        return answer


def _slim(reference: Reference) -> Reference:
    """Return what a replica needs to count: how vectors are projected, and not those of the reference."""
    features = tuple(msgspec.structs.replace(one, nulls=msgspec.UNSET) for one in reference.features)
    spaces = tuple(msgspec.structs.replace(one, sample=b"") for one in reference.spaces)
    return msgspec.structs.replace(reference, features=features, spaces=spaces)


async def _asked(link: Link, question: Question) -> Answer:
    body = msgspec.msgpack.encode(question)
    head = RequestHead(method="drift", body_bytes=len(body))
    _, answer = await link.call(head, body, kind=Kind.CALL).answer()
    return msgspec.msgpack.decode(answer, type=Answer)
