"""What the bytes between a gateway and a replica mean: length-prefixed, multiplexed frames. Pure: bytes in, frames out.

    frame   := u32 length | u8 kind | u32 stream | payload        (big endian; length counts kind, stream and payload)
    HELLO   payload: msgpack Hello; the server's first frame. stream 0
    REQUEST payload: u16 head length | msgpack RequestHead | body; the rest of a body over INLINE_MAX follows as DATA
    DATA    payload: bytes; a piece of the request body (client to server) or of the answer (server to client)
    END     payload: u16 head length | msgpack EndHead | last bytes; closes the stream well
    ERROR   payload: msgpack ErrorHead; closes the stream badly
    CANCEL  no payload; the client lost interest. The server frees what it holds and sends nothing more
    CREDIT  payload: u32 bytes; the client read so much of this stream's answer and the server may send as much again
    PING    payload: 8 opaque bytes, and of a client that works past this process (direct.py) u32 requests of its that
            run so, u32 signs of progress since it connected, counted around. stream 0
    PONG    payload: the 8 bytes | msgpack ReplicaStats. stream 0
    DRAIN   no payload; finish what runs, refuse what is new. stream 0
    CALL    like REQUEST, for a process' own questions (statistics, metrics); answered by END or ERROR

Streams are numbered by the client, from 1, and used once.
"""

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from stoker.types.replica import ReplicaState, ReplicaStats, Timings, Usage

FRAME_MAX: Final = 1 << 20  # one frame; larger bodies are cut
INLINE_MAX: Final = 256 << 10  # body bytes that ride in REQUEST, and the size of one DATA piece
WINDOW_BYTES: Final = 1 << 20  # answer bytes a server may have sent on one stream without CREDIT
WIRE_VERSION: Final = 1

_LENGTH_MAX: Final = FRAME_MAX + 5
_PREFIX: Final = struct.Struct(">IBI")
_HEAD: Final = struct.Struct(">H")
_CREDIT: Final = struct.Struct(">I")
_PASSED: Final = struct.Struct(">II")
COUNTED_TO: Final = 1 << 32  # signs of progress begin again from 0 here


class Kind:
    """Frame kinds; the numbers are the wire.

    No enum: to read and compare a member takes 70 ns, this 15, and each piece of each answer is asked for its kind.
    """

    HELLO: Final = 1
    REQUEST: Final = 2
    DATA: Final = 3
    END: Final = 4
    ERROR: Final = 5
    CANCEL: Final = 6
    CREDIT: Final = 7
    PING: Final = 8
    PONG: Final = 9
    DRAIN: Final = 10
    CALL: Final = 11


class FrameError(ValueError):
    """The peer sent bytes that are no frame; the connection cannot be used any more."""


class Hello(msgspec.Struct, frozen=True):
    """Who answers on this address. `boot` changes with every start of the process."""

    wire: int
    name: str  # process name, as in ProcessSpec
    kind: str  # ProcessKind
    pid: int
    boot: str
    revision: str = ""
    state: ReplicaState = "loading"


class RequestHead(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the replica must know beside the body. The body is the client's, unchanged.

    method: `infer`, `chat`, `completions`, `embeddings`; for CALL the question's name (`stats`, `metrics`).
    header_bytes: of an OIP binary body, the length of its JSON part (`Inference-Header-Content-Length`); -1 if absent.
    resume_bytes: so many bytes at the body's end are no part of it, but what another replica answered (`Resume`).
    trace, trace_state: W3C traceparent and tracestate of this try. Who does not know them leaves them unread.
    probe: nobody's request, but one that looks how a model does: it leaves no trace in drift and predictions.
    segment: what the caller says the request is of (`x-stoker-segment`), for the quality of predictions.
    turn: whether it goes before (1) or behind (-1) what waits of others (core/turns.py).
    tenant: who asked, by the name or key id that metrics have, never a key; for the lines of the replica's log.
    """

    method: str
    request: str = ""  # request id
    body_bytes: int = 0
    timeout_s: float = 0.0  # time left; 0: none
    header_bytes: int = -1
    alone: bool = False  # run it in no batch with others (a suspect after a death)
    resume_bytes: int = 0
    trace: str = ""
    trace_state: str = ""
    segment: str = ""
    tenant: str = ""
    probe: bool = False
    turn: int = 0


class EndHead(msgspec.Struct, omit_defaults=True):
    """How a request ended. `header_bytes` as in RequestHead, for the answer; -1 if absent.

    others: requests of other connections in this process at this moment; the link writes it.
    """

    content_type: str = "application/json"
    header_bytes: int = -1
    usage: Usage = Usage()
    timings: Timings = Timings()
    others: int = 0


class ErrorHead(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request failed; `code` is one of types.errors."""

    code: str
    message: str
    field: str | None = None
    retry_after_s: float | None = None


_encoder = msgspec.msgpack.Encoder()
_decode_hello = msgspec.msgpack.Decoder(Hello).decode
_decode_request = msgspec.msgpack.Decoder(RequestHead).decode
_decode_end = msgspec.msgpack.Decoder(EndHead).decode
_decode_error = msgspec.msgpack.Decoder(ErrorHead).decode
_decode_stats = msgspec.msgpack.Decoder(ReplicaStats).decode


def frame(kind: int, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """Return one frame. `payload` must be within FRAME_MAX."""
    return b"".join((_PREFIX.pack(5 + len(payload), kind, stream), payload))


def with_head(kind: int, stream: int, head: msgspec.Struct, body: bytes | memoryview = b"") -> bytes:
    """Return a REQUEST, CALL or END frame: head, then `body` (at most INLINE_MAX)."""
    packed = _encoder.encode(head)
    return b"".join((_PREFIX.pack(7 + len(packed) + len(body), kind, stream), _HEAD.pack(len(packed)), packed, body))


def hello(value: Hello) -> bytes:
    """Return the HELLO frame."""
    return frame(Kind.HELLO, 0, _encoder.encode(value))


def error(stream: int, head: ErrorHead) -> bytes:
    """Return an ERROR frame."""
    return frame(Kind.ERROR, stream, _encoder.encode(head))


def credit(stream: int, count: int) -> bytes:
    """Return a CREDIT frame for `count` answer bytes."""
    return frame(Kind.CREDIT, stream, _CREDIT.pack(count))


def ping(token: bytes, passed: tuple[int, int] = (0, 0)) -> bytes:
    """Return a PING; `passed`: the requests that run past the process, and what came of all there were."""
    return frame(Kind.PING, 0, token + _PASSED.pack(passed[0], passed[1] % COUNTED_TO) if passed[1] else token)


def pong(token: bytes, stats: ReplicaStats) -> bytes:
    """Return the PONG that answers a PING with `token`."""
    return frame(Kind.PONG, 0, token + _encoder.encode(stats))


def _split(payload: bytes) -> tuple[bytes, bytes]:
    if len(payload) < 2:
        raise FrameError("a frame without its head")
    (size,) = _HEAD.unpack_from(payload)
    if len(payload) < 2 + size:
        raise FrameError(f"a head of {size} bytes in a frame of {len(payload)}")
    return payload[2 : 2 + size], payload[2 + size :]


def read_hello(payload: bytes) -> Hello:
    """Decode a HELLO payload; raises FrameError."""
    try:
        return _decode_hello(payload)
    except msgspec.DecodeError as broken:
        raise FrameError(f"HELLO: {broken}") from broken


def read_request(payload: bytes) -> tuple[RequestHead, bytes]:
    """Decode a REQUEST or CALL payload into head and inline body; raises FrameError."""
    head, body = _split(payload)
    try:
        return _decode_request(head), body
    except msgspec.DecodeError as broken:
        raise FrameError(f"REQUEST: {broken}") from broken


def read_end(payload: bytes) -> tuple[EndHead, bytes]:
    """Decode an END payload into head and last bytes; raises FrameError."""
    head, body = _split(payload)
    try:
        return _decode_end(head), body
    except msgspec.DecodeError as broken:
        raise FrameError(f"END: {broken}") from broken


def read_error(payload: bytes) -> ErrorHead:
    """Decode an ERROR payload; raises FrameError."""
    try:
        return _decode_error(payload)
    except msgspec.DecodeError as broken:
        raise FrameError(f"ERROR: {broken}") from broken


def read_credit(payload: bytes) -> int:
    """Decode a CREDIT payload; raises FrameError."""
    if len(payload) != 4:
        raise FrameError(f"CREDIT of {len(payload)} bytes")
    return int(_CREDIT.unpack(payload)[0])


def read_ping(payload: bytes) -> tuple[bytes, int, int]:
    """Decode a PING payload into token, requests past this process, and their progress; raises FrameError."""
    if len(payload) == 8:
        return payload, 0, 0
    if len(payload) != 8 + _PASSED.size:
        raise FrameError(f"PING of {len(payload)} bytes")
    running, progress = _PASSED.unpack_from(payload, 8)
    return payload[:8], running, progress


def read_pong(payload: bytes) -> tuple[bytes, ReplicaStats]:
    """Decode a PONG payload into the PING's token and the statistics; raises FrameError."""
    try:
        return payload[:8], _decode_stats(payload[8:])
    except msgspec.DecodeError as broken:
        raise FrameError(f"PONG: {broken}") from broken


class FrameReader:
    """Cuts a byte stream into frames. Holds at most one incomplete frame (FRAME_MAX and its prefix)."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Yield (kind, stream, payload) for every frame that `data` completes; raises FrameError on a bad length.

        Must be consumed to its end before the next call.
        """
        held = self._held + data if self._held else data
        at, size = 0, len(held)
        while size - at >= 9:
            length, kind, stream = _PREFIX.unpack_from(held, at)
            if length < 5 or length > _LENGTH_MAX:
                raise FrameError(f"a frame of {length} bytes; at most {FRAME_MAX} are allowed")
            end = at + 4 + length
            if end > size:
                break
            yield kind, stream, held[at + 9 : end]
            at = end
        self._held = held[at:]
