"""The bytes of answers: status lines, the headers everybody gets, framing."""

from http import HTTPStatus
from typing import Final

from stoker.protocol.frames import EndHead

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE: Final = b"connection: close\r\n"
KEEP_ALIVE: Final = b"connection: keep-alive\r\n"
JSON: Final = b"content-type: application/json\r\n"
EVENT_STREAM: Final = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
)

_STATUS: Final = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}
_STREAM: Final = _STATUS[200] + b"transfer-encoding: chunked\r\n"


def of_answer(end: EndHead) -> bytes:
    """Return the header lines of a whole answer that a replica ended so."""
    headers = b"content-type: %b\r\n" % end.content_type.encode()
    if end.header_bytes >= 0:
        headers += b"inference-header-content-length: %d\r\n" % end.header_bytes
    return headers


def whole(status: int, headers: bytes, body: bytes, connection: bytes, is_head: bool = False) -> bytes:
    """Return a complete answer; of an answer to HEAD the body is only counted."""
    return b"%b%bcontent-length: %d\r\n%b\r\n%b" % (
        _STATUS[status],
        headers,
        len(body),
        connection,
        b"" if is_head else body,
    )


def stream_start(headers: bytes, first: bytes, connection: bytes, is_1_0: bool) -> bytes:
    """Return the head of a stream and its first piece; HTTP/1.0 has no chunks, its stream ends with the connection."""
    if is_1_0:
        return b"%b%b%b\r\n%b" % (_STATUS[200], headers, connection, first)
    return b"%b%b%b\r\n%x\r\n%b\r\n" % (_STREAM, headers, connection, len(first), first)
