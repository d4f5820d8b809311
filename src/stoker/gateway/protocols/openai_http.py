"""OpenAI's API over the data plane: models, chat, completions, embeddings."""

from typing import Final

import msgspec

from stoker.gateway.directory import Directory
from stoker.gateway.exchange import Exchange
from stoker.gateway.fleet.choice import Choice
from stoker.gateway.http import replies
from stoker.gateway.lane import Lane
from stoker.gateway.protocols import migration, prefix
from stoker.gateway.protocols.prefix import Wish
from stoker.protocol import openai, openai_reply
from stoker.types.errors import InvalidInput, StokerError, TooLarge

_TASKS: Final = {"chat": "chat", "completions": "chat", "embeddings": "embed"}
_PATHS: Final = {"chat": "/v1/chat/completions", "embed": "/v1/embeddings", "predict": "/v2/models/{name}/infer"}


class OpenAIShapes:
    """Errors as OpenAI's SDKs read them."""

    def error_body(self, problem: StokerError) -> bytes:
        """See Shapes."""
        return openai.error_body(problem)

    def error_event(self, problem: StokerError) -> bytes:
        """See Shapes."""
        return openai_reply.error_event(problem)


def prepare_chat(exchange: Exchange, directory: Directory) -> None:
    """Read `POST /v1/chat/completions`."""
    request = openai.decode_chat(exchange.body)
    exchange.max_tokens = (request.max_completion_tokens or request.max_tokens or 0) * (request.n or 1)
    exchange.is_repeatable = request.is_greedy
    choice = _find(exchange, directory, request.model).choice
    if choice.asks:
        exchange.wish = prefix.of_chat(exchange, request, with_prefix=choice.affinity == "prefix")
    _stream(exchange, request)


def prepare_completions(exchange: Exchange, directory: Directory) -> None:
    """Read `POST /v1/completions`."""
    request = openai.decode_completion(exchange.body)
    exchange.max_tokens = (request.max_tokens or 0) * (request.n or 1)
    exchange.is_repeatable = request.is_greedy
    choice = _find(exchange, directory, request.model).choice
    if choice.asks:
        exchange.wish = prefix.of_completion(exchange, request, with_prefix=choice.affinity == "prefix")
    _stream(exchange, request)


def prepare_embeddings(exchange: Exchange, directory: Directory) -> None:
    """Read `POST /v1/embeddings`."""
    request = openai.decode_embedding(exchange.body)
    choice = _find(exchange, directory, request.model).choice
    if choice.asks:
        exchange.wish = prefix.of_session(exchange)
    if choice.arms is not None:
        exchange.user = request.user or ""


def wish(exchange: Exchange, choice: Choice) -> Wish | None:
    """Return where a request that was read before would like to go among the replicas of another endpoint."""
    if not choice.asks:
        return None
    with_prefix = choice.affinity == "prefix"
    if exchange.method == "chat":
        return prefix.of_chat(exchange, openai.decode_chat(exchange.body), with_prefix=with_prefix)
    if exchange.method == "completions":
        return prefix.of_completion(exchange, openai.decode_completion(exchange.body), with_prefix=with_prefix)
    return prefix.of_session(exchange)


async def list_models(exchange: Exchange, directory: Directory) -> None:
    """Answer `GET /v1/models`."""
    assert exchange.key is not None
    seen = directory.visible(exchange.project, exchange.key)
    answer(exchange, {"object": "list", "data": [_model(name, lane) for name, lane in seen]})


async def show_model(exchange: Exchange, directory: Directory) -> None:
    """Answer `GET /v1/models/{id}`."""
    assert exchange.key is not None
    lane = directory.find(exchange.project, exchange.name, exchange.key)
    answer(exchange, _model(exchange.name, lane))


def answer(exchange: Exchange, value: object) -> None:
    """Answer 200 with `value` as JSON."""
    exchange.send(200, replies.JSON, msgspec.json.encode(value))


def _find(exchange: Exchange, directory: Directory, model: str) -> Lane:
    assert exchange.key is not None
    exchange.name = model
    lane = exchange.lane = directory.find(exchange.project, model, exchange.key)
    if lane.task != _TASKS[exchange.method]:
        path = _PATHS[lane.task].format(name=model)
        raise InvalidInput(f"{model} serves {lane.task}; call it at {path}", field="model")
    if len(exchange.body) > lane.route.max_body_bytes:
        raise TooLarge(f"the body is over the {lane.route.max_body_bytes} bytes that {model} takes", field="body")
    return lane


def _stream(exchange: Exchange, request: openai.ChatRequest | openai.CompletionRequest) -> None:
    assert exchange.lane is not None
    if exchange.lane.arms is not None:  # by which an arm of the rollout may be chosen
        exchange.user, exchange.cache_key = request.user or "", request.prompt_cache_key or ""
    if request.stream:
        exchange.stream = True
        exchange.transcript = migration.transcript(request, exchange.lane.route.resume)


def _model(name: str, lane: Lane) -> dict[str, object]:
    return {"id": name, "object": "model", "created": int(lane.route.created_at_s), "owned_by": lane.route.project}
