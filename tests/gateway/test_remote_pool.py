"""How this gateway speaks to a server: what it sends, what it makes of every answer, what becomes of connections."""

import asyncio
import json
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stoker.gateway.remote.pool import CONNECT_TIMEOUT_S, IDLE_S, Pool
from stoker.protocol.direct import Direct
from stoker.protocol.frames import WINDOW_BYTES, EndHead, RequestHead
from stoker.types.errors import (
    Busy,
    DeadlineExceeded,
    EngineFailed,
    InvalidInput,
    NotReachable,
    StokerError,
    Unavailable,
)
from stoker.types.replica import Usage
from tests.engines_llm.upstream import Upstream
from tests.gateway.certificates import self_signed, signed
from tests.gateway.raw_server import EVENTS, WHOLE, RawServer, answer

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter, int]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


class Reader:
    """A link.Receiver that keeps everything."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.end: EndHead | None = None
        self.problem: StokerError | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stream = 0

    def push(self, event: bytes | tuple[EndHead, bytes]) -> None:
        assert not self.done.done(), "it had ended"
        if isinstance(event, bytes):
            self.pieces.append(event)
        else:
            self.end = event[0]
            self.pieces.append(event[1])
            self.done.set_result(None)

    def fail(self, problem: StokerError) -> None:
        assert not self.done.done(), "it had ended"
        self.problem = problem
        self.done.set_result(None)

    @property
    def told(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def text(self) -> str:
        """What the events or the whole answer say."""
        if not self.told.startswith(b"data: "):
            return str(json.loads(self.told)["choices"][0]["message"]["content"])
        lines = [line[6:] for line in self.told.split(b"\n\n") if line]
        assert lines.pop() == b"[DONE]"
        choices = [choice for line in lines for choice in json.loads(line)["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "smol", "messages": [{"role": "user", "content": "Hi"}], **fields}).encode()


@asynccontextmanager
async def pool(
    url: str, model: str = "m", *, connect_timeout_s: float = CONNECT_TIMEOUT_S, idle_s: float = IDLE_S, **more: Any
) -> AsyncIterator[Pool]:
    direct = Direct(url, model, **more)
    loop = asyncio.get_running_loop()
    made = Pool(direct, loop, lambda: None, connect_timeout_s=connect_timeout_s, idle_s=idle_s)
    yield made
    made.close()
    await until(lambda: made.connections == 0)


async def until(claim: Callable[[], object], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not claim():
            await asyncio.sleep(0.002)


def send(made: Pool, asked: bytes, method: str = "chat") -> Reader:
    reader = Reader()
    reader.stream = made.send(reader, RequestHead(method, "r1"), asked)
    return reader


async def ask(made: Pool, method: str = "chat", **fields: Any) -> Reader:
    reader = send(made, body(**fields), method)
    async with asyncio.timeout(90):
        await reader.done
    return reader


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(100):
            await work()

    asyncio.run(bounded())


# ---- what servers send, as the `openai` engine's tests have it


@pytest.mark.parametrize(
    "model",
    ["plain", "crlf", "cr", "no space", "comments", "events", "split data", "no last blank line", "byte by byte"],
)
def test_a_stream_is_read_however_its_server_writes_it(upstream: Upstream, model: str) -> None:
    async def work() -> None:
        async with pool(upstream.url, model) as made:
            got = await ask(made, stream=True)
            assert got.problem is None
            assert got.text == "Hello"
            assert got.end is not None
            assert got.end.usage.output_tokens == 2
            if model == "plain":
                assert got.end.usage == Usage(5, 2, 3)

    run(work)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("model", "kind", "words"),
    [
        ("error event", EngineFailed, "out of memory"),
        ("cut", EngineFailed, "in the middle"),
        ("empty", EngineFailed, "in the middle|without choices"),
        ("only done", EngineFailed, "in the middle"),
        ("garbage", EngineFailed, "cannot be read"),
        ("prose", EngineFailed, "cannot be read"),
        ("wrong index", EngineFailed, "choice 7"),
        ("not a stream", EngineFailed, "did not stream|without choices"),
        ("endless line", EngineFailed, "over 4194304 bytes"),
        ("endless", EngineFailed, "over 67108864 bytes"),
        ("reset", EngineFailed, "broke"),
        ("429", Busy, "slow down"),
        ("429 date", Busy, "429"),
        ("400", InvalidInput, "too many tokens"),
        ("400 text", InvalidInput, r"what\?"),
        ("401", EngineFailed, r"bad key.*api_key"),
        ("404", InvalidInput, "no such model"),
        ("500", EngineFailed, "oops"),
        ("503", Unavailable, "warming up"),
        ("302", EngineFailed, "302"),
    ],
)
def test_a_failure_is_ours_in_the_servers_words(
    upstream: Upstream, model: str, kind: type[StokerError], words: str, stream: bool
) -> None:
    streamed = ("cut", "only done", "wrong index", "endless line", "reset")
    if (not stream and model in streamed) or (stream and model in ("endless", "prose")):
        pytest.skip("of the other form")

    async def work() -> None:
        async with pool(upstream.url, model, authorization="Bearer sk-secret") as made:
            got = await ask(made, stream=stream)
            assert type(got.problem) is kind, got.problem
            with pytest.raises(kind, match=words):
                raise got.problem
            assert "sk-" not in got.problem.message
            if kind in (Busy, Unavailable):
                assert got.problem.retry_after_s == {"429": 7.0, "429 date": 120.0, "503": 3.5}[model]
            assert got.told == b"" or model in ("error event", "cut", "reset")

    run(work)


@pytest.mark.parametrize("model", ["plain", "crlf", "comments"])
def test_a_whole_answer_is_the_servers_but_for_the_models_name(upstream: Upstream, model: str) -> None:
    async def work() -> None:
        async with pool(upstream.url, model) as made:
            got = await ask(made)
            assert got.text == "Hello"
            assert json.loads(got.told)["model"] == "smol"
            assert got.end is not None
            assert got.end.content_type == "application/json"
            assert got.end.usage == (Usage(5, 2, 3) if model == "plain" else Usage(output_tokens=11))
            if model == "comments":
                assert json.loads(got.told)["echo"] == {"model": "comments"}

    run(work)


def test_the_request_is_the_clients_own_but_for_the_model_and_the_usage(upstream: Upstream) -> None:
    async def work() -> None:
        tool = {"type": "function", "function": {"name": "f", "parameters": {"default": None}}}
        async with pool(upstream.url, "plain", authorization="Bearer sk-upstream") as made:
            await ask(made, stream=True, tools=[tool], temperature=None, new_field={"a": [1e3]})
            assert upstream.seen[-1] == {
                **json.loads(body()),
                "model": "plain",
                "stream": True,
                "stream_options": {"include_usage": True},
                "tools": [tool],
                "new_field": {"a": [1e3]},
            }
            assert upstream.headers[-1]["Authorization"] == "Bearer sk-upstream"
            await ask(made, stream=True, stream_options={"include_usage": False, "continuous_usage_stats": True})
            assert upstream.seen[-1]["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
            await ask(made, stream=False, stream_options={"include_usage": True})
            assert "stream_options" not in upstream.seen[-1]
            got = await ask(made, "completions", prompt=["a"], stream=True)
            assert upstream.seen[-1]["prompt"] == ["a"]
            assert got.text == "Hello"

    run(work)


def test_characters_cut_in_two_are_joined_again(upstream: Upstream) -> None:
    async def work() -> None:
        for model, text in (("halves", "😀!"), ("lone half", "a\ufffdb")):
            async with pool(upstream.url, model) as made:
                assert (await ask(made, stream=True)).text == text

    run(work)


# ---- time, room, and who leaves


def test_a_server_that_falls_silent_is_given_up(upstream: Upstream) -> None:
    async def work() -> None:
        for stream in (True, False):
            async with pool(upstream.url, "silent", timeout_s=0.1) as made:
                got = await ask(made, stream=stream)
                assert type(got.problem) is DeadlineExceeded
        await until(lambda: upstream.open_streams == 0)

    run(work)


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_closes_the_connection(upstream: Upstream, stream: bool) -> None:
    async def work() -> None:
        async with pool(upstream.url, "silent") as made:
            readers = [send(made, body(stream=stream)) for _ in range(3)]
            await until(lambda: upstream.open_streams == 3)
            for reader in readers:
                made.forget(reader.stream)
            await until(lambda: upstream.open_streams == 0)
            assert not any(reader.done.done() for reader in readers)

    run(work)


def test_a_slow_reader_holds_the_server_back(upstream: Upstream) -> None:
    """What waits for a reader without credit is the window and what one read brings, however much there is."""

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await server.request(_reader, _number)
        writer.write(STREAM_HEAD + b"\r\n")
        event = b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n' % (b"x" * 1000)
        for _ in range(16):
            writer.write(event * 1000)
            await writer.drain()
        writer.write(EVENTS)

    async def work() -> None:
        async with pool(server.url) as made:
            reader = send(made, body(stream=True))
            await until(lambda: len(reader.told) >= WINDOW_BYTES)
            for _ in range(20):
                await asyncio.sleep(0.005)  # whatever would still come does
            held = len(reader.told)
            assert held < WINDOW_BYTES + (1 << 20)
            while not reader.done.done():
                made.credit(reader.stream, WINDOW_BYTES)
                await asyncio.sleep(0.001)
            assert reader.problem is None
            assert reader.text == "x" * 16_000_000 + "Hello"

    with RawServer(flood) as server:
        run(work)


# ---- HTTP as it may be


def test_answers_of_every_framing_are_read() -> None:
    pieces = [EVENTS[at : at + 40] for at in range(0, len(EVENTS), 40)]
    chunked = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nTrailer: x\r\n\r\n"
    forms = [
        STREAM_HEAD + b"Content-Length: %d\r\n\r\n" % len(EVENTS) + EVENTS,
        STREAM_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked,
        STREAM_HEAD + b"Connection: close\r\n\r\n" + EVENTS,
        STREAM_HEAD + b"\r\n" + EVENTS,
        b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + EVENTS,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + STREAM_HEAD + b"\r\n" + EVENTS,
    ]

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await server.request(reader, number)
        form = forms[len(server.requests) - 1]
        for at in range(0, len(form), 7 if len(server.requests) % 2 else len(form)):
            writer.write(form[at : at + (7 if len(server.requests) % 2 else len(form))])
            await writer.drain()

    async def work() -> None:
        for _ in forms:
            async with pool(server.url) as made:
                got = await ask(made, stream=True)
                assert got.problem is None
                assert got.text == "Hello"

    with RawServer(script) as server:
        run(work)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "broke"),
        (b"SSH-2.0-OpenSSH\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "changed the protocol"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "head of over"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 4_000, "head of over"),
        (STREAM_HEAD + b"Content-Encoding: gzip\r\n\r\nabc", "in gzip"),
        (STREAM_HEAD + b"Content-Length: 500\r\n\r\n" + EVENTS[:100], "broke"),
        (STREAM_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 200_000, "answered 500: xxx"),
    ],
)
def test_what_is_no_answer_is_an_error(sent: bytes, words: str) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await server.request(reader, number)
        writer.write(sent)

    async def work() -> None:
        async with pool(server.url) as made:
            got = await ask(made, stream=True)
            assert type(got.problem) is EngineFailed
            assert words in got.problem.message
            assert server.connections == 1

    with RawServer(script) as server:
        run(work)


def test_an_answer_may_come_before_the_request_was_read() -> None:
    """The server refuses a body it has not read; the connection is not used again."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await writer.drain()
        await reader.read(-1)

    async def work() -> None:
        async with pool(server.url) as made:
            for _ in range(2):
                got = await ask(made, padding="x" * 30_000_000)
                assert type(got.problem) is InvalidInput
        assert server.connections == 2

    with RawServer(script) as server:
        run(work)


# ---- connections


def test_connections_are_kept_and_used_again() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while True:
            await server.request(reader, number)
            writer.write(answer())

    async def work() -> None:
        async with pool(server.url) as made:
            for _ in range(5):
                assert (await ask(made)).text == "Hello"
            assert server.connections == 1
            await asyncio.gather(*(ask(made) for _ in range(3)))
            assert server.connections == 3

    with RawServer(script) as server:
        run(work)


def test_a_connection_that_ended_while_it_was_idle_fails_nobody() -> None:
    """It ends after each answer; half the time the next request is there already."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await server.request(reader, number)
        writer.write(answer())
        await writer.drain()
        if number % 2:
            await reader.read(1)  # of the next request

    async def work() -> None:
        async with pool(server.url) as made:
            for _ in range(20):
                got = await ask(made)
                assert got.problem is None
                assert got.text == "Hello"

    with RawServer(script) as server:
        run(work)


@pytest.mark.parametrize("first", [b"", b"HTTP"])
def test_a_request_is_sent_twice_at_most_and_never_after_a_byte_of_its_answer(first: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await server.request(reader, number)
        if number == 0:
            writer.write(answer())
            await server.request(reader, number)
            writer.write(first)

    async def work() -> None:
        async with pool(server.url) as made:
            await ask(made)
            got = await ask(made)
            assert type(got.problem) is EngineFailed
            assert len(server.requests) == (2 if first else 3)

    with RawServer(script) as server:
        run(work)


def test_what_an_answer_has_after_its_end_is_never_the_next_ones() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await server.request(reader, number)
        writer.write(answer() + answer(WHOLE.replace(b"Hello", b"stolen")))
        await server.request(reader, number)

    async def work() -> None:
        async with pool(server.url) as made:
            for _ in range(3):
                assert (await ask(made)).text == "Hello"
            assert server.connections == 3

    with RawServer(script) as server:
        run(work)


def test_idle_connections_are_closed() -> None:
    gone = threading.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await server.request(reader, number)
        writer.write(STREAM_HEAD + b"Content-Length: %d\r\n\r\n" % len(EVENTS) + EVENTS)
        await reader.read(1)
        gone.set()

    async def work() -> None:
        async with pool(server.url, idle_s=0.1) as made:
            await ask(made, stream=True)
            await until(gone.is_set)

    with RawServer(script) as server:
        run(work)


def test_a_server_that_is_not_there_is_told_from_one_that_fails() -> None:
    async def work() -> None:
        for url in ("http://127.0.0.1:9/v1", "http://no.such.host.invalid/v1", "http://a..b/v1"):
            async with pool(url) as made:
                got = await ask(made)
                assert type(got.problem) is NotReachable, url

    run(work)


def test_a_server_that_is_severed_is_out_of_reach_and_in_reach_again(upstream: Upstream) -> None:
    async def work() -> None:
        async with pool(upstream.url, "plain") as good, pool(upstream.url, "silent") as silent:
            assert (await ask(good)).text == "Hello"
            waiting = send(silent, body(stream=True))
            await until(lambda: upstream.open_streams == 1)
            for made in (good, silent):
                made.sever(is_severed=True)
            await waiting.done
            assert isinstance(waiting.problem, NotReachable)
            await until(lambda: upstream.open_streams == 0)
            refused = await ask(good)
            assert isinstance(refused.problem, NotReachable)
            assert "on purpose" in refused.problem.message
            good.sever(is_severed=False)
            assert (await ask(good)).text == "Hello"

    run(work)


def test_a_server_that_does_not_accept_is_given_up_in_time() -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await reader.read(-1)

    async def work() -> None:
        url = server.url.replace("http:", "https:")  # its handshake is not answered
        async with pool(url, connect_timeout_s=0.1) as made:
            got = await ask(made)
            assert type(got.problem) is NotReachable
            assert "in 0 s" in got.problem.message

    with RawServer(stall) as server:
        run(work)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("ftp://a/v1", ""),
        ("http://", ""),
        ("http://a/v1?x=1", ""),
        ("http://a/v1\r\nX: y", ""),
        ("http://a/v 1", ""),
        ("http://a/v1", "Bearer a\r\nX: y"),
    ],
)
def test_what_no_request_line_or_header_may_have_is_refused(url: str, key: str) -> None:
    async def work() -> None:
        with pytest.raises(ValueError, match="URL"):
            Pool(Direct(url, "m", key), asyncio.get_running_loop(), lambda: None)

    run(work)


def test_the_certificate_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown authority's server gets nothing; one that SSL_CERT_FILE names is trusted, for its own name only."""
    authority = self_signed(tmp_path, "authority")
    other = signed(tmp_path, "elsewhere", authority)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await server.request(reader, number)
        writer.write(answer())

    async def work(*, is_trusted: bool) -> None:
        async with pool(f"https://localhost:{server.port}/v1", authorization="Bearer sk-x") as made:
            got = await ask(made)
            assert type(got.problem) is (type(None) if is_trusted else NotReachable)
            assert bool(server.requests) == is_trusted

    for pair, is_known, is_trusted in ((authority, False, False), (other, True, False), (authority, True, True)):
        if is_known:
            monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*pair)
        with RawServer(script, context) as server:
            run(partial(work, is_trusted=is_trusted))
