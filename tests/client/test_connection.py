"""One exchange: what is sent, and every way in which it can fail, as the error tree."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.client.connection import Connection, ManifestRefused
from stoker.types.errors import (
    Busy,
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    NotReachable,
    RefusedArtifact,
    StokerError,
    TooLarge,
    Unavailable,
)
from tests.client.peer import answering, reply


def test_sends_the_key_and_the_query_and_returns_the_whole_answer() -> None:
    with answering(reply(201, b'{"a":1}')) as peer:
        answer = Connection(peer.base, key="stk_x").exchange(
            "POST", "/api/v1/apply", query={"dry_run": True, "none": None, "text": "a b"}, body=b"hello"
        )
    assert (answer.status, answer.body) == (201, b'{"a":1}')
    assert peer.received[0].startswith(b"POST /api/v1/apply?dry_run=1&text=a+b HTTP/1.1\r\n")
    assert b"Authorization: Bearer stk_x" in peer.received[0]
    assert peer.received[0].endswith(b"\r\n\r\nhello")


def test_speaks_over_a_unix_socket(tmp_path: Path) -> None:
    with answering(reply(200, b"yes"), at=tmp_path / "s") as peer:
        assert Connection(peer.base).exchange("GET", "/").body == b"yes"


@pytest.mark.parametrize(
    ("status", "body", "kind", "field"),
    [
        (404, b'{"error":{"code":"not_found","message":"no such thing","field":"name"}}', NotFound, "name"),
        (409, b'{"error":{"code":"conflict","message":"in use"}}', Conflict, None),
        (422, b'{"error":{"code":"refused_artifact","message":"a pickle"}}', RefusedArtifact, None),
        (
            400,
            b'{"error":{"code":"invalid_input","message":"m","type":"t","param":"messages"}}',
            InvalidInput,
            "messages",
        ),
        (400, b'{"error":"unexpected input"}', InvalidInput, None),
        (503, b"<html>a proxy says no</html>", Unavailable, None),
        (502, b"", Unavailable, None),
        (418, b"\xff\xfe", StokerError, None),
        (500, b'{"error":{"code":"never_heard_of","message":"x"}}', StokerError, None),
        (404, b'{"error":{"code":null,"message":"nobody"}}', NotFound, None),
    ],
)
def test_every_error_body_becomes_the_class_of_its_code_or_status(
    status: int, body: bytes, kind: type[StokerError], field: str | None
) -> None:
    with answering(reply(status, body)) as peer, pytest.raises(StokerError) as caught:
        Connection(peer.base).exchange("GET", "/")
    assert type(caught.value) is kind
    assert caught.value.field == field
    assert caught.value.message


def test_all_lines_of_a_refused_manifest_arrive() -> None:
    body = b"""{"error":{"code":"invalid_input","message":"two","details":[
        {"line":3,"field":"spec.model","message":"is missing"},{"line":7,"field":"","message":"what"}]}}"""
    with answering(reply(400, body)) as peer, pytest.raises(ManifestRefused) as caught:
        Connection(peer.base).exchange("POST", "/", body=b"x")
    assert [(one.line, one.field) for one in caught.value.details] == [(3, "spec.model"), (7, "")]


def test_keeps_how_long_to_wait_before_trying_again() -> None:
    answer = reply(429, b'{"error":{"code":"busy","message":"full"}}', "Retry-After: 2")
    with answering(answer) as peer, pytest.raises(Busy) as caught:
        Connection(peer.base).exchange("GET", "/")
    assert caught.value.retry_after_s == 2


def test_nobody_there_is_not_reachable(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        for base in (f"http://127.0.0.1:{taken.getsockname()[1]}", f"unix:{tmp_path / 'nothing'}"):
            with pytest.raises(NotReachable):
                Connection(base).exchange("GET", "/")


@pytest.mark.parametrize("base", ["127.0.0.1:80", "ftp://x", "http://", "http://x:notaport"])
def test_an_address_that_is_none_says_how_to_write_one(base: str) -> None:
    with pytest.raises(StokerError, match="is not an address"):
        Connection(base).exchange("GET", "/")


@pytest.mark.parametrize(
    "answer",
    [b"", b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", b"HTTP/1.1 200 OK\r\nTransfer-"],
    ids=["nothing", "not HTTP", "cut body", "cut head"],
)
def test_a_peer_that_breaks_off_is_not_reachable(answer: bytes) -> None:
    with answering(answer) as peer, pytest.raises(NotReachable):
        Connection(peer.base).exchange("GET", "/")


def test_a_silent_peer_is_a_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        base = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DeadlineExceeded):
            Connection(base, timeout_s=0.1).exchange("GET", "/")


def test_a_refusal_before_the_body_was_read_is_still_read() -> None:
    pieces = [b"x" * 65536] * 800

    answer = reply(413, b'{"error":{"code":"body_too_large","message":"too much"}}')
    with answering(answer, read_whole=False) as peer, pytest.raises(TooLarge):
        Connection(peer.base).exchange(
            "PUT", "/", body=iter(pieces), headers={"Content-Length": str(sum(map(len, pieces)))}
        )


def test_a_stream_yields_pieces_as_they_come_and_ends_with_the_connection() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for text in (b"one", b"two"):
            yield b"%x\r\n%s\r\n" % (len(text), text)
        yield b"0\r\n\r\n"

    with answering(b"".join(pieces())) as peer:
        assert b"".join(Connection(peer.base).stream("GET", "/")) == b"onetwo"
