"""What is asked of servers and models over gRPC: the handlers of HTTP answer it, their JSON becomes the message."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from stoker.gateway.directory import Directory
from stoker.gateway.exchange import Exchange, Handler, Work
from stoker.gateway.http.incoming import HttpRequest
from stoker.gateway.protocols import oip_http
from stoker.gateway.router import Route
from stoker.gateway.rpc import call as calls
from stoker.gateway.rpc.call import Answer, RpcShapes
from stoker.gateway.stack import Stack
from stoker.protocol import protobuf
from stoker.protocol.protobuf import Method
from stoker.types.errors import StokerError

_decode: Final = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Question:
    """One method. `needs_key`: only who has one may ask. `read`: the answer as the message's JSON; None: an error."""

    handle: Handler
    needs_key: bool
    read: Callable[[Any, Answer], Any]

    async def answer(self, method: Method, head: HttpRequest, message: bytes, context: Any) -> bytes:
        """Answer one call."""
        calls.hold_deadline(head, context.time_remaining())
        try:
            request: Any = calls.decode(method.request, message)
        except StokerError as problem:
            await calls.refuse_with(context, problem, "")
        names = (getattr(request, "name", ""), getattr(request, "version", ""))
        answer = await calls.ask(Route(RpcShapes(), self.handle), head, names, context)
        found = self.read(request, answer)
        if found is None:
            await calls.refuse(context, answer)
        context.set_trailing_metadata(tuple(answer.trailers()))
        return protobuf.from_json(method.response, found).SerializeToString()  # type: ignore[no-any-return]


def questions(stack: Stack) -> dict[str, Question]:
    """Return every method that is asked and answered so."""

    def bound(answer: Callable[[Exchange, Directory], Work]) -> Handler:
        return lambda exchange: answer(exchange, stack.directory)

    def reading(answer: Callable[[Exchange, Directory], Work], read: Callable[[Any, Answer], Any]) -> Question:
        return Question(stack.reading(bound(answer)), True, read)

    return {
        "ServerLive": Question(stack.open(oip_http.live), False, _plain),
        "ServerReady": Question(stack.open(bound(oip_http.ready)), False, _server_ready),
        "ServerMetadata": Question(stack.open(oip_http.server_metadata), False, _plain),
        "ModelReady": reading(oip_http.model_ready, _model_ready),
        "ModelMetadata": reading(oip_http.model_metadata, _plain),
        "ModelConfig": reading(oip_http.model_config, _config),
        "ModelStatistics": reading(oip_http.model_stats, _plain),
        "RepositoryIndex": reading(oip_http.repository_index, _index),
    }


def _plain(_request: Any, answer: Answer) -> Any:
    return _decode(answer.body) if answer.status == 200 else None


def _server_ready(_request: Any, answer: Answer) -> Any:
    return _decode(answer.body)  # also with 503


def _model_ready(_request: Any, answer: Answer) -> Any:
    """Return whether it is; a model that is not there is not ready, as Triton says it."""
    return {"ready": answer.status == 200} if answer.status in (200, 404, 503) else None


def _config(_request: Any, answer: Answer) -> Any:
    return {"config": _decode(answer.body)} if answer.status == 200 else None


def _index(request: Any, answer: Answer) -> Any:
    if answer.status != 200:
        return None
    return {"models": [each for each in _decode(answer.body) if each["state"] == "READY" or not request.ready]}
