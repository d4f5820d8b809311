"""How usage records lie in a journal's segments: frames that can be cut or broken anywhere and read up to there.

A segment: MAGIC, then a frame with its Header, then a frame a record. A frame: length and CRC-32 of what follows (four
bytes each, little endian), the sequence number (eight), the payload. A segment's file is as long as it may grow, and
zero behind its last frame, so that the disk has room for what will be written. Sequence numbers of one incarnation
begin with 1 and have no gaps; the header's is that of the segment's first record.
"""

import struct
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from stoker.types.usage import UsageRecord

MAGIC: Final = b"STKUSE1\n"
RECORD_BYTES_MAX: Final = 64 << 10
_HEAD: Final = struct.Struct("<IIQ")
_CHECK: Final = struct.Struct("<II")
_SEQUENCE: Final = struct.Struct("<Q")
HEAD_BYTES: Final = _HEAD.size

encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder(UsageRecord).decode


class Header(msgspec.Struct, frozen=True, array_like=True):
    """Who wrote a segment. incarnation: one start of one process of `gateway`, as no other is called."""

    gateway: str
    incarnation: str
    first: int


class Frames(NamedTuple):
    """What was read of a segment: payloads with consecutive numbers from `first` on, and where to read on.

    is_broken: what follows is no frame and never will be one. False: nothing follows, so far.
    """

    first: int
    payloads: list[bytes]
    offset: int
    is_broken: bool


_header: Final = msgspec.msgpack.Decoder(Header).decode


def frame(sequence: int, payload: bytes) -> bytes:
    """Return one frame."""
    body = _SEQUENCE.pack(sequence) + payload
    return _CHECK.pack(len(payload), crc32(body)) + body


def beginning(header: Header) -> bytes:
    """Return a segment's first bytes."""
    return MAGIC + frame(header.first, encode(header))


def read_header(data: bytes) -> tuple[Header, int] | None:
    """Return the header of the segment that `data` begins, and where its records do; None when it has none."""
    if not data.startswith(MAGIC):
        return None
    try:
        found = _frame(data, len(MAGIC))
        return None if found is None else (_header(found[1]), len(MAGIC) + HEAD_BYTES + len(found[1]))
    except ValueError:  # msgspec's are such too
        return None


def read_frames(data: bytes, offset: int, first: int, *, count_max: int = 1 << 30, bytes_max: int = 1 << 30) -> Frames:
    """Return the frames from `offset` on, of which the first is to have the number `first`; at most so many."""
    payloads: list[bytes] = []
    size = 0
    while len(payloads) < count_max and size < bytes_max:
        try:
            found = _frame(data, offset)
        except ValueError:
            return Frames(first, payloads, offset, is_broken=True)
        if found is None:
            break
        sequence, payload = found
        if sequence != first + len(payloads):
            return Frames(first, payloads, offset, is_broken=True)
        payloads.append(payload)
        size += len(payload)
        offset += HEAD_BYTES + len(payload)
    return Frames(first, payloads, offset, is_broken=False)


def _frame(data: bytes, offset: int) -> tuple[int, bytes] | None:
    """Return the number and payload of a frame; None where there is none. Raises ValueError where it is broken."""
    if len(data) < offset + HEAD_BYTES:
        if not data[offset:].strip(b"\0"):
            return None
        raise ValueError("cut in a frame's head")
    length, checksum, sequence = _HEAD.unpack_from(data, offset)
    if not (length or checksum or sequence):
        return None
    body = data[offset + _CHECK.size : offset + HEAD_BYTES + length]
    if not 0 < length <= RECORD_BYTES_MAX or len(body) < _SEQUENCE.size + length:
        raise ValueError("cut in a frame, or no frame")
    if crc32(body) != checksum:
        raise ValueError("a frame with a wrong checksum")
    return sequence, body[_SEQUENCE.size :]
