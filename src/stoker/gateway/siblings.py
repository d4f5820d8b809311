"""What a gateway says to the other gateways of its machine: its numbers, which shapes kill, how it stands."""

import asyncio
import logging
from typing import Final

import msgspec

from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import Link, connect
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
        self._links: dict[str, Link] = {}  # kept while there is much to tell

    def __bool__(self) -> bool:
        return bool(self._addresses)

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

    async def tell(self, body: bytes) -> list[bytes]:
        """Tell the others how endpoints stand here (telling.py); return the answers that came in time."""
        answers = await asyncio.gather(*(self._tell(address, body) for address in self._addresses))
        return [answer for answer in answers if answer is not None]

    def hang_up(self) -> None:
        """Close the connections that were kept: there is nothing to tell for now."""
        links, self._links = self._links, {}
        for link in links.values():
            link.close()

    async def _tell(self, address: str, body: bytes) -> bytes | None:
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                link = self._links.get(address)
                if link is None or not link.is_open:
                    link = self._links[address] = await connect(address)
                call = link.call(RequestHead(method="standing", body_bytes=len(body)), body, kind=Kind.CALL)
                return (await call.answer())[1]
        except (StokerError, TimeoutError):
            link = self._links.pop(address, None)  # with its questions that nobody answered
            if link is not None:
                link.close()
            return None

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
