"""The link between processes: real sockets, both event loops, good peers and bad ones."""

import asyncio
import contextlib
import os
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.protocol import frames, link
from stoker.protocol.frames import EndHead, FrameError, FrameReader, Hello, Kind, RequestHead
from stoker.protocol.link.late import HELD_BYTES_MAX, Late
from stoker.types.errors import Busy, EngineFailed, ReplicaLost, StokerError, TooLarge, all_codes
from stoker.types.replica import ReplicaStats, Usage
from tests.streams import serving

Body = Callable[["Worker", str], Awaitable[None]]


class Worker:
    """A peer that echoes, streams, refuses or stalls, as the method says."""

    body_max_bytes = 4 << 20

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.drained = False
        self.sent = 0
        self.tasks: set[asyncio.Task[None]] = set()

    def hello(self) -> Hello:
        return Hello(wire=frames.WIRE_VERSION, name="worker", kind="replica", pid=os.getpid(), boot="b", state="ready")

    def stats(self) -> ReplicaStats:
        return ReplicaStats(state="ready", finished=7)

    def drain(self) -> None:
        self.drained = True

    def call(self, exchange: link.Exchange) -> None:
        raise link.refuse(exchange.head.method)

    def request(self, exchange: link.Exchange) -> None:
        method = exchange.head.method
        exchange.on_cancel = lambda: self.cancelled.append(method)
        if method == "refuse":
            raise Busy("full", retry_after_s=2.5)
        if method == "break":
            raise ZeroDivisionError("a bug in the handler")
        if method == "echo":
            task = asyncio.get_running_loop().create_task(exchange.finish(EndHead(usage=Usage(rows=1)), exchange.body))
        elif method == "stream":
            task = asyncio.get_running_loop().create_task(self._stream(exchange, int(exchange.body)))
        else:
            return  # stall
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _stream(self, exchange: link.Exchange, count: int) -> None:
        for number in range(count):
            await exchange.send(b"%05d" % number * 1000)
            self.sent += 1
        exchange.end(EndHead(), b"last")


def on_both_loops(tmp_path: Path, body: Body) -> None:
    async def main() -> None:
        worker = Worker()
        address = f"unix:{tmp_path / 'w.sock'}"
        server = await link.serve(address, worker)
        try:
            await asyncio.wait_for(body(worker, address), 50)
        finally:
            await server.close()

    asyncio.run(main())
    uvloop.run(main())


async def connected(address: str) -> link.Link:
    return await link.connect(address, timeout_s=30.0)


async def until(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not claim():
            await asyncio.sleep(0.001)


def head(method: str, body: bytes = b"") -> RequestHead:
    return RequestHead(method=method, body_bytes=len(body))


def test_many_calls_share_one_connection_and_each_gets_its_own_answer(tmp_path: Path) -> None:
    async def body(worker: Worker, address: str) -> None:
        peer = await connected(address)
        sizes = [0, 1, frames.INLINE_MAX, frames.INLINE_MAX + 1, 3 << 20]
        bodies = [bytes([n % 256]) * sizes[n % len(sizes)] for n in range(40)]
        calls = [peer.call(head("echo", data), data) for data in bodies]
        for call, data in zip(calls, bodies, strict=True):
            end, answer = await call.answer()
            assert answer == data
            assert end.usage.rows == 1
        assert peer.in_flight == 0
        peer.close()

    on_both_loops(tmp_path, body)


def test_an_answer_and_a_pong_tell_what_the_process_holds_of_others(tmp_path: Path) -> None:
    async def body(worker: Worker, address: str) -> None:
        one, other = await connected(address), await connected(address)
        held = [other.call(head("stall"), b"") for _ in range(3)]
        own = one.call(head("stall"), b"")
        third = await connected(address)
        await third.call(head("echo")).answer()  # the three are there
        assert (await one.call(head("echo")).answer())[0].others == 3
        assert (await other.call(head("echo")).answer())[0].others == 1
        one.ping()
        await until(lambda: one.stats.others == 3)
        held[0].cancel()
        own.cancel()
        await other.call(head("echo")).answer()
        assert (await one.call(head("echo")).answer())[0].others == 2
        other.close()
        while (await one.call(head("echo")).answer())[0].others:
            await asyncio.sleep(0.001)
        one.close()
        third.close()

    on_both_loops(tmp_path, body)


def test_what_clients_do_past_a_process_is_counted_as_its_own(tmp_path: Path) -> None:
    """Requests of this and other connections, and progress that only grows, over the wrap of its counter too."""

    async def work() -> None:
        server = await link.serve(address := f"unix:{tmp_path / 's'}", Worker())
        one, other = await connected(address), await connected(address)

        async def told(asking: link.Link, running: int, progress: int) -> ReplicaStats:
            before = asking.stats
            asking.ping(passed=(running, progress))
            await until(lambda: asking.stats is not before)
            return asking.stats

        assert (await told(one, 3, frames.COUNTED_TO - 2)).tokens == frames.COUNTED_TO - 2
        heard = await told(other, 0, 0)
        assert (heard.running, heard.others) == (3, 3)
        heard = await told(other, 2, 5)
        assert (heard.running, heard.others, heard.tokens) == (5, 3, frames.COUNTED_TO + 3)
        heard = await told(one, 1, frames.COUNTED_TO + 8)
        assert (heard.running, heard.others, heard.tokens) == (3, 2, frames.COUNTED_TO + 13)
        assert server.passed == 3
        one.close()
        await until(lambda: server.passed == 2)
        heard = await told(other, 0, 9)
        assert (heard.running, heard.others, heard.tokens) == (0, 0, frames.COUNTED_TO + 17)
        other.close()
        await server.close()

    asyncio.run(work())


def test_a_reader_that_stops_reading_stops_the_writer(tmp_path: Path) -> None:
    async def body(worker: Worker, address: str) -> None:
        peer = await connected(address)
        call = peer.call(head("stream", b"2000"), b"2000")
        assert await call.next() == b"00000" * 1000
        other = peer.call(head("echo", b"x"), b"x")  # others on the same connection go on
        assert (await other.answer())[1] == b"x"
        await until(lambda: worker.sent * 5000 > frames.WINDOW_BYTES - 5000)
        assert worker.sent * 5000 <= frames.WINDOW_BYTES
        got = 1
        while type(event := await call.next()) is bytes:
            assert event == b"%05d" % got * 1000
            got += 1
        assert got == 2000
        peer.close()

    on_both_loops(tmp_path, body)


def test_a_cancel_reaches_the_worker_even_when_it_waits_for_credit(tmp_path: Path) -> None:
    async def body(worker: Worker, address: str) -> None:
        peer = await connected(address)
        call = peer.call(head("stream", b"2000"), b"2000")
        await call.next()
        await until(lambda: worker.sent * 5000 > frames.WINDOW_BYTES - 5000)
        call.cancel()
        call.cancel()
        await until(lambda: worker.cancelled == ["stream"])
        await until(lambda: not worker.tasks)
        stalled = peer.call(head("stall"))
        peer.close()
        with pytest.raises(ReplicaLost):
            await stalled.next()
        await until(lambda: worker.cancelled == ["stream", "stall"])

    on_both_loops(tmp_path, body)


def test_errors_cross_the_wire_as_themselves(tmp_path: Path) -> None:
    async def body(worker: Worker, address: str) -> None:
        peer = await connected(address)
        with pytest.raises(Busy, match="full") as caught:
            await peer.call(head("refuse")).answer()
        assert caught.value.retry_after_s == 2.5
        with pytest.raises(StokerError, match="stats"):
            await peer.call(head("stats"), kind=Kind.CALL).answer()
        too_large = b"x" * (worker.body_max_bytes + 1)
        with pytest.raises(TooLarge):
            await peer.call(head("echo", too_large), too_large).answer()
        with pytest.raises(EngineFailed):  # a bug in a handler fails its own request and nothing else
            await peer.call(head("break")).answer()
        assert (await peer.call(head("echo", b"y"), b"y").answer())[1] == b"y"
        peer.ping()
        await until(lambda: peer.stats.finished == 7)
        peer.drain()
        await until(lambda: worker.drained)
        peer.close()

    on_both_loops(tmp_path, body)


def test_nobody_there_is_an_error_in_time(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(ReplicaLost):
            await link.connect(f"unix:{tmp_path / 'none.sock'}")

        gone = asyncio.Event()

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            await writer.wait_closed()
            gone.set()

        async with serving(mute, tmp_path / "mute.sock"):
            with pytest.raises(ReplicaLost, match="HELLO"):
                await link.connect(f"unix:{tmp_path / 'mute.sock'}", timeout_s=0.05)
            await asyncio.wait_for(gone.wait(), 60)

    asyncio.run(main())


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0\0\0\1\2",
        struct.pack(">IBI", 1 << 31, 2, 1),
        struct.pack(">IBI", 5, 2, 1) + b"",
        frames.frame(Kind.REQUEST, 1, b"\xff\xff{}"),
        frames.frame(Kind.REQUEST, 1, b"\0\1\xc1"),
        frames.frame(Kind.HELLO, 0),
        frames.frame(Kind.CREDIT, 1, b"xx"),
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 20,
    ],
)
def test_garbage_closes_only_the_connection_it_came_on(tmp_path: Path, garbage: bytes) -> None:
    async def body(worker: Worker, address: str) -> None:
        peer = await connected(address)
        reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
        stalled = frames.with_head(Kind.REQUEST, 9, head("stall"))
        writer.write(stalled + garbage + b"\0" * 32)
        writer.write_eof()
        await reader.read()  # to the end: the server closed it
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        assert (await peer.call(head("echo", b"z"), b"z").answer())[1] == b"z"
        peer.close()

    on_both_loops(tmp_path, body)


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=8), st.integers(1, 40))
def test_frames_survive_any_cut_of_the_byte_stream(payloads: list[bytes], step: int) -> None:
    wire = b"".join(frames.frame(Kind.DATA, n + 1, payload) for n, payload in enumerate(payloads))
    reader, got = FrameReader(), []
    for at in range(0, len(wire), step):
        got += list(reader.feed(wire[at : at + step]))
    assert got == [(Kind.DATA, n + 1, payload) for n, payload in enumerate(payloads)]


@given(st.binary(max_size=200))
def test_no_bytes_break_the_readers_in_any_other_way_than_frame_error(data: bytes) -> None:
    for read in (frames.read_hello, frames.read_request, frames.read_end, frames.read_error, frames.read_credit):
        try:
            read(data)
        except FrameError:
            continue
    try:
        list(FrameReader().feed(data))
    except FrameError:
        return


def test_every_error_has_its_own_code_and_a_subclass_without_one_takes_nothing() -> None:
    class Special(Busy):
        """An error with the code of its parent."""

    kinds, stack = [], [StokerError]
    while stack:
        kind = stack.pop()
        kinds.append(kind)
        stack.extend(kind.__subclasses__())
    own = [kind for kind in kinds if "code" in vars(kind)]
    assert {kind.code: kind for kind in own} == all_codes()
    assert len({kind.code for kind in own}) == len(own)
    assert all_codes()[Special.code] is Busy


def test_over_a_bad_network_all_arrives_in_its_order_but_late(tmp_path: Path) -> None:
    async def main() -> None:
        address = f"unix:{tmp_path / 'w.sock'}"
        server = await link.serve(address, Worker())
        peer = await connected(address)
        loop = asyncio.get_running_loop()
        server.impair(link.Impairment(0.05, 0.5))
        began_s = loop.time()
        calls = [peer.call(head("stream", b"10"), b"10") for _ in range(5)]
        for call in calls:
            _, told = await call.answer()
            assert told == b"".join(b"%05d" % number * 1000 for number in range(10)) + b"last"
        assert loop.time() - began_s >= 0.1
        last = peer.call(head("stream", b"30"), b"30")
        server.impair(None)  # what is on its way stays in front of what comes after it
        _, told = await last.answer()
        assert told.endswith(b"last")
        assert len(told) == 30 * 5000 + 4
        peer.close()
        await server.close()

    asyncio.run(main())
    uvloop.run(main())


def test_what_a_bad_network_holds_is_bounded_and_still_in_order() -> None:
    async def main() -> None:
        arrived: list[bytes] = []
        line = Late(asyncio.get_running_loop(), arrived.append)
        pieces = [bytes([number]) * (HELD_BYTES_MAX // 4) for number in range(6)]
        for piece in pieces:
            line.carry(piece, link.Impairment(60.0, 0.0))
        assert arrived == pieces[:2]
        line.flush()
        assert arrived == pieces

    asyncio.run(main())
