"""What is asked, of which endpoint: the body's form, the model's name, sizes. Before anything waits or is counted."""

import asyncio
import zlib
from typing import Final

from stoker.core import tracing
from stoker.gateway.directory import Directory
from stoker.gateway.exchange import Exchange, Handler, Work
from stoker.types.errors import InvalidInput, TooLarge

INFLATE_HERE_BYTES: Final = 64 << 10  # a larger body is inflated in a thread, so that others do not wait for it
_WINDOW_BITS: Final = {b"gzip": 31, b"deflate": 15}


def validate(directory: Directory, inner: Handler) -> Handler:
    """Let the route read the request and find its lane."""

    def handle(exchange: Exchange) -> Work:
        coding = exchange.request.headers.get(b"content-encoding")
        if coding is not None and coding.lower() != b"identity":
            return inflated(exchange, coding.lower())
        read(exchange, directory)
        return inner(exchange)

    async def inflated(exchange: Exchange, coding: bytes) -> None:
        bits = _WINDOW_BITS.get(coding)
        if bits is None:
            raise InvalidInput(f"the content encoding {coding[:40]!r} is unknown; use gzip or deflate")
        assert exchange.key is not None
        limit = directory.body_limit(exchange.project, exchange.name, exchange.key)
        if len(exchange.body) <= INFLATE_HERE_BYTES:
            exchange.body = inflate(exchange.body, bits, limit)
        else:
            exchange.body = await asyncio.to_thread(inflate, exchange.body, bits, limit)
        exchange.connection.hold(len(exchange.body))
        read(exchange, directory)
        await inner(exchange)

    return handle


def read(exchange: Exchange, directory: Directory) -> None:
    """Let the route read the body and find the lane, whose endpoint may have its own share of traces."""
    assert exchange.route.prepare is not None
    exchange.route.prepare(exchange, directory)
    lane = exchange.lane
    if lane is not None and lane.traced_from is not None and exchange.caller is None:
        exchange.is_sampled = tracing.is_sampled(exchange.span, lane.traced_from)


def inflate(data: bytes, bits: int, limit: int) -> bytes:
    """Return `data` decompressed. Raises TooLarge over `limit` bytes (a bomb), InvalidInput for a broken stream."""
    inflater = zlib.decompressobj(bits)
    try:
        found = inflater.decompress(data, limit + 1)
    except zlib.error as broken:
        raise InvalidInput(f"the compressed body is broken: {broken}", field="body") from broken
    if len(found) > limit:
        raise TooLarge(f"the body is over {limit} bytes when decompressed", field="body")
    if not inflater.eof or inflater.unused_data:
        raise InvalidInput("the compressed body is cut off or has something behind it", field="body")
    return found
