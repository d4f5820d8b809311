"""Slow, hostile and merely unusual clients, over raw sockets: bounded time, bounded memory, a clear answer."""

import asyncio
import contextlib
import gc
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.gateway.http.connection import Connection, Limits
from stoker.gateway.http.incoming import HttpRequest, Incoming
from stoker.gateway.http.server import TOLD_PER_ADDRESS_MAX, Server
from stoker.types.errors import StokerError
from tests.gateway import rig as rigs
from tests.gateway.rig import KEY, Client, Rig, chat, client, infer, run

HEAD = f"POST /v2/models/digits/infer HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n".encode()


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("clients")
    with rigs.rig(folder, replicas=1, max_body_bytes=1 << 20) as made:
        yield made


async def raw(rig: Rig, data: bytes) -> bytes:
    """Send `data`, and return all that comes until the other end closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 60)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b"content-length: 1e3\r\n\r\n",
        HEAD + b"content-length: 99999999999999999999999\r\n\r\n",
        HEAD + b"transfer-encoding: gzip\r\n\r\nhello",
        HEAD + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        HEAD + b"content-length : 5\r\n\r\nhello",
        HEAD + b"x: a\r\n folded\r\n\r\n",
        HEAD + b"x: a\x00b\r\n\r\n",
        HEAD + b"host: y\r\n\r\n",
        HEAD + b"authorization: Bearer other\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nhost: x\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        HEAD + b"expect: 200-ok\r\ncontent-length: 3\r\n\r\n",
    ],
)
def test_ambiguous_or_broken_framing_is_refused_and_the_connection_closed(rig: Rig, data: bytes) -> None:
    async def work() -> None:
        answer = await raw(rig, data)
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        assert b"connection: close" in answer
        assert b"x-request-id: " in answer
        assert answer.count(b"content-length: ") == 1, answer

    run(work)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 500 + b"\r\n", 413),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: " + b"y" * (1 << 20) + b"\r\n\r\n", 413),
        (b"GET /" + b"a" * (1 << 18), 413),
        (HEAD + b"content-length: 2000000\r\n\r\n", 413),
        (HEAD + b"expect: 100-continue\r\ncontent-length: 2000000\r\n\r\n", 413),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n" + (b"40000\r\n" + b"x" * 0x40000 + b"\r\n") * 5, 413),
        (b"POST /v2/models/digits/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n", 401),
        (b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n", 404),
    ],
)
def test_what_is_too_large_or_not_allowed_is_refused_before_its_body_is_read(
    rig: Rig, data: bytes, status: int
) -> None:
    async def work() -> None:
        began_s = time.monotonic()
        answer = await raw(rig, data)
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:300]
        assert b"100 Continue" not in answer
        assert time.monotonic() - began_s < 8

    run(work)


def test_a_sender_of_a_refused_body_still_reads_the_refusal(rig: Rig) -> None:
    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(HEAD + b"content-length: 8000000\r\n\r\n")
        for _ in range(80):
            writer.write(b"x" * 100_000)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
        writer.transport.abort()

    run(work)


def test_pipelined_requests_are_answered_in_order_and_a_broken_one_after_the_good(rig: Rig) -> None:
    async def work() -> None:
        requests = [HEAD + b"content-length: 2\r\n\r\n%02d" % number for number in range(40)]
        slow = b"slow:0.2 first"
        data = HEAD + b"content-length: %d\r\n\r\n%b" % (len(slow), slow) + b"".join(requests) + b"BROKEN\r\n\r\n"
        answer = await raw(rig, data)
        assert answer.count(b"HTTP/1.1 200 ") == 41
        assert answer.count(b"HTTP/1.1 400 ") == 1
        bodies = [part.split(b"HTTP/1.1")[0] for part in answer.split(b"\r\n\r\n")[1:]]
        assert bodies[:4] == [slow, b"00", b"01", b"02"]
        assert bodies[40] == b"39"

    run(work)


def test_many_pipelined_requests_in_one_read_do_not_exhaust_the_stack(rig: Rig) -> None:
    async def work() -> None:
        data = b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n" * 3000
        answer = await raw(rig, data + b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert answer.count(b"HTTP/1.1 404 ") == 3000
        assert answer.count(b"HTTP/1.1 200 ") == 1

    run(work)


def test_unusual_but_right_requests_are_served(rig: Rig) -> None:
    async def work() -> None:
        old = await raw(rig, b"GET /healthz HTTP/1.0\r\n\r\n")
        assert old.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in old
        kept = await raw(rig, b"GET /healthz HTTP/1.0\r\nconnection: keep-alive\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n")
        assert kept.count(b"HTTP/1.1 200") == 2
        body = chat("chunks:2", stream=True)
        head = b"POST /v1/chat/completions HTTP/1.0\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n"
        stream = await raw(rig, head % (KEY.encode(), len(body)) + body)
        assert stream.endswith(b"data: [DONE]\n\n")
        assert b"chunked" not in stream
        absolute = await raw(rig, b"GET http://x/healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert absolute.startswith(b"HTTP/1.1 200")
        empty = await raw(rig, b"\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert empty.startswith(b"HTTP/1.1 200")
        chunked = await raw(
            rig,
            HEAD + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nauthorization: Bearer trailer\r\n\r\n",
        )
        assert chunked.endswith(b"\r\n\r\nabcde")
        async with client(rig) as one:
            head_only = await one.request("HEAD", "/healthz")
            assert (head_only.status, head_only.headers["content-length"]) == (200, "15")
            assert (await one.request("GET", "/healthz")).status == 200

    run(work)


def test_expect_continue_gets_its_go_ahead(rig: Rig) -> None:
    async def work() -> None:
        async with client(rig) as one:
            one.writer.write(HEAD + b"expect: 100-continue\r\ncontent-length: 4\r\n\r\n")
            assert await one.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            one.writer.write(b"body")
            assert (await one.answer()).body == b"body"

    run(work)


def test_an_offer_to_upgrade_is_declined_by_serving_the_request(rig: Rig) -> None:
    async def work() -> None:
        offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\n"
        async with client(rig) as one:
            for size in (0, 5, 300_000):
                body = b"z" * size
                one.writer.write(HEAD + offer + b"content-length: %d\r\n\r\n" % size + body)
                answer = await one.answer()
                assert (answer.status, answer.body) == (200, body)

    run(work)


def test_bytes_may_come_one_at_a_time(rig: Rig) -> None:
    async def work() -> None:
        async with client(rig) as one:
            data = HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nq\r\n" * 50 + b"0\r\n\r\n"
            for at in range(len(data)):
                one.writer.write(data[at : at + 1])
                await one.writer.drain()
            assert (await one.answer()).body == b"q" * 50

    run(work)


class Echo:
    """server.Requests that answers each request with the size of its body, or many bytes for GET."""

    wanted: frozenset[bytes] = frozenset()

    def serve(self, connection: Connection, request: HttpRequest) -> None:
        if request.method == b"GET":
            connection.start_stream(b"", b"first")
            while not connection.is_stalled:
                connection.send_piece(b"x" * 60_000)
        else:
            connection.send(200, b"", b"%d" % len(request.body))

    def body_limit(self, request: HttpRequest) -> int:
        return 1 << 30

    def refusal(self, request: HttpRequest | None, problem: StokerError) -> tuple[bytes, bytes]:
        return b"", problem.code.encode()


QUICK = Limits(
    head_s=0.3, idle_s=0.3, body_grace_s=0.3, stall_grace_s=0.3, bytes_per_s=100_000, linger_s=0.2, connections_max=50
)


async def with_server(data: bytes) -> bytes:
    """Return what a server with quick limits answers to `data`, sent with nothing after it."""
    server = Server(Echo(), QUICK, set())
    port = await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), 60)
    finally:
        writer.transport.abort()
        await server.drain(1)
        assert not server.connections


def test_half_a_request_and_an_idle_connection_end_in_time() -> None:
    wanted = {
        b"POST / HTTP/1.1\r\nhost: x\r\nx-half": b"408",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf": b"408",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n" + b"x" * 1000: b"408",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n": b"408",
        b"": b"",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok": b"200",  # then idle
    }

    async def work() -> None:
        answers = await asyncio.gather(*map(with_server, wanted))
        assert {data: answer[9:12] for data, answer in zip(wanted, answers, strict=True)} == wanted

    run(work)


def test_a_stream_that_nobody_reads_is_cut_and_holds_little(rig: Rig) -> None:
    async def work() -> None:
        connections: set[Connection] = set()
        server = Server(Echo(), QUICK, connections)
        port = await server.start("127.0.0.1", 0)
        sleeper = socket.create_connection(("127.0.0.1", port))
        sleeper.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        try:
            while not connections:
                await asyncio.sleep(0.01)
            while connections:  # bounded by run
                await asyncio.sleep(0.01)
        finally:
            sleeper.close()
            await server.drain(1)

    run(work)


def test_a_connection_that_ended_is_gone_at_once_not_when_the_collector_next_runs(rig: Rig) -> None:
    """Old cycles wait for a full collection, which Python makes when there is a quarter more to look through."""

    def alive() -> int:
        return sum(isinstance(each, Connection | Incoming) for each in gc.get_objects())

    async def work() -> None:
        server = Server(Echo(), QUICK, set())
        port = await server.start("127.0.0.1", 0)
        before = alive()
        for end in (b"", b"POST / HTTP/1.1\r\nhost: x\r\nx-half", b"nonsense\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok")
            await reader.readuntil(b"\r\n\r\n2")
            assert alive() == before + 2
            writer.write(end)
            writer.close()
            del reader, writer
            while server.connections:  # bounded by run
                await asyncio.sleep(0.01)
        assert alive() == before
        await server.drain(1)

    gc.collect()
    gc.disable()
    try:
        run(work)
    finally:
        gc.enable()


def test_over_the_maximum_a_connection_is_told_so(rig: Rig) -> None:
    async def work() -> None:
        server = Server(Echo(), Limits(connections_max=3), set())
        port = await server.start("127.0.0.1", 0)
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for reader, writer in held:  # all are accepted
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n0")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        for _, each in [*held, (reader, writer)]:
            each.transport.abort()
        await server.drain(1)

    run(work)


def test_one_address_cannot_take_all_connections(rig: Rig) -> None:
    async def work() -> None:
        server = Server(Echo(), Limits(per_address_max=3), set())
        port = await server.start("127.0.0.1", 0)

        async def connect(source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))

        async def echo(pair: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
            pair[1].write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
            return await pair[0].readuntil(b"\r\n\r\n")

        greedy = [await connect("127.0.0.2") for _ in range(3)]
        for pair in greedy:
            await echo(pair)
        refused = await connect("127.0.0.2")
        assert (await refused[0].read()).startswith(b"HTTP/1.1 429 ")
        other = await connect("127.0.0.3")
        assert (await echo(other)).startswith(b"HTTP/1.1 200 ")
        for pair in (refused, greedy.pop()):
            pair[1].transport.abort()
        while len(server.connections) > 3:  # bounded by run
            await asyncio.sleep(0.01)
        again = await connect("127.0.0.2")
        assert (await echo(again)).startswith(b"HTTP/1.1 200 ")
        for _, writer in [*greedy, other, again]:
            writer.transport.abort()
        await server.drain(1)

    run(work)


def test_one_that_is_refused_again_and_again_is_cut_without_a_word(rig: Rig) -> None:
    async def work() -> None:
        server = Server(Echo(), Limits(per_address_max=3, linger_s=60.0), set())  # none of those told is gone meanwhile
        port = await server.start("127.0.0.1", 0)

        async def told() -> bool:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writers.append(writer)
            with contextlib.suppress(ConnectionError):
                return (await asyncio.wait_for(reader.read(), 60)).startswith(b"HTTP/1.1 429 ")
            return False

        writers: list[asyncio.StreamWriter] = []
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        answers = await asyncio.gather(*(told() for _ in range(200)))
        assert 0 < answers.count(True) <= TOLD_PER_ADDRESS_MAX
        for writer in [*writers, *(pair[1] for pair in held)]:
            writer.transport.abort()
        await server.drain(1)

    run(work)


def test_what_a_compressed_body_becomes_counts_against_the_allowance_for_bodies(rig: Rig) -> None:
    class Inflates(Echo):
        def serve(self, connection: Connection, request: HttpRequest) -> None:
            try:
                connection.hold(100)
            except StokerError as problem:
                connection.send(problem.status, b"", b"")
                return
            if request.path == b"/keep":
                waiting.append(connection)
            else:
                connection.send(200, b"", b"")

    waiting: list[Connection] = []

    async def work() -> None:
        server = Server(Inflates(), Limits(bodies_max_bytes=150), set())
        port = await server.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)

        async def asked(path: bytes) -> bytes:
            other_writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n" % path)
            return (await other_reader.readuntil(b"\r\n\r\n"))[9:12]

        assert await asked(b"/") == b"200"
        writer.write(b"POST /keep HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        while not waiting:  # bounded by run
            await asyncio.sleep(0.01)
        assert await asked(b"/") == b"503"
        waiting[0].send(200, b"", b"")
        await reader.readuntil(b"\r\n\r\n")
        assert await asked(b"/") == b"200"
        for each in (writer, other_writer):
            each.transport.abort()
        await server.drain(1)

    run(work)


def test_bodies_of_refused_requests_are_given_back_at_once(rig: Rig) -> None:
    async def work() -> None:
        def rss() -> int:
            pid = rig.processes["gateway-0"].pid
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096

        text = "refuse:invalid_input" + " " * 1_000_000
        for _ in range(5):
            assert (await infer(rig, text)).status == 400
        before = rss()
        for _ in range(80):
            assert (await infer(rig, text)).status == 400
        assert rss() - before < 40 << 20, "80 bodies of 1 MB were refused, and most are still held"

    run(work)


def test_a_slow_reader_of_a_stream_costs_the_gateway_a_window_and_others_go_on(rig: Rig) -> None:
    async def work() -> None:
        def rss() -> int:
            pid = rig.processes["gateway-0"].pid
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096

        before = rss()
        sleepers: list[Client] = []
        for _ in range(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=1024)
            one = Client(reader, writer)
            one.send("POST", "/v1/chat/completions", chat("chunks:200000", stream=True))
            sleepers.append(one)
        await asyncio.sleep(1)  # they would have sent 130 MB by now
        assert (await infer(rig, "{}")).status == 200
        assert rss() - before < 40 << 20
        for one in sleepers:
            one.close()
        deadline_s = time.monotonic() + 60
        while sum(line == "cancelled" for line in rig.lines("r0")) < 10:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.01)

    run(work)


def test_answers_parse_as_one_message_each(rig: Rig) -> None:
    async def work() -> None:
        async with client(rig) as one:
            for text, size in (("{}", 2), ("big:100000 ", 100_000), ("{}", 2)):
                answer = await one.request("POST", "/v2/models/digits/infer", text.encode())
                assert len(answer.body) == size

    run(work)
