"""A fast OpenAI-compatible server that knows one answer: what a gateway in front of it costs is the gateway's own.

python -m bench.peers.upstream

`max_tokens` says how many events of 200 bytes a stream has, `every N ms` in the last message how far apart they are;
the first goes out with the head. Without `stream` the answer is a small JSON document. The port is the first line
printed.
"""

import asyncio
import json
import re
from typing import Any, cast

import httptools
import uvloop

from bench.fake_engine import EVENT, PACE

END = (
    'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"fake","choices":'
    '[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"fake","choices":[],'
    '"usage":{"prompt_tokens":1,"completion_tokens":%d,"total_tokens":%d}}\n\ndata: [DONE]\n\n'
)
TINY = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1,
        "model": "fake",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()
MODELS = b'{"object":"list","data":[{"id":"fake","object":"model","created":1,"owned_by":"bench"}]}'
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def whole(body: bytes) -> bytes:
    """Return a complete answer of JSON."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def chunk(data: bytes) -> bytes:
    """Return `data` as one chunk of a chunked answer."""
    return b"%x\r\n%b\r\n" % (len(data), data)


EVENT_CHUNK = chunk(EVENT)
TINY_ANSWER, MODELS_ANSWER = whole(TINY), whole(MODELS)


def end(events: int) -> bytes:
    """Return what follows the last event."""
    return chunk((END % (events, events + 1)).encode()) + LAST


class Connection(asyncio.Protocol):
    """One connection, kept alive; a stream ends before the next request is answered, as no client here pipelines."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._is_kept = True
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._is_kept = self._parser.should_keep_alive()  # the parser knows it only now
        body, self._body = b"".join(self._body), []
        if not body:
            self._finish(MODELS_ANSWER)  # the list, and a sign of life
            return
        asked: dict[str, Any] = json.loads(body)
        if not asked.get("stream"):
            self._finish(TINY_ANSWER)
            return
        events = asked.get("max_tokens") or 1
        pace = re.search(PACE, str(asked["messages"][-1]["content"]))
        if pace is None:
            self._finish(STREAM_HEAD + EVENT_CHUNK * events + end(events))
            return
        self._transport.write(STREAM_HEAD + EVENT_CHUNK)
        self._later(events - 1, events, self._loop.time(), int(pace[1]) / 1000)

    def _later(self, left: int, events: int, sent_at: float, gap_s: float) -> None:
        self._loop.call_at(sent_at + gap_s, self._next, left, events, sent_at + gap_s, gap_s)

    def _next(self, left: int, events: int, due_at: float, gap_s: float) -> None:
        if self._transport.is_closing():
            return
        if left == 0:
            self._finish(end(events))
            return
        self._transport.write(EVENT_CHUNK)
        self._later(left - 1, events, due_at, gap_s)

    def _finish(self, last: bytes) -> None:
        self._transport.write(last)
        if not self._is_kept:
            self._transport.close()


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=4096)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
