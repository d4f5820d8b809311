"""HTTPS on the data plane: the same bounds as without, certificates that change while everything runs."""

import asyncio
import contextlib
import dataclasses
import gc
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stoker.gateway.http import tls
from stoker.gateway.http.connection import Connection, Limits
from stoker.gateway.http.secured import Door, Secured
from stoker.gateway.http.server import Server
from stoker.gateway.http.tls import Certificates
from stoker.gateway.http.x509 import expiry_s
from stoker.telemetry.metrics import Registry
from stoker.types.errors import InvalidInput
from stoker.types.tls import Files
from tests.gateway import rig as rigs
from tests.gateway.certificates import openssl, self_signed, signed, trusting
from tests.gateway.rig import Rig, ask, chat, client, connect, run, until
from tests.gateway.test_clients import HEAD, QUICK, Echo
from tests.gateway.test_hostile_http import ROWS, SENTINEL, answers, statuses


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def rig(folder: Path) -> Iterator[Rig]:
    first, second = self_signed(folder, "first"), self_signed(folder, "second", kind="rsa")
    place(folder, *first)
    environ = {"STOKER_TLS_CERT": str(folder / "tls.crt"), "STOKER_TLS_KEY": str(folder / "tls.key")}
    with rigs.rig(
        folder, replicas=1, environ=environ, tls=trusting(first[0], second[0]), max_body_bytes=1 << 20
    ) as made:
        yield made


def place(folder: Path, cert: Path | None = None, key: Path | None = None) -> None:
    """Put files where the gateway looks, as renewers do: each whole, one after the other."""
    for source, name in ((cert, "tls.crt"), (key, "tls.key")):
        if source is not None:
            half = folder / f"{name}.new"
            half.write_bytes(source.read_bytes())
            half.replace(folder / name)


async def metric(rig: Rig, name: str, **labels: str) -> float:
    text = (await ask(rig, "GET", "/metrics")).body.decode()
    for line in text.splitlines():
        if line.startswith(name) and all(f'{key}="{value}"' in line for key, value in labels.items()):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no {name} with {labels}")


async def shown(rig: Rig) -> str:
    """Return the name of the certificate that a new client is shown."""
    _, writer = await connect(rig)
    peer = writer.get_extra_info("peercert")
    writer.transport.abort()
    return str(peer["subject"][0][0][1])


def test_every_hostile_request_is_answered_as_without_tls(rig: Rig) -> None:
    async def work() -> None:
        rows = list(ROWS.items())
        for start in range(0, len(rows), 40):
            part = rows[start : start + 40]
            found = await asyncio.gather(*(answers(rig, data + SENTINEL) for _, (data, _) in part))
            for (name, (_, expected)), answer in zip(part, found, strict=True):
                assert statuses(answer) == expected, (name, answer[:300])

    run(work)


def test_a_sender_of_a_refused_body_still_reads_the_refusal(rig: Rig) -> None:
    async def work() -> None:
        reader, writer = await connect(rig)
        writer.write(HEAD + b"content-length: 8000000\r\n\r\n")
        for _ in range(80):
            writer.write(b"x" * 100_000)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
        writer.transport.abort()

    run(work)


def test_streams_large_bodies_and_large_answers_come_through_whole(rig: Rig) -> None:
    async def work() -> None:
        async with client(rig) as one:
            body = b"x" * 1_000_000
            assert (await one.request("POST", "/v2/models/digits/infer", body)).body == body
            answer = await one.request("POST", "/v2/models/digits/infer", b"big:3000000 ")
            assert len(answer.body) == 3_000_000
            stream = await one.request("POST", "/v1/chat/completions", chat("chunks:2000", stream=True))
            assert stream.body.count(b"data: ") == 2001
            assert stream.body.endswith(b"data: [DONE]\n\n")

    run(work)


def test_a_client_that_leaves_in_a_stream_ends_the_work_for_it(rig: Rig) -> None:
    async def work() -> None:
        async with client(rig) as one:
            one.send("POST", "/v1/chat/completions", chat("chunks:100000 every:0.01", stream=True))
            await one.reader.readuntil(b"data: ")

    before = rig.lines("r0").count("cancelled")
    run(work)
    until(lambda: rig.lines("r0").count("cancelled") == before + 1, "the replica heard of it")


def test_what_is_spoken_is_new_enough_and_http_1_1(rig: Rig) -> None:
    async def spoken(change: str) -> tuple[str, str | None]:
        assert rig.tls is not None
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if change == "h2":
            context.set_alpn_protocols(["h2", "http/1.1"])
        elif change == "only h2":
            context.set_alpn_protocols(["h2"])
        elif change == "1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        elif change == "1.1":
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
            context.set_ciphers("ALL:@SECLEVEL=0")
        elif change == "old ciphers":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers("AES128-SHA:AES256-SHA256:ECDHE-ECDSA-AES128-SHA")
        _, writer = await asyncio.open_connection("127.0.0.1", rig.port, ssl=context)
        made = writer.get_extra_info("ssl_object")
        writer.transport.abort()
        return made.version(), made.selected_alpn_protocol()

    async def work() -> None:
        assert await spoken("") == ("TLSv1.3", None)
        assert await spoken("1.2") == ("TLSv1.2", None)
        assert await spoken("h2") == ("TLSv1.3", "http/1.1")
        assert await spoken("only h2") == ("TLSv1.3", None)
        for old in ("1.1", "old ciphers"):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await spoken(old)
        assert await metric(rig, "stoker_tls_handshakes_total", result="failed") >= 2

    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        run(work)


def test_http_without_tls_is_told_so(rig: Rig) -> None:
    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"this port speaks https" in answer
        writer.transport.abort()
        assert await metric(rig, "stoker_tls_handshakes_total", result="plain") == 1

    run(work)


def test_a_renewed_certificate_is_taken_without_a_restart_and_half_of_one_is_not(rig: Rig, folder: Path) -> None:
    async def work() -> None:
        async with client(rig) as old:
            assert (await old.request("POST", "/v2/models/digits/infer", b"{}")).status == 200
            assert await shown(rig) == "first"
            place(folder, cert=folder / "second.crt")  # its key is not there yet, and will not be for long
            while await metric(rig, "stoker_tls_reloads_total", result="refused") < 1:  # bounded by run
                await asyncio.sleep(0.05)
            assert await shown(rig) == "first"
            place(folder, key=folder / "second.key")
            while await shown(rig) == "first":
                await asyncio.sleep(0.05)
            assert await shown(rig) == "second"
            assert await metric(rig, "stoker_tls_reloads_total", result="taken") == 1
            ends_s = await metric(rig, "stoker_tls_certificate_expiry_timestamp_seconds")
            assert ends_s == expiry_s((folder / "second.crt").read_bytes())
            assert (await old.request("POST", "/v2/models/digits/infer", b"{}")).status == 200

    run(work)
    log = rig.log("gateway-0").read_text()
    assert log.count("the key is of another certificate") == 1
    assert "took a new certificate" in log


def test_a_gateway_that_drains_finishes_what_runs(rig: Rig, tmp_path: Path) -> None:
    text = f"until:{tmp_path / 'gate'} last".encode()

    async def work() -> None:
        async with client(rig) as one:
            before = len(rig.lines("r0"))
            one.send("POST", "/v2/models/digits/infer", text)
            await rigs.holds(lambda: any("infer" in line for line in rig.lines("r0")[before:]))
            rig.kill("gateway-0", rigs.signal.SIGTERM)
            await rigs.holds(lambda: rigs.listeners(rig.port) == 0)  # it accepts nobody any more
            (tmp_path / "gate").touch()
            answer = await one.answer()
            assert (answer.status, answer.body) == (200, text)
            assert answer.headers["connection"] == "close"
            assert await one.reader.read() == b""

    run(work)
    assert rig.processes["gateway-0"].wait(rigs.WAIT_S) == 0


# ---- in one process, with quick limits

PATIENT = dataclasses.replace(QUICK, head_s=30.0, idle_s=30.0)  # quick once a handshake is made, however long that took


@contextlib.asynccontextmanager
async def serving(
    folder: Path, client_ca: str = "", limits: Limits = QUICK
) -> AsyncIterator[tuple[Server, int, Registry]]:
    registry = Registry("gateway-0")
    cert, key = folder / "own.crt", folder / "own.key"
    if not cert.exists():
        self_signed(folder, "own")
    door = Door(Certificates(Files(str(cert), str(key), client_ca), registry), registry)
    server = Server(Echo(), limits, set(), door)
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, port, registry
    finally:
        await server.drain(1)
        assert not server.connections


def ended(registry: Registry, result: str) -> float:
    return registry.counter("stoker_tls_handshakes_total", process="gateway-0", result=result).value


def hello(server: str = "localhost") -> bytes:
    """Return what a client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=server).do_handshake()
    return outgoing.read()


def test_a_connection_that_ended_is_gone_at_once_not_when_the_collector_next_runs(folder: Path) -> None:
    def alive() -> int:
        return sum(isinstance(each, Connection | Secured) for each in gc.get_objects())

    async def work() -> None:
        async with serving(folder, limits=PATIENT) as (server, port, _):
            before = alive()
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=trusting(folder / "own.crt"), server_hostname="localhost"
            )
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok")
            await reader.readuntil(b"\r\n\r\n2")
            assert alive() == before + 2
            writer.transport.abort()
            while server.connections:  # bounded by run
                await asyncio.sleep(0.01)
            assert alive() == before

    gc.collect()
    gc.disable()
    try:
        run(work)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "data",
    [b"", hello()[:1], hello()[:100], hello(), b"\x16\x03\x01\x40\x00" + b"x" * 100],
    ids=["nothing", "a byte", "half a hello", "a hello and no more", "a record that goes on"],
)
def test_half_a_handshake_ends_in_time(folder: Path, data: bytes) -> None:
    async def work() -> None:
        async with serving(folder) as (_, port, registry):
            began_s = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            with contextlib.suppress(ConnectionError):
                await reader.read()
            assert time.monotonic() - began_s < 5
            writer.transport.abort()
            while ended(registry, "gone") + ended(registry, "failed") < 1:  # bounded by run
                await asyncio.sleep(0.01)

    run(work)


def test_garbage_in_the_middle_of_a_connection_ends_it(folder: Path) -> None:
    async def work() -> None:
        async with serving(folder, limits=Limits()) as (server, port, _):  # which would not end it by themselves
            made = await asyncio.to_thread(shaken, folder, port)
            with socket.socket(fileno=made.detach()) as bare:
                bare.sendall(b"\x17\x03\x03\x00\x20" + b"garbage!" * 4)
                while server.connections:  # bounded by run
                    await asyncio.sleep(0.01)

    run(work)


def test_a_client_that_does_not_read_its_stream_is_cut(folder: Path) -> None:
    async def work() -> None:
        async with serving(folder, limits=PATIENT) as (server, port, _):
            with await asyncio.to_thread(shaken, folder, port) as sleeper:
                sleeper.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                while not any(connection.is_stalled for connection in server.connections):  # bounded by run
                    await asyncio.sleep(0.01)
                while server.connections:
                    await asyncio.sleep(0.01)

    run(work)


def shaken(folder: Path, port: int) -> ssl.SSLSocket:
    """Return a blocking socket whose handshake is made."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=30)
    return trusting(folder / "own.crt").wrap_socket(raw, server_hostname="localhost")


def test_clients_without_a_certificate_are_refused_where_one_is_asked_for(folder: Path) -> None:
    async def work() -> None:
        ca, other = self_signed(folder, "ca"), self_signed(folder, "stranger")
        async with serving(folder, client_ca=str(ca[0]), limits=PATIENT) as (_, port, registry):

            async def asked(own: tuple[Path, Path] | None) -> bytes:
                context = trusting(folder / "own.crt")
                if own is not None:
                    context.load_cert_chain(*own)
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=context, server_hostname="localhost"
                )
                try:
                    writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                    return await reader.read()
                finally:
                    writer.transport.abort()

            assert (await asked(signed(folder, "client", ca))).startswith(b"HTTP/1.1 200")
            for own in (None, other):
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await asked(own)
            assert ended(registry, "failed") == 2

    run(work)


# ---- files


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("another key", "the key is of another certificate"),
        ("encrypted key", "the key is encrypted"),
        ("no key", "cannot be read: No such file"),
        ("no certificate", "no certificate (PEM) in it"),
        ("garbage", "the certificate cannot be read"),
        ("huge", "is over 1048576 bytes"),
        ("no authorities", "no certificates in it"),
    ],
)
def test_what_cannot_serve_is_refused_in_words(tmp_path: Path, kind: str, words: str) -> None:
    cert, key = self_signed(tmp_path, "one")
    client_ca = ""
    if kind == "another key":
        key = self_signed(tmp_path, "two")[1]
    elif kind == "encrypted key":
        locked = tmp_path / "locked.key"
        openssl("ec", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked)
        key = locked
    elif kind == "no key":
        key.unlink()
    elif kind == "no certificate":
        cert.write_bytes(key.read_bytes())
    elif kind == "garbage":
        cert.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    elif kind == "huge":
        cert.write_bytes(cert.read_bytes() + b"\n" * (1 << 20))
    else:
        client_ca = str(key)
    with pytest.raises(InvalidInput, match=re.escape(words)) as refused:
        tls.context_of(tls.read(Files(str(cert), str(key), client_ca)))
    assert refused.value.field is not None
    assert refused.value.field.startswith("STOKER_TLS_")


@pytest.mark.parametrize(("days", "kind"), [(1, "ec"), (30, "rsa"), (365 * 40, "ec")])
def test_the_end_of_a_certificate_is_what_openssl_says(tmp_path: Path, days: int, kind: str) -> None:
    cert, _ = self_signed(tmp_path, "one", days=days, kind=kind)
    said = openssl("x509", "-in", cert, "-noout", "-enddate").strip().removeprefix("notAfter=")
    expected = datetime.strptime(said, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    assert expiry_s(cert.read_bytes()) == expected.timestamp()


def test_a_certificate_that_ends_soon_is_told_of_once_a_day(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cert, key = self_signed(tmp_path, "one", days=10)
    certificates = Certificates(Files(str(cert), str(key)), Registry("gateway-0"))
    now_s = time.time()
    for hours in (0, 1, 20, 25, 30, 24 * 11):
        certificates._warn(now_s + hours * 3600)
    assert [record.message for record in caplog.records] == [
        "the certificate ends soon", "the certificate ends soon", "the certificate has ended",
    ]  # fmt: skip


def test_a_listener_hears_of_a_new_pair_and_never_of_half_a_one(tmp_path: Path) -> None:
    first, second = self_signed(tmp_path, "one"), self_signed(tmp_path, "two")
    place(tmp_path, *first)
    certificates = Certificates(Files(str(tmp_path / "tls.crt"), str(tmp_path / "tls.key")), Registry("gateway-0"))
    heard: list[bytes] = []
    certificates.on_change = lambda: heard.append(certificates.pair.cert)
    certificates.look()
    place(tmp_path, cert=second[0])
    certificates.look()
    certificates.look()
    (tmp_path / "tls.key").unlink()
    certificates.look()
    certificates.look()
    assert heard == []
    assert certificates.pair.cert == first[0].read_bytes()
    place(tmp_path, key=second[1])
    certificates.look()
    certificates.look()
    assert heard == [second[0].read_bytes()]
