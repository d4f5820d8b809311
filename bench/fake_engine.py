"""A replica whose engine costs nothing: it streams events of 200 bytes at a given pace, as many as a request asks for.

python -m bench.fake_engine SOCKET [SLOTS [URL]]

A request's last message says the pace: `every 10 ms`; its `max_tokens` how many events. All streams of one pace advance
in the same turn of the loop, as the slots of a language model do with each step. SLOTS: that it says it has. With URL
it is a replica of the engine `openai`: gateways speak to that server themselves. Prints a line when it listens.
"""

import asyncio
import json
import re
import sys
from typing import Any

import uvloop

from stoker.protocol import direct, frames
from stoker.protocol.direct import Direct
from stoker.protocol.frames import EndHead, Hello
from stoker.protocol.link import Exchange, refuse, serve
from stoker.types.replica import ReplicaStats, Usage

PACE = re.compile(r"every (\d+) ms")
EVENT_BYTES = 200
SHELL = (
    'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"fake","choices":'
    '[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n'
)
EVENT = (SHELL % ("x" * (EVENT_BYTES - len(SHELL % "")))).encode()
END = (
    'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"fake","choices":[],'
    '"usage":{"prompt_tokens":1,"completion_tokens":%d,"total_tokens":%d}}\n\ndata: [DONE]\n\n'
)


class FakeEngine:
    """A link.Handler."""

    body_max_bytes = 1 << 20

    def __init__(self, slots: int = 0, url: str = "") -> None:
        self._slots = slots  # 0: it does not say, and gateways learn it
        self._url = url
        self._finished = 0
        self._tokens = 0
        self._running: dict[float, dict[Exchange, list[int]]] = {}  # by pace: [events left, events asked]

    def hello(self) -> Hello:
        return Hello(frames.WIRE_VERSION, "default.fake-1-bench", "replica", 1, "bench", "default.fake-1", "ready")

    def stats(self) -> ReplicaStats:
        running = sum(len(streams) for streams in self._running.values())
        return ReplicaStats("ready", running=running, slots=self._slots, finished=self._finished, tokens=self._tokens)

    def request(self, exchange: Exchange) -> None:
        asked: dict[str, Any] = json.loads(exchange.body)
        pace = PACE.search(asked["messages"][-1]["content"])
        pace_s = int(pace[1]) / 1000 if pace else 0.01
        streams = self._running.setdefault(pace_s, {})
        if not streams:
            asyncio.get_running_loop().call_later(pace_s, self._step, pace_s)
        streams[exchange] = [asked["max_tokens"], asked["max_tokens"]]

        def forget() -> None:
            streams.pop(exchange, None)

        exchange.on_cancel = forget

    def call(self, exchange: Exchange) -> None:
        if not self._url or exchange.head.method != direct.METHOD:
            raise refuse(exchange.head.method)
        exchange.end(EndHead(), direct.encode(Direct(self._url, "fake")))

    def drain(self) -> None:
        pass

    def _step(self, pace_s: float) -> None:
        loop = asyncio.get_running_loop()
        streams = self._running[pace_s]
        if streams:
            loop.call_later(pace_s, self._step, pace_s)
        for exchange, left in list(streams.items()):
            if left[0] > 0:
                left[0] -= 1
                self._tokens += 1
                send(exchange, EVENT)
                continue
            del streams[exchange]
            self._finished += 1
            end = EndHead("text/event-stream", usage=Usage(input_tokens=1, output_tokens=left[1]))
            exchange.end(end, (END % (left[1], left[1] + 1)).encode())


def send(exchange: Exchange, piece: bytes) -> None:
    """Send within the credit of an exchange, which these small streams never use up, without a task."""
    sending = exchange.send(piece)
    try:
        sending.send(None)
    except StopIteration:
        return
    sending.close()
    raise RuntimeError("a stream of this bench is larger than its credit; its client does not read")


async def main(path: str, slots: str = "0", url: str = "") -> None:
    await serve(f"unix:{path}", FakeEngine(int(slots), url))
    print(json.dumps({"port": 0}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
