"""When two requests of an endpoint are the same one: the same bytes, from callers who may see each other's answers."""

import asyncio
import hashlib
from typing import Final

from stoker.gateway.exchange import Exchange

DIGEST_HERE_BYTES: Final = 128 << 10  # SHA-256 takes 1 µs a kB; a larger body is hashed in a thread


async def identity(exchange: Exchange) -> bytes:
    """Return the digest that the same requests of one tenant have in common. Computed at most once a request.

    The tenant is the key; all keys are one where the endpoint's cache is shared. SHA-256, because a hash with known
    collisions would let one caller choose what another is answered.
    """
    if not exchange.identity:
        if len(exchange.body) <= DIGEST_HERE_BYTES:
            exchange.identity = _digest(exchange)
        else:
            exchange.identity = await asyncio.to_thread(_digest, exchange)
    return exchange.identity


def _digest(exchange: Exchange) -> bytes:
    lane, key = exchange.lane, exchange.key
    assert lane is not None
    assert key is not None
    cache = lane.route.cache
    tenant = "" if cache is not None and cache.shared else key.key
    head = f"{tenant}\0{exchange.method}\0{exchange.header_bytes}\0{exchange.version}\0"
    digest = hashlib.sha256(head.encode())
    digest.update(exchange.body)
    return digest.digest()
