"""A server that answers as recorded or hostile OpenAI-compatible servers do; the model's name says how."""

import asyncio
import json
import threading
from typing import Any

from aiohttp import web


def chunk(text: str | None = None, *, finish: str | None = None, index: int = 0, **more: Any) -> str:
    delta = {} if text is None else {"content": text}
    choices = [{"index": index, "delta": delta, "finish_reason": finish}]
    return json.dumps({"object": "chat.completion.chunk", "choices": choices, **more})


HELLO = [chunk("Hel"), chunk("lo"), chunk(finish="stop")]
USAGE = json.dumps(
    {
        "choices": [],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}},
    }
)
# By name: the bytes of a stream. Each is something a real server sends, or a broken connection makes.
STREAMS: dict[str, bytes] = {
    "plain": "".join(f"data: {event}\n\n" for event in [*HELLO, USAGE, "[DONE]"]).encode(),
    "crlf": "".join(f"data: {event}\r\n\r\n" for event in [*HELLO, USAGE, "[DONE]"]).encode(),
    "cr": "".join(f"data: {event}\r\r" for event in [*HELLO, USAGE, "[DONE]"]).encode(),
    "no space": "".join(f"data:{event}\n\n" for event in [*HELLO, USAGE, "[DONE]"]).encode(),
    "comments": b": ping\n\n" + "".join(f": ping\nid: 1\ndata: {event}\n\n: x\n\n" for event in HELLO).encode(),
    "events": "".join(f"event: message\nretry: 5\ndata: {event}\n\ndata:\n\n" for event in HELLO).encode(),
    "split data": f"data: {HELLO[0][:10]}\ndata: {HELLO[0][10:]}\n\ndata: {HELLO[1]}\n\ndata: {HELLO[2]}\n\n".encode(),
    "no last blank line": "".join(f"data: {event}\n\n" for event in HELLO).rstrip("\n").encode(),
    "error event": f'data: {HELLO[0]}\n\ndata: {{"error":{{"message":"out of memory","code":500}}}}\n\n'.encode(),
    "cut": f"data: {HELLO[0]}\n\n".encode(),
    "empty": b"",
    "only done": b"data: [DONE]\n\n",
    "garbage": b"data: {not json\n\n",
    "wrong index": f"data: {chunk('x', index=7)}\n\n".encode(),
    "prose": f"data: {chunk('No.')}\n\ndata: {chunk(finish='stop')}\n\n".encode(),
    "halves": b"".join(
        b"data: %s\n\n" % event.encode() for event in [chunk("\ud83d"), chunk("\ude00"), chunk("!", finish="stop")]
    ),
    "lone half": b"".join(b"data: %s\n\n" % event.encode() for event in [chunk("a\ude00"), chunk("b", finish="stop")]),
}
ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
}
# By name: a whole answer.
WHOLES: dict[str, bytes] = {
    "plain": json.dumps({**ANSWER, "model": "plain", **json.loads(USAGE), "choices": ANSWER["choices"]}).encode(),
    "crlf": json.dumps({**ANSWER, "model": 'a "quoted" name'}).encode(),
    "comments": json.dumps({"model": "comments", **ANSWER, "echo": {"model": "comments"}}).encode(),
    "error event": b'{"error":{"message":"out of memory","code":500}}',
    "garbage": b"{not json",
    "empty": b'{"choices":[]}',
    "prose": b"[]",
}
STATUSES: dict[str, tuple[int, str, dict[str, str]]] = {
    "429": (429, '{"error":{"message":"slow down","type":"rate_limit"}}', {"Retry-After": "7"}),
    "429 date": (429, "{}", {"Retry-After": "Wed, 21 Oct 2037 07:28:00 GMT"}),
    "400": (400, '{"error":{"message":"too many tokens","param":"messages"}}', {}),
    "400 text": (400, "what?", {}),
    "404": (404, '{"detail":"no such model"}', {}),
    "401": (401, '{"error":"bad key"}', {}),
    "500": (500, "<html>oops</html>", {}),
    "503": (503, '{"message":"warming up"}', {"Retry-After": "3.5"}),
    "302": (302, "", {"Location": "http://127.0.0.1:1/"}),
}


class Upstream:
    """Runs in a thread of its own. `seen` are the bodies it got, `open_streams` the streams it still writes."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.open_streams = 0
        self.keys: set[str] | None = None  # whom it lets in; None: everybody
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._is_up = threading.Event()
        self._stop: asyncio.Event = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._is_up.wait(60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embed)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._is_up.set()
        await self._stop.wait()
        await runner.cleanup()

    def _lets_in(self, request: web.Request) -> bool:
        return self.keys is None or request.headers.get("Authorization", "").removeprefix("Bearer ") in self.keys

    async def _models(self, request: web.Request) -> web.Response:
        if not self._lets_in(request):
            return web.Response(status=401, text='{"error":"bad key"}')
        return web.json_response({"object": "list", "data": [{"id": "plain"}, {"id": "crlf"}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.seen.append(body)
        self.headers.append(dict(request.headers))
        name = body["model"] if self._lets_in(request) else "401"
        if name == "long" and "response_format" in body:
            name = "plain"
        if name in STATUSES:
            status, text, headers = STATUSES[name]
            text = text.replace("bad key", f"bad key {request.headers.get('Authorization', '')}")  # as some do
            return web.Response(status=status, text=text, headers=headers)
        if name == "not a stream":
            return web.json_response({"choices": []})
        if not body.get("stream"):
            return await self._whole(request, name)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        self.open_streams += 1
        try:
            if name in ("endless", "long"):
                while True:
                    await response.write(f"data: {chunk('more ')}\n\n".encode())
                    await asyncio.sleep(0.002)
            if name == "endless line":
                while True:
                    await response.write(b"data: " + b"x" * 2**18)
            if name == "silent":
                await response.write(f"data: {HELLO[0]}\n\n".encode())
                await asyncio.sleep(60)
            if name == "byte by byte":
                for byte in STREAMS["crlf"]:
                    await response.write(bytes([byte]))
            if name == "reset":
                await response.write(f"data: {HELLO[0]}\n\n".encode())
                assert request.transport is not None
                request.transport.abort()
                return response
            await response.write(STREAMS.get(name, b""))
        except ConnectionError:
            return response  # the reader left
        finally:
            self.open_streams -= 1
        return response

    async def _whole(self, request: web.Request, name: str) -> web.StreamResponse:
        if name in WHOLES or name == "long":  # whose streams alone have no end
            return web.Response(body=WHOLES["plain" if name == "long" else name], content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self.open_streams += 1
        try:
            if name == "silent":
                await asyncio.sleep(60)
            while name == "endless":
                await response.write(b" " * 2**18)
        except ConnectionError:
            return response  # the reader left
        finally:
            self.open_streams -= 1
        return response

    async def _embed(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.seen.append(body)
        if body["model"] in STATUSES:
            status, text, headers = STATUSES[body["model"]]
            return web.Response(status=status, text=text, headers=headers)
        data = [{"index": at, "embedding": [float(len(text)), 1.0]} for at, text in enumerate(body["input"])]
        if body["model"] == "ragged":
            data[0]["embedding"] = [1.0] * (len(body["input"]) + 1)
        return web.json_response({"data": data[::-1], "usage": {"prompt_tokens": 5}})
