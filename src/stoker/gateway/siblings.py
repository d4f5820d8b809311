"""What a gateway says to the other gateways of its machine: its numbers when asked, and which shapes kill."""

import asyncio
import logging
from typing import Final

import msgspec

from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import connect
from stoker.telemetry.metrics import Snapshot, decode_snapshot, merge
from stoker.types.errors import StokerError

ASK_TIMEOUT_S: Final = 0.5

_log = logging.getLogger(__name__)


class Conviction(msgspec.Struct, frozen=True):
    """A shape in quarantine (CALL `convict`)."""

    project: str
    endpoint: str
    shape: bytes


class Siblings:
    """The other gateways, by address."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses
        self._tasks: set[asyncio.Task[bytes | None]] = set()

    async def merged(self, own: Snapshot) -> Snapshot:
        """Return `own` and the numbers of all siblings that answer in time, as one."""
        answers = await asyncio.gather(*(self._ask(address, "metrics", b"") for address in self._addresses))
        snapshots = [own]
        for answer in answers:
            if answer is not None:
                try:
                    snapshots.append(decode_snapshot(answer))
                except ValueError:
                    _log.warning("a sibling's numbers cannot be read")
        return merge(snapshots)

    def convict(self, conviction: Conviction) -> None:
        """Tell the others, without waiting."""
        body = msgspec.msgpack.encode(conviction)
        for address in self._addresses:
            task = asyncio.get_running_loop().create_task(self._ask(address, "convict", body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self, address: str, method: str, body: bytes) -> bytes | None:
        link = None
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                link = await connect(address)
                call = link.call(RequestHead(method=method, body_bytes=len(body)), body, kind=Kind.CALL)
                return (await call.answer())[1]
        except (StokerError, TimeoutError):
            return None  # it is starting, or gone; the next question finds it
        finally:
            if link is not None:
                link.close()
