"""What a request would like of routing: whose session it is, and the blocks of its prompt.

A gateway has the client's messages, not the model's template: their bytes in order (tools, then each role and content)
are what tells two prompts' common beginning. Measured, messages of 2 kB: 3 µs; 32 kB: 30 µs; at most 128 kB are read.
"""

from typing import Final

import msgspec
import xxhash

from stoker.gateway.exchange import Exchange
from stoker.protocol.openai import ChatRequest, CompletionRequest

BLOCK_BYTES: Final = 256
PROMPT_MAX_BYTES: Final = 128 << 10
SESSION_HEADER: Final = b"x-session-id"

_hash = xxhash.xxh3_64_intdigest
_encode = msgspec.json.encode


class Wish:
    """Where a request would like to go. `matched`: of its blocks, those that the replica it went to had seen."""

    __slots__ = ("blocks", "matched", "prompt_bytes", "session")

    def __init__(self, session: int, blocks: list[int], prompt_bytes: int) -> None:
        self.session = session  # 0: none
        self.blocks = blocks
        self.prompt_bytes = prompt_bytes
        self.matched = 0


def of_chat(exchange: Exchange, request: ChatRequest, *, with_prefix: bool) -> Wish:
    """Read the wish of a chat request."""
    session = _session(exchange, request.prompt_cache_key or request.user)
    prompt = chat_bytes(request)
    return Wish(session, [] if session or not with_prefix else blocks(prompt), len(prompt))


def of_completion(exchange: Exchange, request: CompletionRequest, *, with_prefix: bool) -> Wish:
    """Read the wish of a text completion."""
    session = _session(exchange, request.prompt_cache_key or request.user)
    prompt = request.prompt.encode() if isinstance(request.prompt, str) else _encode(request.prompt)
    return Wish(session, [] if session or not with_prefix else blocks(prompt), len(prompt))


def of_session(exchange: Exchange) -> Wish | None:
    """Read the wish of a request without a prompt: its session header."""
    session = _session(exchange, None)
    return Wish(session, [], 0) if session else None


def chat_bytes(request: ChatRequest) -> bytes:
    """Return the bytes that identify a conversation: a longer one with the same beginning begins with the same bytes.

    Read no further than PROMPT_MAX_BYTES need.
    """
    parts = [_encode(request.tools)] if request.tools else []
    size = 0
    for message in request.messages:
        content = message.content
        if type(content) is not str:
            content = "" if content is None else _encode(content).decode()
        if message.tool_calls:
            content += _encode(message.tool_calls).decode()
        part = f"\n{message.role}\n{content}".encode("utf-8", "surrogatepass")
        parts.append(part)
        size += len(part)
        if size >= PROMPT_MAX_BYTES:
            break
    return b"".join(parts)


def blocks(prompt: bytes) -> list[int]:
    """Return the hashes of the whole blocks of `prompt`, each of it and all before it."""
    found = []
    value = 0
    for at in range(BLOCK_BYTES, min(len(prompt), PROMPT_MAX_BYTES) + 1, BLOCK_BYTES):
        value = _hash(prompt[at - BLOCK_BYTES : at], value)
        found.append(value)
    return found


def _session(exchange: Exchange, named: str | None) -> int:
    """Return the number of the session that the header, or else the body, names; 0 for none."""
    given = exchange.request.headers.get(SESSION_HEADER)
    if given:
        return _hash(given) or 1
    return (_hash(named.encode("utf-8", "surrogatepass")) or 1) if named else 0
