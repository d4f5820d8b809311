"""The data plane as the command line calls it: chat, embeddings, Open Inference Protocol."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from stoker.client.connection import Connection, decode
from stoker.client.sse import events
from stoker.types.errors import EngineFailed, StokerError, all_codes
from stoker.types.models import TensorSpec

_JSON: Final = {"Content-Type": "application/json"}
# A whole answer on a slow machine; the endpoint's own timeout ends a request long before.
ANSWER_TIMEOUT_S: Final = 600.0


class ModelMetadata(msgspec.Struct, frozen=True):
    """`GET /v2/models/NAME`."""

    name: str
    platform: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


class Tokens(msgspec.Struct, frozen=True):
    """`usage` of an OpenAI answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ChatPiece:
    """A piece of an answer. The last one has `usage`; `finish_reason` comes before it."""

    text: str = ""
    finish_reason: str | None = None
    usage: Tokens | None = None


class Delta(msgspec.Struct, frozen=True):
    """What a chunk adds to the answer."""

    content: str | None = None


class Choice(msgspec.Struct, frozen=True):
    """One of the answers that are made; stoker makes one."""

    delta: Delta = Delta()
    finish_reason: str | None = None


class StreamProblem(msgspec.Struct, frozen=True):
    """How a stream ends that cannot go on."""

    message: str = "the stream ended with an error"
    code: str | int | None = None


class Chunk(msgspec.Struct, frozen=True):
    """One event of a chat's stream."""

    choices: tuple[Choice, ...] = ()
    usage: Tokens | None = None
    error: StreamProblem | None = None


class _Named(msgspec.Struct, frozen=True):
    id: str


class _ModelList(msgspec.Struct, frozen=True):
    data: tuple[_Named, ...] = ()


class _Embedding(msgspec.Struct, frozen=True):
    embedding: list[float]


class _Embeddings(msgspec.Struct, frozen=True):
    data: tuple[_Embedding, ...]


@dataclass(frozen=True, slots=True)
class DataClient:
    """Calls of the data plane. `project` names whose endpoints are meant when the key may name any."""

    connection: Connection
    project: str = ""

    def models(self) -> tuple[str, ...]:
        """Return the endpoints this key may call."""
        answer = self.connection.exchange("GET", "/v1/models", headers=self._headers())
        return tuple(one.id for one in decode(answer.body, _ModelList).data)

    def chat(
        self,
        endpoint: str,
        messages: list[dict[str, str]],
        options: dict[str, Any],
        comment: Callable[[str], None] | None = None,
    ) -> Generator[ChatPiece, None, None]:
        """Yield an answer as it is made; closing the iterator cancels it down to the engine.

        Args:
            endpoint: the endpoint's name.
            messages: the conversation, oldest first, as OpenAI's `messages`.
            options: further fields of the request, such as `temperature` and `max_tokens`.
            comment: is told what the gateway says beside the answer, such as how far a load is.
        """
        request = {
            **options,
            "model": endpoint,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        pieces = self.connection.stream(
            "POST",
            "/v1/chat/completions",
            body=msgspec.json.encode(request),
            headers=self._headers(),
            timeout_s=ANSWER_TIMEOUT_S,
        )
        for payload in events(pieces, comment):
            chunk = read_chunk(payload)
            choice = chunk.choices[0] if chunk.choices else Choice()
            yield ChatPiece(choice.delta.content or "", choice.finish_reason, chunk.usage)

    def embed(self, endpoint: str, texts: list[str]) -> list[list[float]]:
        """Return one vector a text."""
        body = msgspec.json.encode({"model": endpoint, "input": texts, "encoding_format": "float"})
        answer = self.connection.exchange(
            "POST", "/v1/embeddings", body=body, headers=self._headers(), timeout_s=ANSWER_TIMEOUT_S
        )
        return [one.embedding for one in decode(answer.body, _Embeddings).data]

    def metadata(self, endpoint: str) -> ModelMetadata:
        """Return what goes into an endpoint and what comes out."""
        answer = self.connection.exchange("GET", f"/v2/models/{endpoint}", headers=self._headers())
        return decode(answer.body, ModelMetadata)

    def infer(self, endpoint: str, body: bytes, *, json_bytes: int | None = None) -> bytes:
        """Return the answer (JSON) of an inference request.

        Args:
            endpoint: the endpoint's name.
            body: the request; JSON, followed by raw tensors when `json_bytes` says where the JSON ends.
            json_bytes: length of the JSON part of a body with binary tensors.
        """
        headers = self._headers()
        if json_bytes is not None:
            headers["Content-Type"] = "application/octet-stream"
            headers["Inference-Header-Content-Length"] = str(json_bytes)
        where = f"/v2/models/{endpoint}/infer"
        return self.connection.exchange("POST", where, body=body, headers=headers, timeout_s=ANSWER_TIMEOUT_S).body

    def ask(self, path: str, body: bytes) -> bytes:
        """POST a JSON body to a route of the data plane and return the answer's."""
        return self.connection.exchange(
            "POST", path, body=body, headers=self._headers(), timeout_s=ANSWER_TIMEOUT_S
        ).body

    def _headers(self) -> dict[str, str]:
        return {**_JSON, **({"x-stoker-project": self.project} if self.project else {})}


def read_chunk(payload: bytes) -> Chunk:
    """Return an event of a chat's stream. Raises the error that it tells."""
    chunk = decode(payload, Chunk)
    if chunk.error is not None:
        kind: type[StokerError] = all_codes().get(str(chunk.error.code), EngineFailed)
        raise kind(chunk.error.message)
    return chunk
