"""Server-sent events out of bytes that arrive in any pieces: the payload of each `data:` event."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from stoker.types.errors import NotReachable

EVENT_BYTES_MAX: Final = 4 * 2**20
DONE: Final = b"[DONE]"


def events(pieces: Iterable[bytes], comment: Callable[[str], None] | None = None) -> Iterator[bytes]:
    """Yield the payload of each event until `[DONE]` or the end; other fields are skipped, `comment` gets comments.

    Raises NotReachable when one event is larger than `EVENT_BYTES_MAX`: whoever sends that speaks another protocol.
    """
    waiting = b""
    data: list[bytes] = []
    for piece in pieces:
        *lines, waiting = (waiting + piece).split(b"\n")
        if len(waiting) > EVENT_BYTES_MAX:
            raise NotReachable(f"an event larger than {EVENT_BYTES_MAX} bytes arrived")
        for line in lines:
            field = line.rstrip(b"\r")
            if field.startswith(b"data:"):
                data.append(field[5:].removeprefix(b" "))
            elif field.startswith(b":") and comment is not None:
                comment(field[1:].decode(errors="replace").strip())
            elif not field and data:
                payload = b"\n".join(data)
                data.clear()
                if payload == DONE:
                    return
                yield payload
    if data and (payload := b"\n".join(data)) != DONE:
        yield payload
