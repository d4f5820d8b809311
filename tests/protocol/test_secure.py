"""Mutual TLS between nodes over real sockets: who is let in, who is believed, and what a renewal costs: nothing."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stoker.core.certificates import AGENT_DOOR, REPLICA_DOOR, Door
from stoker.protocol import certificates, frames, secure
from stoker.protocol.frames import EndHead, Hello, RequestHead
from stoker.protocol.link import Exchange, Server, bind_tcp, connect, serve
from stoker.protocol.secure import Far, Identity
from stoker.types.errors import InvalidInput, NotReachable, ReplicaLost
from stoker.types.peers import Peer
from stoker.types.replica import ReplicaStats
from tests.ports import free_ports
from tests.protocol.nodes import Platform, write

NAME = "default.a-1-aaaaa"
PATIENCE_S = 60.0


class Echo:
    """Answers each request with its body; one that says `wait` when it is released."""

    body_max_bytes = 1 << 20

    def __init__(self) -> None:
        self.waiting: list[Exchange] = []

    def hello(self) -> Hello:
        return Hello(wire=frames.WIRE_VERSION, name=NAME, kind="replica", pid=1, boot="b", state="ready")

    def stats(self) -> ReplicaStats:
        return ReplicaStats(state="ready")

    def request(self, exchange: Exchange) -> None:
        if exchange.body == b"wait":
            self.waiting.append(exchange)
        else:
            exchange.end(EndHead(), exchange.body)

    def call(self, exchange: Exchange) -> None:
        self.request(exchange)

    def drain(self) -> None:
        """Nothing to finish."""


class Replica:
    """A server of frames that other nodes reach, as a replica is."""

    def __init__(self, server: Server, mine: Identity, echo: Echo, port: int) -> None:
        self.server, self.mine, self.echo, self.port = server, mine, echo, port

    def far(self, caller: Path, node: str = "b", name: str = NAME) -> str:
        return Far("127.0.0.1", self.port, node, "replica", name, str(caller)).address


@asynccontextmanager
async def replica(tmp_path: Path, shows: Path, door: Door = REPLICA_DOOR) -> AsyncIterator[Replica]:
    echo, mine, (port,) = Echo(), Identity(shows), free_ports(1)
    server = await serve(f"unix:{tmp_path}/r.sock", echo)
    await server.open_to(bind_tcp(f"127.0.0.1:{port}"), secure.Gate(mine, door))
    try:
        yield Replica(server, mine, echo, port)
    finally:
        await server.close()


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(tmp_path / "tls")


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 90))  # type: ignore[arg-type]


async def said(address: str, body: bytes = b"hello") -> bytes:
    link = await connect(address, timeout_s=PATIENCE_S)
    try:
        return (await link.call(RequestHead(method="echo", body_bytes=len(body)), body).answer())[1]
    finally:
        link.close()


def test_a_gateway_speaks_to_a_replica_of_another_node_over_tls_1_3(tmp_path: Path, platform: Platform) -> None:
    gateway = platform.shows("local", "gateway")

    async def main() -> None:
        async with replica(tmp_path, platform.shows("b", "replica")) as there:
            assert await said(there.far(gateway)) == b"hello"
            large = bytes(range(256)) * 2048
            assert await said(there.far(gateway), large) == large
            _, writer = await secure.open_far(secure.parse(there.far(gateway)), 30.0)
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            writer.transport.abort()

    run(main)


def _wrong_authority(platform: Platform, tmp_path: Path) -> Path:
    return Platform(tmp_path / "other").shows("local", "gateway", trust=platform.pem)


def _own_signature(platform: Platform, tmp_path: Path) -> Path:
    liar = Platform(tmp_path / "liar", name=platform.name)  # the same name, another key
    return liar.shows("local", "gateway", trust=platform.pem)


CALLERS: dict[str, Callable[[Platform, Path], Path]] = {
    "of another authority": _wrong_authority,
    "signed by itself under the authority's name": _own_signature,
    "expired": lambda platform, _: platform.shows("local", "gateway", begins_s=-600.0, until_s=-2.0),
    "not valid yet, by a clock that is an hour behind": lambda platform, _: platform.shows(
        "local", "gateway", begins_s=3600.0, until_s=7200.0
    ),
    "a replica's": lambda platform, _: platform.shows("c", "replica"),
    "an agent's": lambda platform, _: platform.shows("c", "agent"),
    "a gateway's of another node": lambda platform, _: platform.shows("c", "gateway"),
}


@pytest.mark.parametrize("caller", CALLERS)
def test_a_replica_lets_in_nobody_whose_certificate_is(caller: str, tmp_path: Path, platform: Platform) -> None:
    shows = CALLERS[caller](platform, tmp_path)

    async def main() -> None:
        async with replica(tmp_path, platform.shows("b", "replica")) as there:
            with pytest.raises(ReplicaLost):
                await said(there.far(shows))
            assert await said(there.far(platform.shows("local", "gateway"))) == b"hello"  # it is there all the while

    run(main)


def test_a_replica_lets_in_nobody_without_a_certificate_or_with_older_tls(tmp_path: Path, platform: Platform) -> None:
    async def main() -> None:
        async with replica(tmp_path, platform.shows("b", "replica")) as there:
            bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
            reader, writer = await asyncio.open_connection("127.0.0.1", there.port, ssl=bare)
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            writer.transport.abort()
            old = Identity(platform.shows("local", "gateway")).client
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection("127.0.0.1", there.port, ssl=old)
            plain, writer = await asyncio.open_connection("127.0.0.1", there.port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert b"HTTP" not in await plain.read(100)
            writer.transport.abort()

    run(main)


def test_a_gateway_believes_no_replica_that_is_another(tmp_path: Path, platform: Platform) -> None:
    gateway = platform.shows("local", "gateway")

    async def main() -> None:
        async with replica(tmp_path, platform.shows("c", "replica")) as there:
            with pytest.raises(ReplicaLost, match="node c, not b"):
                await said(there.far(gateway, node="b"))
            with pytest.raises(ReplicaLost, match="answers there"):  # the port was another replica's before
                await said(there.far(gateway, node="c", name="default.b-1-bbbbb"))
        async with replica(tmp_path, platform.shows("b", "agent")) as there:
            with pytest.raises(ReplicaLost, match="role agent"):
                await said(there.far(gateway))

    run(main)


def test_a_replicas_certificate_does_not_open_an_agent(tmp_path: Path, platform: Platform) -> None:
    stolen = platform.shows("b", "replica")

    async def main() -> None:
        async with replica(tmp_path, platform.shows("b", "agent"), AGENT_DOOR) as agent:
            far = Far("127.0.0.1", agent.port, "b", "agent", NAME, str(stolen)).address
            with pytest.raises(ReplicaLost):
                await said(far)
            far = Far("127.0.0.1", agent.port, "b", "agent", NAME, str(platform.shows("local", "control"))).address
            assert await said(far) == b"hello"

    run(main)


def test_who_is_removed_is_cut_within_seconds_on_either_side(tmp_path: Path, platform: Platform) -> None:
    gateway, shows = platform.shows("local", "gateway"), platform.shows("b", "replica")

    async def main() -> None:
        async with replica(tmp_path, shows) as there:
            link = await connect(there.far(gateway), timeout_s=PATIENCE_S)
            waits = link.call(RequestHead(method="echo", body_bytes=4), b"wait")
            link.doubt()
            assert link.is_open
            platform.revoke(gateway, "b")
            began_s = time.monotonic()
            while link.is_open:
                await asyncio.sleep(0.01)
                link.doubt()  # as a gateway does with each PING
            assert time.monotonic() - began_s < 5.0
            with pytest.raises(ReplicaLost):
                await waits.answer()
            with pytest.raises(ReplicaLost, match="node b was removed"):
                await connect(there.far(gateway))
            platform.revoke(gateway)
            link = await connect(there.far(gateway), timeout_s=PATIENCE_S)
            platform.revoke(shows, "local")
            looking = asyncio.create_task(secure.keep_looking(there.mine, there.server.doubt))
            began_s = time.monotonic()
            while link.is_open:
                await asyncio.sleep(0.01)
            assert time.monotonic() - began_s < 5.0
            looking.cancel()

    run(main)


def test_a_renewal_drops_no_request_and_new_connections_show_the_new_certificate(
    tmp_path: Path, platform: Platform
) -> None:
    gateway, shows = platform.shows("local", "gateway"), platform.shows("b", "replica", until_s=300.0)

    async def main() -> None:
        async with replica(tmp_path, shows) as there:
            link = await connect(there.far(gateway), timeout_s=PATIENCE_S)
            waits = link.call(RequestHead(method="echo", body_bytes=4), b"wait")
            for folder, who in ((shows, ("b", "replica")), (gateway, ("local", "gateway"))):
                assert platform.shows(*who, until_s=900.0) == folder
            assert there.mine.look()
            there.server.doubt()
            link.doubt()
            assert await said(there.far(gateway)) == b"hello"
            _, writer = await secure.open_far(secure.parse(there.far(gateway)), 30.0)
            peer = secure.peer_of(writer.get_extra_info("peercert"))
            assert peer is not None
            assert peer.until_s > time.time() + 600
            writer.transport.abort()
            there.echo.waiting[0].end(EndHead(), b"still here")
            assert (await waits.answer())[1] == b"still here"
            link.close()

    run(main)


def test_one_authority_follows_another_without_a_refusal_and_then_counts_no_more(
    tmp_path: Path, platform: Platform
) -> None:
    after = Platform(tmp_path / "tls", name="ca-2")
    after.lives = platform.lives
    both = platform.pem + after.pem
    gateway, shows = platform.shows("local", "gateway"), platform.shows("b", "replica")

    async def main() -> None:
        async with replica(tmp_path, shows) as there:

            async def speaks() -> bool:
                there.mine.look()
                try:
                    return await said(there.far(gateway)) == b"hello"
                except ReplicaLost:
                    return False

            for by, trust in ((platform, both), (after, both), (after, after.pem)):
                for who in (("b", "replica"), ("local", "gateway")):  # at every half step too
                    by.shows(*who, trust=trust)
                    assert await speaks()
            platform.shows("local", "gateway", trust=after.pem)  # an old certificate, kept by somebody
            assert not await speaks()

    run(main)


def test_files_that_cannot_be_read_leave_what_was_shown_before(tmp_path: Path, platform: Platform) -> None:
    gateway, shows = platform.shows("local", "gateway"), platform.shows("b", "replica")

    async def main() -> None:
        async with replica(tmp_path, shows) as there:
            write(shows / secure.IDENTITY, b"half a fi")
            assert not there.mine.look()
            assert await said(there.far(gateway)) == b"hello"

    run(main)


def test_an_address_of_another_node_is_read_as_it_was_written() -> None:
    for host in ("10.0.0.2", "b.example", "fd00::2"):
        far = Far(host, 17000, "b", "replica", NAME, "/home/x y/tls/gateway")
        assert secure.parse(far.address) == far
    for wrong in ("unix:/x", "tls:", "tls:h:1/b/replica/x", "tls:h:1/b/x?/f", "tls:h:p/b/replica/x?/f"):
        with pytest.raises(ValueError):
            secure.parse(wrong)


def test_only_a_request_signed_by_its_own_p256_key_is_signed(platform: Platform) -> None:
    other = certificates.request(certificates.new_key())
    body = other.splitlines()
    broken = "\n".join([*body[:-2], body[-2][::-1], body[-1]])
    for wrong in ("", "no pem", broken):
        with pytest.raises(InvalidInput):
            certificates.issue(_peer(), wrong, platform.pem, platform.key, 0.0)


def test_nobody_there_is_told_in_words(platform: Platform) -> None:
    far = Far("127.0.0.1", free_ports(1)[0], "b", "agent", "agent", str(platform.shows("local", "control")))
    with pytest.raises(NotReachable, match="node b does not answer"):
        asyncio.run(secure.open_far(far, 1.0))


def _peer() -> Peer:
    return Peer("plat", "b", "agent", "1" * 15, "ca-1", 1000.0)
