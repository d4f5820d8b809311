"""The driver for one machine against an agent that answers well, badly, late or not at all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from stoker.placement.local import LocalDriver
from stoker.protocol import secure, unixhttp
from stoker.protocol.secure import Far
from stoker.protocol.unixhttp import request
from stoker.types.errors import Conflict, NotFound, NotReachable, StokerError, Unavailable
from stoker.types.process import NodeStatus, ProcessSpec, ProcessStatus
from tests.protocol.nodes import Platform
from tests.streams import serving

NODE = NodeStatus(node="local", sequence=7, cores=2.0, memory_bytes=1 << 30, memory_free_bytes=1 << 29, processes=())
SPEC = ProcessSpec(
    name="default.a-1-aaaaa", kind="replica", argv=("true",), env={}, address="unix:/tmp/x.sock", work_dir="/tmp"
)
STATUS = ProcessStatus(name=SPEC.name, kind="replica", phase="starting")


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Peer:
    """Answers each request with the next of its scripted answers; keeps what was asked."""

    def __init__(self, path: Path, answers: list[bytes | None]) -> None:
        self.path = str(path)
        self.answers = answers
        self.asked: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length")), 0)
            self.asked.append(head + await reader.readexactly(length))
            scripted = self.answers.pop(0)
            if scripted is None:
                await asyncio.Event().wait()
            else:
                writer.write(scripted)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def peer(path: Path, *answers: bytes | None, over: str = "socket") -> AsyncIterator[Peer]:
    """Yield an agent on its socket, or on another node over mutual TLS: the driver is the same."""
    found = Peer(path, list(answers))
    if over == "socket":
        async with serving(found.serve, path):
            yield found
        return
    platform = Platform(path.parent / "tls")
    async with serving(found.serve, tls=secure.Identity(platform.shows("b", "agent")).server) as server:
        own = str(platform.shows("local", "control"))
        found.path = Far("127.0.0.1", server.port, "b", "agent", "agent", own).address
        yield found


def run(tmp_path: Path, check: Callable[[LocalDriver, Peer], Awaitable[None]], *answers: bytes | None) -> None:
    async def main() -> None:
        for over in ("socket", "tls"):
            async with peer(tmp_path / "a.sock", *answers, over=over) as found:
                await check(LocalDriver(found.path), found)

    asyncio.run(main())


def test_observes_the_node(tmp_path: Path) -> None:
    async def check(driver: LocalDriver, _: Peer) -> None:
        assert await driver.observe() == (NODE,)

    run(tmp_path, check, answer(msgspec.json.encode(NODE)))


def test_a_node_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    assert asyncio.run(LocalDriver(str(tmp_path / "none.sock")).observe()) == ()


@pytest.mark.parametrize("said", [b"", b"garbage\r\n\r\n", answer(b"{}")[:-1], answer(b"no", "500 Bad")])
def test_an_agent_that_answers_badly_is_one_that_does_not_answer(tmp_path: Path, said: bytes) -> None:
    async def check(driver: LocalDriver, _: Peer) -> None:
        assert await driver.observe() == ()

    run(tmp_path, check, said)


def test_starting_carries_the_fence_and_the_spec(tmp_path: Path) -> None:
    async def check(driver: LocalDriver, found: Peer) -> None:
        assert await driver.start("local", SPEC, 42) == STATUS
        head, _, body = found.asked[0].partition(b"\r\n\r\n")
        assert head.startswith(b"PUT /v1/processes/default.a-1-aaaaa HTTP/1.1\r\n")
        assert b"\r\nx-stoker-fence: 42" in head
        assert msgspec.json.decode(body, type=ProcessSpec) == SPEC

    run(tmp_path, check, answer(msgspec.json.encode(STATUS)))


@pytest.mark.parametrize(
    ("status", "kind"), [("409 Conflict", Conflict), ("404 Not Found", NotFound), ("500 Oops", Unavailable)]
)
def test_a_refusal_comes_in_the_agents_words(tmp_path: Path, status: str, kind: type[StokerError]) -> None:
    async def check(driver: LocalDriver, _: Peer) -> None:
        with pytest.raises(kind, match="fence 1 is older than 2"):
            await driver.start("local", SPEC, 1)

    run(tmp_path, check, answer(b'{"error":{"code":"conflict","message":"fence 1 is older than 2"}}', status))


def test_stopping_what_is_gone_is_no_error(tmp_path: Path) -> None:
    async def check(driver: LocalDriver, found: Peer) -> None:
        await driver.stop("local", "x", 2.5, 3)
        assert found.asked[0].startswith(b"DELETE /v1/processes/x?drain_s=2.5 HTTP/1.1\r\n")

    run(tmp_path, check, answer(b"{}", "404 Not Found"))


def test_waits_for_a_change_after_the_sequence_it_has_seen(tmp_path: Path) -> None:
    async def check(driver: LocalDriver, found: Peer) -> None:
        await driver.changed({"local": 7}, 2.0)
        assert found.asked[0].startswith(b"GET /v1/node?after=7&wait_s=2.000 ")

    run(tmp_path, check, answer(msgspec.json.encode(NODE)))


def test_an_agent_that_goes_while_it_is_waited_for_is_a_change(tmp_path: Path) -> None:
    async def check(driver: LocalDriver, _: Peer) -> None:
        async with asyncio.timeout(90):
            await driver.changed({"local": 7}, 600.0)

    run(tmp_path, check, b"HTTP/1.1 200 OK\r\nContent-Le")


def test_an_agent_that_comes_is_a_change(tmp_path: Path) -> None:
    path = tmp_path / "late.sock"

    async def main() -> None:
        waiting = asyncio.create_task(LocalDriver(str(path)).changed({}, 600.0))
        await asyncio.sleep(0)
        async with peer(path, answer(msgspec.json.encode(NODE))):
            async with asyncio.timeout(90):
                await waiting

    asyncio.run(main())


def test_logs_come_piece_by_piece_and_stop_when_nobody_reads(tmp_path: Path) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"

    async def check(driver: LocalDriver, found: Peer) -> None:
        pieces = [piece async for piece in driver.logs("local", "x", tail=5, follow=False)]
        assert b"".join(pieces) == b"onetwo"
        assert found.asked[0].startswith(b"GET /v1/processes/x/logs?tail=5&follow=0 ")
        with pytest.raises(NotFound, match="no log"):
            async for _ in driver.logs("local", "x", tail=5, follow=False):
                pass

    run(tmp_path, check, chunked, answer(b'{"error":{"message":"no log"}}', "404 Not Found"))


def test_an_agent_that_hangs_is_given_up_in_time(tmp_path: Path) -> None:
    async def check(_: LocalDriver, found: Peer) -> None:
        with pytest.raises(NotReachable, match=r"did not answer GET /v1/node in 0\.1 s"):
            await request(found.path, "GET", "/v1/node", timeout_s=0.1)

    run(tmp_path, check, None)


def test_an_answer_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unixhttp, "BODY_BYTES_MAX", 1 << 20)

    async def check(_: LocalDriver, found: Peer) -> None:
        with pytest.raises(Unavailable, match="answered more than"):
            await request(found.path, "GET", "/v1/node", timeout_s=20)

    run(tmp_path, check, answer(b"x" * ((1 << 20) + 1)))
