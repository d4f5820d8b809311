"""What an attacker, a broken proxy or a scanner sends, a row each: what must come back, and that nothing stays behind.

A row is bytes and the statuses of all answers until the connection closes. A well-formed request for /healthz that asks
to close comes right behind each row: a row that ends with `OK` kept its framing, every other one closed the connection.
"""

import asyncio
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.protocol import openai
from tests.gateway import rig as rigs
from tests.gateway.rig import KEY, TEAM_KEY, Rig, connect, infer, run

AUTH = f"authorization: Bearer {KEY}\r\n".encode()
GET = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"
POST = b"POST /v2/models/digits/infer HTTP/1.1\r\nhost: x\r\n" + AUTH
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
SENTINEL = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
OK = (200, 200)
CLOSED = (400,)


def show(name: bytes) -> bytes:
    """Ask for a model by its name as it is in the path."""
    return b"GET /v1/models/%b HTTP/1.1\r\nhost: x\r\n%b\r\n" % (name, AUTH)


def sized(body: bytes, *lines: bytes) -> bytes:
    """POST to digits."""
    return POST + b"".join(line + b"\r\n" for line in lines) + b"content-length: %d\r\n\r\n" % len(body) + body


def chat(body: bytes) -> bytes:
    """POST to the chat endpoint."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + AUTH
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


def asks(extra: bytes = b"", model: bytes = b'"smol"') -> bytes:
    """Chat with `extra` fields before the messages."""
    return chat(b'{"model":%b,%b"messages":[{"role":"user","content":"hi"}]}' % (model, extra))


BOMB = gzip.compress(b"x" * (64 << 20))

Row = tuple[bytes, tuple[int, ...]]

TWO_READERS: dict[str, Row] = {
    "length, then chunked": (POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n" + LAST, CLOSED),
    "chunked, then length": (POST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n" + LAST, CLOSED),
    "chunked in odd case": (POST + b"Transfer-ENCODING: cHuNkEd\r\n\r\n1\r\nx\r\n" + LAST, OK),
    "chunked after a tab": (POST + b"transfer-encoding:\tchunked\r\n\r\n1\r\nx\r\n" + LAST, OK),
    "chunked after a vertical tab": (POST + b"transfer-encoding: \x0bchunked\r\n\r\n" + LAST, CLOSED),
    "space before the colon": (POST + b"transfer-encoding : chunked\r\n\r\n" + LAST, CLOSED),
    "space before the length's colon": (POST + b"content-length : 2\r\n\r\nok", CLOSED),
    "chunked, identity": (POST + b"transfer-encoding: chunked, identity\r\n\r\n" + LAST, CLOSED),
    "identity, chunked": (POST + b"transfer-encoding: identity, chunked\r\n\r\n" + LAST, CLOSED),
    "gzip, chunked": (POST + b"transfer-encoding: gzip, chunked\r\n\r\n" + LAST, CLOSED),
    "nothing, chunked": (POST + b"transfer-encoding: ,chunked\r\n\r\n" + LAST, CLOSED),
    "chunked twice in one": (POST + b"transfer-encoding: chunked, chunked\r\n\r\n" + LAST, CLOSED),
    "chunked twice": (POST + b"transfer-encoding: chunked\r\n" * 2 + b"\r\n" + LAST, CLOSED),
    "chunked, identity in two": (POST + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n", CLOSED),
    "chunked with a parameter": (POST + b"transfer-encoding: chunked;q=1\r\n\r\n" + LAST, CLOSED),
    "chunked in quotes": (POST + b'transfer-encoding: "chunked"\r\n\r\n' + LAST, CLOSED),
    "xchunked": (POST + b"transfer-encoding: xchunked\r\n\r\n" + LAST, CLOSED),
    "identity": (POST + b"transfer-encoding: identity\r\n\r\n" + LAST, CLOSED),
    "no coding at all": (POST + b"transfer-encoding:\r\ncontent-length: 2\r\n\r\nok", CLOSED),
    "chunked in HTTP/1.0": (CHUNKED.replace(b"1.1", b"1.0") + b"1\r\nx\r\n" + LAST, CLOSED),
    "transfer_encoding": (POST + b"transfer_encoding: chunked\r\ncontent-length: 2\r\n\r\nok", OK),
    "two lengths": (POST + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok", CLOSED),
    "one length twice": (POST + b"content-length: 2\r\n" * 2 + b"\r\nok", CLOSED),
    "a list of lengths": (POST + b"content-length: 2, 2\r\n\r\nok", CLOSED),
    "length +2": (POST + b"content-length: +2\r\n\r\nok", CLOSED),
    "length -2": (POST + b"content-length: -2\r\n\r\nok", CLOSED),
    "length 0x2": (POST + b"content-length: 0x2\r\n\r\nok", CLOSED),
    "length 0_2": (POST + b"content-length: 0_2\r\n\r\nok", CLOSED),
    "length 2 2": (POST + b"content-length: 2 2\r\n\r\nok", CLOSED),
    "length 002": (POST + b"content-length: 002\r\n\r\nok", OK),
    "length of nothing": (POST + b"content-length:\r\n\r\n", CLOSED),
    "length of 64 bits": (POST + b"content-length: 18446744073709551615\r\n\r\nok", (413,)),
    "length of 65 bits": (POST + b"content-length: 36893488147419103232\r\n\r\nok", CLOSED),
    "a body for GET": (GET + b"content-length: 2\r\n\r\nok", OK),
    "bare LF all over": (POST.replace(b"\r\n", b"\n") + b"content-length: 2\n\nok", CLOSED),
    "bare LF once": (POST + b"x: y\ncontent-length: 2\r\n\r\nok", CLOSED),
    "bare CR": (POST + b"x: y\rcontent-length: 2\r\n\r\nok", CLOSED),
    "bare CR in the request line": (b"GET /healthz\r HTTP/1.1\r\nhost: x\r\n\r\n", CLOSED),
    "CR CR LF": (POST + b"x: y\r\r\ncontent-length: 2\r\n\r\nok", CLOSED),
    "a folded header": (POST + b"x: a\r\n b\r\n\r\n", CLOSED),
    "a folded length": (POST + b"content-length:\r\n 2\r\n\r\nok", CLOSED),
    "a fold before all headers": (b"GET /healthz HTTP/1.1\r\n host: x\r\n\r\n", CLOSED),
    "a header without colon": (GET + b"name\r\n\r\n", CLOSED),
    "a header without name": (GET + b": value\r\n\r\n", CLOSED),
    "a name with a space": (GET + b"x y: z\r\n\r\n", CLOSED),
    "a name with NUL": (GET + b"x\x00y: z\r\n\r\n", CLOSED),
    "a name beyond ASCII": (GET + b"x\xc3\xbc: z\r\n\r\n", CLOSED),
    "a value with NUL": (GET + b"x: y\x00z\r\n\r\n", CLOSED),
    "a value with a control": (GET + b"x: y\x01z\r\n\r\n", CLOSED),
    "a value beyond ASCII": (GET + b"x: \xff\r\n\r\n", OK),
    "a chunk of -1": (CHUNKED + b"-1\r\nx\r\n" + LAST, CLOSED),
    "a chunk of 0x1": (CHUNKED + b"0x1\r\nx\r\n" + LAST, CLOSED),
    "a chunk of a space and 1": (CHUNKED + b" 1\r\nx\r\n" + LAST, CLOSED),
    "a chunk of 1 and a space": (CHUNKED + b"1 \r\nx\r\n" + LAST, CLOSED),
    "a chunk of 0…01": (CHUNKED + b"0" * 30 + b"1\r\nx\r\n" + LAST, OK),
    "a chunk of 65 bits": (CHUNKED + b"10000000000000001\r\nx\r\n" + LAST, CLOSED),
    "a chunk longer than it says": (CHUNKED + b"1\r\nxyz\r\n" + LAST, CLOSED),
    "a chunk without its end": (CHUNKED + b"1\r\nx0\r\n\r\n", CLOSED),
    "chunks with bare LF": (CHUNKED + b"1\nx\n0\n\n", CLOSED),
    "a chunk extension": (CHUNKED + b"1;a=b\r\nx\r\n" + LAST, OK),
    "a chunk extension with LF": (CHUNKED + b"1;a\nb\r\nx\r\n" + LAST, CLOSED),
    "a length in a trailer": (CHUNKED + b"1\r\nx\r\n0\r\ncontent-length: 9\r\n\r\n", CLOSED),
    "a coding in a trailer": (CHUNKED + b"1\r\nx\r\n0\r\ntransfer-encoding: chunked\r\n\r\n", CLOSED),
    "another caller in a trailer": (CHUNKED + b"1\r\nx\r\n0\r\nauthorization: Bearer z\r\n\r\n", OK),
    "two hosts": (GET + b"host: y\r\n\r\n", CLOSED),
    "one host twice": (GET + b"Host: x\r\n\r\n", CLOSED),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", CLOSED),
    "an empty host": (b"GET /healthz HTTP/1.1\r\nhost:\r\n\r\n", OK),
    "a host with a port": (b"GET /healthz HTTP/1.1\r\nhost: [::1]:80\r\n\r\n", OK),
    "a host with a path": (b"GET /healthz HTTP/1.1\r\nhost: x/y\r\n\r\n", CLOSED),
    "a host with a user": (b"GET /healthz HTTP/1.1\r\nhost: a@b\r\n\r\n", CLOSED),
    "a host of two": (b"GET /healthz HTTP/1.1\r\nhost: a b\r\n\r\n", CLOSED),
    "two callers": (POST + b"authorization: Bearer other\r\ncontent-length: 2\r\n\r\nok", CLOSED),
    "two request ids": (GET + b"x-request-id: a\r\nx-request-id: b\r\n\r\n", CLOSED),
    "two projects": (sized(b"ok", b"x-stoker-project: team", b"x-stoker-project: default"), CLOSED),
    "two content codings": (sized(b"ok", b"content-encoding: gzip", b"content-encoding: identity"), CLOSED),
    "keep-alive and close": (GET + b"connection: keep-alive\r\nconnection: close\r\n\r\n", (200,)),
    "two of what nobody reads": (GET + b"accept: a\r\naccept: b\r\n\r\n", OK),
}

OTHER_PROTOCOLS: dict[str, Row] = {
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", CLOSED),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", CLOSED),
    "HTTP/2 by prior knowledge": (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        CLOSED,
    ),
    "half of that": (b"PRI * HTTP/2.0\r\n\r\n", CLOSED),
    "PRI over HTTP/1.1": (b"PRI * HTTP/1.1\r\nhost: x\r\n\r\n", CLOSED),
    "HTTP/2.0 as a version": (b"GET /healthz HTTP/2.0\r\nhost: x\r\n\r\n", CLOSED),
    "HTTP/2.0 that keeps alive": (b"GET /healthz HTTP/2.0\r\nhost: x\r\nconnection: keep-alive\r\n\r\n", CLOSED),
    "HTTP/1.2": (b"GET /healthz HTTP/1.2\r\nhost: x\r\n\r\n", CLOSED),
    "HTTP/01.1": (b"GET /healthz HTTP/01.1\r\nhost: x\r\n\r\n", CLOSED),
    "http/1.1": (b"GET /healthz http/1.1\r\nhost: x\r\n\r\n", CLOSED),
    "HTTP/0.9": (b"GET /healthz\r\n", CLOSED),
    "HTTP/0.9 with headers": (b"GET /healthz\r\nhost: x\r\n\r\n", CLOSED),
    "RTSP": (b"DESCRIBE /healthz RTSP/1.0\r\nhost: x\r\n\r\n", (405,)),
    "an offer of h2c": (GET + b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: A\r\n\r\n", OK),
    "an offer of h2c with a body": (GET + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 5\r\n\r\nhello", OK),
    "an upgrade of a chunked body": (CHUNKED[:-2] + b"connection: upgrade\r\nupgrade: h2c\r\n\r\n" + LAST, CLOSED),
    "WebSocket": (GET + b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n", OK),
    "CONNECT": (b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n", CLOSED),
    "an unknown method": (b"FOO /healthz HTTP/1.1\r\nhost: x\r\n\r\n", CLOSED),
    "a method in lower case": (b"get /healthz HTTP/1.1\r\nhost: x\r\n\r\n", CLOSED),
    "TRACE": (b"TRACE /healthz HTTP/1.1\r\nhost: x\r\n\r\n", (405, 200)),
    "100-continue": (POST + b"Expect: 100-CONTINUE\r\ncontent-length: 2\r\n\r\nok", (100, 200, 200)),
    "100-continue without a body": (GET + b"expect: 100-continue\r\n\r\n", (100, 200, 200)),
    "100-continue twice": (POST + b"expect: 100-continue\r\n" * 2 + b"content-length: 2\r\n\r\nok", CLOSED),
    "another expectation": (sized(b"ok", b"expect: 200-ok"), CLOSED),
    "no expectation": (sized(b"ok", b"expect:"), CLOSED),
    "a list of expectations": (sized(b"ok", b"expect: 100-continue, x"), CLOSED),
}

TARGETS: dict[str, Row] = {
    "absolute form": (b"GET http://x/healthz HTTP/1.1\r\nhost: x\r\n\r\n", OK),
    "absolute form of another host": (b"GET http://evil/healthz HTTP/1.1\r\nhost: x\r\n\r\n", OK),
    "absolute form of a file": (b"GET file:///etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n", (404, 200)),
    "authority form": (b"GET x:80 HTTP/1.1\r\nhost: x\r\n\r\n", CLOSED),
    "no form": (b"GET healthz HTTP/1.1\r\nhost: x\r\n\r\n", CLOSED),
    "asterisk form": (b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", (404, 200)),
    "a fragment": (b"GET /healthz#x HTTP/1.1\r\nhost: x\r\n\r\n", (404, 200)),
    "two slashes": (b"GET //healthz HTTP/1.1\r\nhost: x\r\n\r\n", (404, 200)),
    "dots": (b"GET /v1/../healthz HTTP/1.1\r\nhost: x\r\n\r\n", (404, 200)),
    "a space in the path": (b"GET /health z HTTP/1.1\r\nhost: x\r\n\r\n", CLOSED),
    "tabs for spaces": (b"GET\t/healthz\tHTTP/1.1\r\nhost: x\r\n\r\n", CLOSED),
    "NUL in the path": (b"GET /health\x00 HTTP/1.1\r\nhost: x\r\n\r\n", CLOSED),
    "bytes beyond ASCII": (b"GET /v1/models/\xc3\xbc HTTP/1.1\r\nhost: x\r\n\r\n", CLOSED),
    "%00 in a name": (show(b"digits%00"), (404, 200)),
    "%2f in a name": (show(b"team%2fsecret"), OK),  # an admin's way to name another project
    "%2f in a name, for a stranger": (show(b"team%2fsecret").replace(KEY.encode(), b"stk_none"), (401, 200)),
    "%ff in a name": (show(b"%ff"), (400, 200)),
    "%zz in a name": (show(b"%zz"), (404, 200)),
    "a new line in a name": (show(b"a%0d%0ax:%20y"), (404, 200)),
    "out of the tree": (show(b"..%2f..%2fetc%2fpasswd"), (404, 200)),
    "out of the tree, plainly": (
        b"GET /v2/models/../../etc/passwd HTTP/1.1\r\nhost: x\r\n" + AUTH + b"\r\n",
        (404, 200),
    ),
    "a path of 3000": (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", (400, 200)),
    "a query of 30000": (b"GET /healthz?" + b"a" * 30_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", OK),
}

BOMBS: dict[str, Row] = {
    "100,000 headers": (GET + b"a: b\r\n" * 100_000 + b"\r\n", (413,)),
    "one header of 1 MB": (GET + b"x: " + b"y" * (1 << 20) + b"\r\n\r\n", (413,)),
    "a target of 256 KB": (b"GET /" + b"a" * (1 << 18), (413,)),
    "a method of 256 KB": (b"G" * (1 << 18), CLOSED),
    "100,000 empty lines": (b"\r\n" * 100_000, (413,)),
    "1,000 requests at once": ((GET + b"\r\n") * 1000, (200,) * 1001),
    "5,000 trailers": (CHUNKED + b"1\r\nx\r\n0\r\n" + b"x: y\r\n" * 5000 + b"\r\n", (413,)),
    "a trailer without end": (CHUNKED + b"1\r\nx\r\n0\r\nx: " + b"y" * (4 << 20), (413,)),
    "a trailer without end, no key": (GET + b"transfer-encoding: chunked\r\n\r\n0\r\nx: " + b"y" * (4 << 20), (413,)),
    "a chunk extension without end": (CHUNKED + b"1;" + b"y" * (4 << 20), (413,)),
    "a chunk size without end": (CHUNKED + b"0" * (4 << 20), (413,)),
    "gzip": (sized(BOMB, b"content-encoding: gzip"), (413, 200)),
    "deflate": (sized(zlib.compress(b"x" * (8 << 20)), b"content-encoding: deflate"), (413, 200)),
    "gzip in gzip": (sized(gzip.compress(BOMB), b"content-encoding: gzip, gzip"), (400, 200)),
    "half of a gzip": (sized(gzip.compress(b"x" * 99)[:-9], b"content-encoding: gzip"), (400, 200)),
    "something behind a gzip": (sized(gzip.compress(b"x") + b"y", b"content-encoding: gzip"), (400, 200)),
    "JSON 100,000 deep": (asks(b'"x":' + b"[" * 100_000 + b"]" * 100_000 + b","), (400, 200)),
    "JSON 100,000 deep that stays open": (chat(b"[" * 100_000), (400, 200)),
    "JSON 100,000 objects deep": (chat(b'{"x":' * 100_000), (400, 200)),
}

JSON: dict[str, Row] = {
    "a key twice": (asks(b'"model":"smol",', b'"digits"'), OK),  # the last counts, for every reader: see below
    "invalid UTF-8 in a name": (asks(model=b'"sm\xffol"'), (400, 200)),
    "invalid UTF-8 in a text": (asks(b'"user":"\xff",'), (400, 200)),
    "half of a pair": (asks(model=b'"\\ud800"'), (400, 200)),
    "NUL in a name": (asks(model=b'"smol\\u0000"'), (404, 200)),
    "colours in a name": (asks(model=b'"\\u001b[31m\\r\\nx: y"'), (404, 200)),
    "an integer of 100,000 digits": (asks(b'"max_tokens":' + b"9" * 100_000 + b","), (400, 200)),
    "an integer of 100,000 digits nobody reads": (asks(b'"zzz":' + b"9" * 100_000 + b","), OK),
    "1e999": (asks(b'"temperature":1e999,'), (400, 200)),
    "NaN": (asks(b'"temperature":NaN,'), (400, 200)),
    "a byte order mark": (chat(b"\xef\xbb\xbf{}"), (400, 200)),
    "UTF-16": (chat('{"model":"smol"}'.encode("utf-16")), (400, 200)),
    "two documents": (chat(b'{"model":"smol","messages":[{"role":"user","content":"hi"}]}{}'), (400, 200)),
    "nothing": (chat(b""), (400, 200)),
    "null": (chat(b"null"), (400, 200)),
    "a timeout of 1e14 ms": (sized(b"ok", b"x-request-timeout-ms: 100000000000000"), (400, 200)),
    "a timeout of -1 ms": (sized(b"ok", b"x-request-timeout-ms: -1"), (400, 200)),
    "a JSON part longer than the body": (sized(b"ok", b"inference-header-content-length: 99"), (400, 200)),
    "another project": (sized(b"ok", b"x-stoker-project: team").replace(KEY.encode(), TEAM_KEY.encode()), (404, 200)),
    "a project beyond ASCII": (sized(b"ok", b"x-stoker-project: \xff"), (404, 200)),
}

ROWS = {**TWO_READERS, **OTHER_PROTOCOLS, **TARGETS, **BOMBS, **JSON}


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rigs.rig(tmp_path_factory.mktemp("hostile"), replicas=1, max_body_bytes=1 << 20) as made:
        yield made


async def answers(rig: Rig, data: bytes) -> bytes:
    """Send `data` and return all that comes until the gateway closes."""
    reader, writer = await connect(rig)

    async def send() -> None:
        try:
            writer.write(data)
            await writer.drain()
        except ConnectionError:
            pass  # the gateway had read enough

    sending = asyncio.create_task(send())
    try:
        return await asyncio.wait_for(reader.read(), 60)
    finally:
        sending.cancel()
        writer.transport.abort()


def statuses(answer: bytes) -> tuple[int, ...]:
    return tuple(int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer))


@pytest.mark.parametrize(("data", "expected"), ROWS.values(), ids=ROWS.keys())
def test_a_hostile_request_gets_its_answer_and_the_next_client_is_served(
    rig: Rig, data: bytes, expected: tuple[int, ...]
) -> None:
    async def work() -> None:
        answer = await answers(rig, data + SENTINEL)
        assert statuses(answer) == expected, answer[:500]
        for part in re.split(rb"HTTP/1\.1 (?=\d{3} )", answer)[1:]:
            if not part.startswith(b"100"):
                assert part.count(b"x-request-id: ") == 1
                assert (b"\r\nallow: GET\r\n" in part) == part.startswith(b"405")
                assert len(part) < 1000 or part.startswith(b"200"), "a refusal repeats what it was sent"
        assert (await infer(rig, "{}")).status == 200

    run(work)


def test_of_a_key_twice_the_last_counts_for_every_reader() -> None:
    messages = b'"messages":[{"role":"user","content":"a"}],"messages":[{"role":"user","content":"b"}]'
    body = b'{"model":"a","stream":false,%b,"model":"b","stream":true,"\\u006dodel":"c"}' % messages
    usual = json.loads(body)
    read = openai.decode_chat(body)
    assert (read.model, read.stream, read.messages[0].content) == ("c", True, "b")
    assert (usual["model"], usual["stream"], usual["messages"][0]["content"]) == ("c", True, "b")
    # A remote engine gets what was read here, written anew: no third reader sees the first values.


def test_a_client_that_closes_its_half_is_gone_and_its_work_ends(rig: Rig) -> None:
    async def work() -> None:
        reader, writer = await connect(rig)
        before = rig.lines("r0").count("cancelled")
        writer.write(sized(b"slow:200 x"))
        while not rig.lines("r0") or not rig.lines("r0")[-1].startswith("request infer"):  # bounded by run
            await asyncio.sleep(0.01)
        writer.write_eof()
        assert await reader.read() == b""
        while rig.lines("r0").count("cancelled") == before:
            await asyncio.sleep(0.01)
        writer.transport.abort()

    run(work)


def test_nothing_of_a_client_s_text_becomes_a_line_or_a_colour_of_the_log(rig: Rig) -> None:
    text = rig.log("gateway-0").read_bytes()
    assert b"\x1b" not in text
    assert all(line.startswith(b'{"time"') for line in text.splitlines()), text
    assert b"Traceback" not in text


def test_all_of_them_at_once_and_again_leave_neither_memory_nor_descriptors(rig: Rig) -> None:
    pid = rig.processes["gateway-0"].pid

    def rss() -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096

    def descriptors() -> int:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))

    async def storm() -> None:
        found = await asyncio.gather(*(answers(rig, data + SENTINEL) for data, _ in ROWS.values()))
        assert [statuses(answer) for answer in found] == [expected for _, expected in ROWS.values()]

    run(storm)
    before, open_before = rss(), descriptors()
    for _ in range(2):
        run(storm)

    async def settled() -> None:
        while descriptors() > open_before:  # bounded by run
            await asyncio.sleep(0.02)

    run(settled)
    assert rss() - before < 24 << 20
