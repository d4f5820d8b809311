"""What a replica tells gateways of the server behind it, so that they speak to that server themselves.

A gateway asks with CALL `direct` once a connection, when the replica is ready. The answer is msgpack of one Direct, or
the error Unsupported of a replica that has no such server. It crosses the replica's socket (mode 600) and is kept in
memory only: it has the key.
"""

import msgspec

METHOD = "direct"
SEVERED = "connections to it are refused on purpose (stoker gameday)"


class Direct(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a gateway sends chats and completions of a replica itself.

    url: with its version path, without a slash at its end. model: what the server calls it. authorization: the header's
    value; "" for none. timeout_s: of one request, from its first byte to the answer's last.
    """

    url: str
    model: str
    authorization: str = ""
    timeout_s: float = 600.0

    def __repr__(self) -> str:
        """Return what may be logged: not the key."""
        return f"Direct({self.url!r}, {self.model!r})"


_decoder = msgspec.msgpack.Decoder(Direct)


def encode(value: Direct) -> bytes:
    """Return the body of the answer."""
    return msgspec.msgpack.encode(value)


def decode(body: bytes) -> Direct:
    """Return what an answer tells. Raises ValueError for what is none."""
    return _decoder.decode(body)
