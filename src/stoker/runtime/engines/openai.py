"""Any OpenAI-compatible server as an engine: somebody else's by URL, or one of our own started by command.

Gateways send chats and completions to the server themselves (`RemoteGenerate.direct`, gateway/remote/); what comes
through here is embeddings, and what they leave to it: answers held to a schema, and suspects.

One connection a request, closed with it: that is how such servers learn that nobody reads any more, and a pooled
connection that went stale would fail a request for no reason. Redirects are not followed, so a key goes only where the
endpoint says.
"""

import contextlib
import http.client
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import numpy as np
from msgspec import Meta

from stoker.protocol.direct import SEVERED, Direct
from stoker.protocol.openai import ChatRequest, CompletionRequest, texts_or_tokens
from stoker.protocol.openai_chunks import events, status_error
from stoker.runtime import caller, options
from stoker.runtime.engines.json_schema import check_schema
from stoker.runtime.engines.openai_answer import Answer
from stoker.runtime.engines.openai_child import Child
from stoker.runtime.engines.port import Embeddings, Progress
from stoker.types.errors import DeadlineExceeded, EngineFailed, InvalidInput, NotReachable
from stoker.types.generation import Delta, Final, Finish
from stoker.types.replica import ReplicaSpec

ANSWER_BYTES_MAX = 256 * 2**20  # of one embedding answer
ERROR_BYTES_MAX = 64 * 2**10
LISTING_BYTES_MAX = 4 * 2**20
CONNECT_TIMEOUT_S = 10.0
PROBE_TIMEOUT_S = 30.0


_STREAM = {"Content-Type": "application/json", "Accept": "text/event-stream"}


class OpenAIOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Engine options of an endpoint that another server answers. One of `url` and `command` is needed."""

    url: str = ""  # with its version path, such as https://api.example.com/v1
    command: list[str] = []  # a server to start; `{port}` in it becomes the port it shall listen on
    path: str = "/v1"  # where the API of `command` begins
    ready_path: str = "/health"  # answers 200 once `command` can work
    start_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 300.0
    model: str = ""  # what the server calls it; may be left out when it has one model only
    api_key: str = ""  # the key; a manifest names it, and a gateway hands it over (runtime/handed.py)
    api_key_env: str = ""  # or the name of the variable of the replica's environment with it
    api_key_file: str = ""  # or a file with it; control makes a reference of it
    timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 600.0
    slots: Annotated[int, Meta(ge=1, le=4096)] | None = None  # requests sent to it at once; by default learned
    context: Annotated[int, Meta(ge=0)] = 0  # its context length, when known


class _ListedModel(msgspec.Struct):
    id: str


class _Listing(msgspec.Struct):
    data: list[_ListedModel] = []


class _Vector(msgspec.Struct):
    embedding: list[float]
    index: int = 0


class _VectorUsage(msgspec.Struct):
    prompt_tokens: int = 0


class _Vectors(msgspec.Struct):
    data: list[_Vector]
    usage: _VectorUsage | None = None


def load(spec: ReplicaSpec, progress: Progress) -> "RemoteGenerate | RemoteEmbed":
    """Start or find the server and see that it answers. See port.Load."""
    chosen = options.read(spec, OpenAIOptions)
    if bool(chosen.url) == bool(chosen.command):
        raise InvalidInput("the openai engine needs either url or command", field="options.url")
    key = _key(chosen)
    child = None
    url = chosen.url.rstrip("/")
    try:
        if chosen.command:
            child = Child(chosen.command, _end_with_child)
            child.wait_ready(chosen.ready_path, chosen.start_timeout_s, progress)
            url = f"http://127.0.0.1:{child.port}{chosen.path.rstrip('/')}"
        progress("model", 0.95)
        server = Server(url, key, chosen.timeout_s)
        model = server.find_model(chosen.model)
        if spec.task == "embed":
            return RemoteEmbed(server, model, child)
        if spec.task == "chat":
            return RemoteGenerate(server, model, chosen, child)
        raise InvalidInput(f"the openai engine serves chat and embed, not {spec.task}", field="task")
    except BaseException:
        if child is not None:
            child.close()
        raise


class Server:
    """Where requests go, and with which key."""

    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        self._parts = urlsplit(url)
        if self._parts.scheme not in ("http", "https") or not self._parts.hostname:
            raise InvalidInput(f"{url!r} is no http or https URL", field="options.url")
        self.url = url
        self.timeout_s = timeout_s
        self.headers: dict[str, str] = {}
        self.is_severed = False
        self.rekey(key)

    def rekey(self, key: str) -> None:
        """Send `key` from now on; "" for none."""
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def check(self) -> None:
        """Raise NotReachable while it is to be taken as out of reach."""
        if self.is_severed:
            raise NotReachable(f"{self.url} cannot be reached: {SEVERED}", retry_after_s=1.0)

    def find_model(self, wanted: str) -> str:
        """Return the model's name on the server; blocks. Raises InvalidInput when it has to be named."""
        status, body = self.exchange("GET", "/models", None, PROBE_TIMEOUT_S, LISTING_BYTES_MAX)
        if status in (401, 403) or status >= 500:
            raise status_error(status, body, None, sent=self.headers.get("Authorization", ""))
        if wanted:
            return wanted  # a server need not list what it serves
        try:
            names = [model.id for model in msgspec.json.decode(body, type=_Listing).data] if status == 200 else []
        except msgspec.DecodeError:
            names = []
        if len(names) != 1:
            shown = ", ".join(names[:20]) or "a list that cannot be read"
            raise InvalidInput(f"set the option model: the server has {shown}", field="options.model")
        return names[0]

    def exchange(
        self, method: str, path: str, body: bytes | None, timeout_s: float, bytes_max: int
    ) -> tuple[int, bytes]:
        """Send one request and return status and body; blocks. Raises NotReachable, DeadlineExceeded, EngineFailed."""
        self.check()
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=timeout_s)
        try:
            headers = {**self.headers, **caller.headers(), "Content-Type": "application/json"}
            connection.request(method, self._parts.path + path, body, headers)
            response = connection.getresponse()
            answer = response.read(bytes_max + 1)
        except TimeoutError as late:
            raise DeadlineExceeded(f"{self.url} did not answer in {timeout_s:.0f} s") from late
        except (OSError, http.client.HTTPException) as down:
            raise NotReachable(f"{self.url} cannot be reached: {down}", retry_after_s=1.0) from down
        finally:
            connection.close()
        if len(answer) > bytes_max:
            raise EngineFailed(f"{self.url} answered with over {bytes_max} bytes")
        return response.status, answer


class RemoteGenerate:
    """A GenerateEngine over another server."""

    def __init__(self, server: Server, model: str, chosen: OpenAIOptions, child: Child | None) -> None:
        self.slots = chosen.slots or 0
        self.context_tokens = chosen.context
        self.direct = Direct(server.url, model, server.headers.get("Authorization", ""), chosen.timeout_s)
        self._server = server
        self._model = model
        self._child = child

    def rekey(self, key: str) -> None:
        """See port.TakesKey."""
        self._server.rekey(_printable(key, "options.api_key"))
        self.direct = msgspec.structs.replace(self.direct, authorization=self._server.headers.get("Authorization", ""))

    @property
    def is_severed(self) -> bool:
        """See port.CallsOut."""
        return self._server.is_severed

    @is_severed.setter
    def is_severed(self, is_severed: bool) -> None:
        self._server.is_severed = is_severed

    async def generate(self, request: ChatRequest | CompletionRequest) -> AsyncIterator[Delta | Finish | Final]:
        """See port.GenerateEngine."""
        self._server.check()
        is_chat = isinstance(request, ChatRequest)
        prompts = 1 if isinstance(request, ChatRequest) else len(texts_or_tokens(request.prompt, "prompt"))
        answer = Answer((request.n or 1) * prompts, _comparable_schema(request))
        begun_s = time.monotonic()
        first_s = 0.0
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(force_close=True),
                    timeout=aiohttp.ClientTimeout(total=self._server.timeout_s, sock_connect=CONNECT_TIMEOUT_S),
                ) as session,
                session.post(
                    self._server.url + ("/chat/completions" if is_chat else "/completions"),
                    data=self._body(request),
                    headers={**self._server.headers, **caller.headers(), **_STREAM},
                    allow_redirects=False,
                ) as response,
            ):
                await _check(response)
                async for payload in events(response.content.iter_any()):
                    for item in answer.read(payload):
                        first_s = first_s or time.monotonic()
                        yield item
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as down:
            raise NotReachable(f"{self._server.url} cannot be reached: {down}", retry_after_s=1.0) from down
        except TimeoutError as late:
            raise DeadlineExceeded(f"the upstream server took over {self._server.timeout_s:.0f} s") from late
        except aiohttp.ClientError as cut:
            raise EngineFailed(f"the connection to the upstream server broke: {cut or type(cut).__name__}") from cut
        answer.check_complete()
        end_s = time.monotonic()
        first_s = first_s or end_s
        yield Final(answer.usage, prefill_s=first_s - begun_s, decode_s=end_s - first_s)

    def kv_used_ratio(self) -> float:
        """See port.GenerateEngine; another server's memory is not known here."""
        return 0.0

    def close(self) -> None:
        """See port.GenerateEngine."""
        if self._child is not None:
            self._child.close()

    def _body(self, request: ChatRequest | CompletionRequest) -> bytes:
        fields: dict[str, Any] = _present(request)
        return msgspec.json.encode(
            {**fields, "model": self._model, "stream": True, "stream_options": {"include_usage": True}}
        )


class RemoteEmbed:
    """An EmbedEngine over another server; its calls block, as the replica's batches expect."""

    def __init__(self, server: Server, model: str, child: Child | None) -> None:
        self._server = server
        self._model = model
        self._child = child
        self.dimensions = 0
        self.dimensions = int(self.embed(["dimensions"]).vectors.shape[1])

    def rekey(self, key: str) -> None:
        """See port.TakesKey."""
        self._server.rekey(_printable(key, "options.api_key"))

    @property
    def is_severed(self) -> bool:
        """See port.CallsOut."""
        return self._server.is_severed

    @is_severed.setter
    def is_severed(self, is_severed: bool) -> None:
        self._server.is_severed = is_severed

    def embed(self, texts: list[str]) -> Embeddings:
        """See port.EmbedEngine. The server counts tokens for all texts together; each gets an equal share."""
        body = msgspec.json.encode({"model": self._model, "input": texts, "encoding_format": "float"})
        status, answer = self._server.exchange("POST", "/embeddings", body, self._server.timeout_s, ANSWER_BYTES_MAX)
        if status != 200:
            raise status_error(status, answer, None, sent=self._server.headers.get("Authorization", ""))
        try:
            found = msgspec.json.decode(answer, type=_Vectors)
            vectors = np.array([item.embedding for item in sorted(found.data, key=_index_of)], dtype=np.float32)
        except (msgspec.DecodeError, ValueError) as broken:
            raise EngineFailed(f"the upstream server sent no embeddings: {broken}") from broken
        if vectors.ndim != 2 or len(vectors) != len(texts) or (self.dimensions and vectors.shape[1] != self.dimensions):
            raise EngineFailed(f"the upstream server sent vectors of shape {vectors.shape} for {len(texts)} texts")
        total = found.usage.prompt_tokens if found.usage is not None else 0
        share, rest = divmod(total, len(texts))
        return Embeddings(vectors, [share + (at < rest) for at in range(len(texts))])

    def close(self) -> None:
        """See port.EmbedEngine."""
        if self._child is not None:
            self._child.close()


async def _check(response: aiohttp.ClientResponse) -> None:
    """Raise what a response that is no stream of events means."""
    if response.status != 200:
        body = await response.content.read(ERROR_BYTES_MAX)
        asked = response.request_info.headers.get("Authorization", "")
        raise status_error(response.status, body, response.headers.get("Retry-After"), sent=asked)
    if response.content_type != "text/event-stream":
        raise EngineFailed(f"the upstream server did not stream: it answered with {response.content_type}")


def _comparable_schema(request: ChatRequest | CompletionRequest) -> dict[str, Any] | None:
    """Return the schema a complete answer is compared with, None for none, or one that is not understood here.

    Other servers ignore what they cannot enforce, too.
    """
    form = request.response_format if isinstance(request, ChatRequest) and not request.stop else None
    if form is None or form.type == "text":
        return None
    if form.type == "json_object" or form.json_schema is None:
        return {"type": "object"}
    with contextlib.suppress(InvalidInput):
        return check_schema(form.json_schema.schema, "schema")
    return None


def _present(value: Any) -> Any:
    """Return a request as plain values without what the client left out: some servers refuse a null."""
    if isinstance(value, msgspec.Struct):
        found = ((name, getattr(value, name)) for name in value.__struct_fields__)
        return {name: _present(inner) for name, inner in found if inner is not None}
    return [_present(inner) for inner in value] if isinstance(value, list) else value


def _index_of(item: _Vector) -> int:
    return item.index


def _key(chosen: OpenAIOptions) -> str:
    if chosen.api_key:
        return _printable(chosen.api_key, "options.api_key")
    if chosen.api_key_env:
        key = os.environ.get(chosen.api_key_env, "")
        if not key:
            raise InvalidInput(f"the variable {chosen.api_key_env} is not set", field="options.api_key_env")
        return _printable(key.strip(), "options.api_key_env")
    if chosen.api_key_file:
        try:
            return _printable(Path(chosen.api_key_file).read_text().strip(), "options.api_key_file")
        except (OSError, UnicodeDecodeError) as unreadable:
            raise InvalidInput(f"the key cannot be read: {unreadable}", field="options.api_key_file") from unreadable
    return ""


def _printable(key: str, field: str) -> str:
    """Return `key`. Raises InvalidInput for one with line breaks or the like: it becomes a part of a header."""
    if not key.isascii() or not key.isprintable():
        raise InvalidInput("the key has characters that no header may have", field=field)
    return key


def _end_with_child(last_words: str) -> None:
    """A replica without its server can answer nothing: end it, in its own orderly way, for the agent to start anew."""
    with contextlib.suppress(OSError):
        os.write(2, f"{last_words}; this replica ends\n".encode())
    os.kill(os.getpid(), signal.SIGTERM)
