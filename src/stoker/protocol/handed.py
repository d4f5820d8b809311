"""Values of secrets, as a gateway hands them to a replica that is to use them: by reference, in one CALL.

They cross the replica's socket (mode 600) and stay in memory. Sent when the replica can first be reached, while it
loads, and again when a value is another.
"""

import msgspec

METHOD = "secrets"
VALUES_MAX = 64  # of one endpoint; its manifest is held to it


class Handed(msgspec.Struct, frozen=True):
    """values: by reference."""

    values: dict[str, str]

    def __repr__(self) -> str:
        """Return what may be logged: not the values."""
        return f"Handed({sorted(self.values)!r})"


_decoder = msgspec.msgpack.Decoder(Handed)


def encode(values: dict[str, str]) -> bytes:
    """Return the body of the call."""
    return msgspec.msgpack.encode(Handed(values))


def decode(body: bytes) -> dict[str, str]:
    """Return what a call brings. Raises ValueError for what is none."""
    try:
        values = _decoder.decode(body).values
    except msgspec.DecodeError:
        raise ValueError("no secrets") from None
    if len(values) > VALUES_MAX:
        raise ValueError(f"more than {VALUES_MAX} secrets")
    return values
