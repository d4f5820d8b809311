"""The control API's connections: heads that stay half, and what never ends."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn

from stoker.app.bounded_http import BoundedHttp
from stoker.app.control_main import ApiServer

HEAD = b"POST / HTTP/1.1\r\nhost: x\r\n"


class Quick(BoundedHttp):
    head_s = 0.3


class Patient(BoundedHttp):
    head_s = 1.0
    work_s = 1.3  # longer than a head may take


class Few(BoundedHttp):
    head_s = 600.0
    connections_max = 20


async def echo(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
    """Answer with the size of the body, after a while."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await asyncio.sleep(Patient.work_s if scope["path"] == "/slow" else 0)
    body = b"%d" % size
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def serving(http: type[BoundedHttp] = Quick) -> AsyncIterator[int]:
    config = uvicorn.Config(echo, http=http, ws="none", lifespan="off", loop="none", log_config=None, port=0)
    server = ApiServer(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        await task


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        HEAD + b"x-half",
        HEAD + b"x: " + b"y" * 400_000,
        HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\nx: " + b"y" * 4_000_000,
        HEAD + b"content-length: 2\r\n\r\nok" + HEAD,
    ],
    ids=["nothing", "an empty line", "half a head", "a long header", "a trailer without end", "half of a second head"],
)
def test_what_stays_half_or_never_ends_is_cut(data: bytes) -> None:
    async def work() -> None:
        async with serving() as port:
            began_s = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), 60)
            assert time.monotonic() - began_s < 5
            writer.transport.abort()

    asyncio.run(work())


def test_whole_requests_take_the_time_that_they_take() -> None:
    async def answer(reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        return await reader.readexactly(length)

    async def slow_answer(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok")
        assert await answer(reader) == b"2"
        writer.write((HEAD + b"content-length: 2\r\n\r\nok") * 30)
        assert [await answer(reader) for _ in range(30)] == [b"2"] * 30
        writer.transport.abort()

    async def slow_body(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"content-length: 300000\r\n\r\n")
        for _ in range(6):
            writer.write(b"x" * 50_000)
            await asyncio.sleep(Patient.work_s / 6)
        assert await answer(reader) == b"300000"
        writer.transport.abort()

    async def work() -> None:
        async with serving(Patient) as port:
            await asyncio.gather(slow_answer(port), slow_body(port))

    asyncio.run(work())


@pytest.mark.alone
def test_over_the_maximum_a_connection_is_cut_at_once() -> None:
    async def work() -> None:
        async with serving(Few) as port:
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(Few.connections_max)]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            began_s = time.monotonic()
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            assert time.monotonic() - began_s < Quick.head_s
            assert not any(each.at_eof() or each.exception() for each, _ in held), "who was there stays"
            for _, each in [*held, (reader, writer)]:
                each.transport.abort()

    asyncio.run(work())
