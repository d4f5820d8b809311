"""What llama.cpp is asked for one request: a body for each choice, and how its text is to be read."""

from typing import Any

import msgspec

from stoker.protocol.openai import ChatRequest, CompletionRequest, Sampling, texts_or_tokens
from stoker.runtime.engines.choices import CHOICES_MAX, CallMode, Job, Run, answer_schema, stop_texts
from stoker.runtime.engines.tools import call_schema, callable_tools, must_call, plain_messages, tool_prompt
from stoker.types.errors import InvalidInput, Unsupported

SEED_MASK = 0xFFFFFFFF  # the engine's seeds have 32 bits, and this one means "random"


def chat_job(request: ChatRequest, vocabulary: int) -> Job:
    """Return the job of a chat request. Raises InvalidInput and Unsupported with the field."""
    schema = answer_schema(request)
    tools = callable_tools(request)
    calls: CallMode = "never"
    grammar, extra_system = "", ""
    if tools:
        if schema is not None:
            raise Unsupported(
                "tools and response_format together are not supported; send one of them", field="response_format"
            )
        calls = "must" if must_call(request) else "may"
        schema = call_schema(tools)
        grammar = json_grammar(schema) if calls == "must" else optional_call_grammar(schema)
        extra_system = tool_prompt(tools, must=calls == "must")
    elif schema is not None:
        grammar = json_grammar(schema)
    top = (request.top_logprobs or 0) if request.logprobs else None
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidInput("top_logprobs needs logprobs: true", field="top_logprobs")
    common: dict[str, Any] = {
        **_sampling(request, request.max_completion_tokens or request.max_tokens, vocabulary),
        "messages": plain_messages(request.messages, extra_system),
        "stream_options": {"include_usage": True},
    }
    if top is not None:
        common |= {"logprobs": True, "top_logprobs": max(1, top)}
    if grammar:
        common["grammar"] = grammar
    bodies = _bodies(common, request)
    runs = tuple(Run(index, 0, body) for index, body in enumerate(bodies))
    return Job(True, runs, grammar, schema, calls, bool(request.stop), top)


def completion_job(request: CompletionRequest, vocabulary: int) -> Job:
    """Return the job of a text completion. Raises InvalidInput and Unsupported with the field."""
    prompts = texts_or_tokens(request.prompt, "prompt")
    n = request.n or 1
    if len(prompts) * n > CHOICES_MAX:
        raise InvalidInput(f"{len(prompts)} prompts × n = {n}; at most {CHOICES_MAX} choices are made", field="n")
    if request.echo and request.logprobs is not None:
        raise Unsupported("echo with logprobs is not supported: the engine does not score the prompt", field="echo")
    common = _sampling(request, request.max_tokens, vocabulary)
    if request.logprobs is not None:
        common["logprobs"] = max(1, request.logprobs)
    runs: list[Run] = []
    for at, prompt in enumerate(prompts):
        if not prompt:
            raise InvalidInput("prompt is empty; the model needs at least one token", field="prompt")
        if request.echo and not isinstance(prompt, str):
            raise Unsupported("echo of a prompt in token ids is not supported; send it as text", field="echo")
        echo = prompt if request.echo and isinstance(prompt, str) else ""
        bodies = _bodies({**common, "prompt": prompt}, request)
        runs.extend(Run(at * n + choice, at, body, echo) for choice, body in enumerate(bodies))
    return Job(False, tuple(runs), has_stops=bool(request.stop), top_logprobs=request.logprobs)


def json_grammar(schema: dict[str, Any]) -> str:
    """Return the grammar of compact JSON under `schema`.

    Without spaces, because a small model that may write them writes little else: 54 tokens became 16 for one answer.
    """
    return f"%llguidance {{}}\nstart: {_json_rule(schema)}"


def optional_call_grammar(schema: dict[str, Any]) -> str:
    """Return the grammar of an answer that is either JSON under `schema` or text that does not begin with a brace."""
    return f"%llguidance {{}}\nstart: call | TEXT\ncall: {_json_rule(schema)}\nTEXT: /[^{{](.|\\n)*/"


def _json_rule(schema: dict[str, Any]) -> str:
    return "%json " + msgspec.json.encode({**schema, "x-guidance": {"whitespace_flexible": False}}).decode()


def _sampling(request: Sampling, tokens_max: int | None, vocabulary: int) -> dict[str, Any]:
    """Return what both kinds share. What the client left out is the engine's own default, or the model's."""
    body: dict[str, Any] = {
        "stream": True,  # an answer that is not streamed cannot be aborted
        "return_progress": True,  # a callback in each step of the prompt, so that this part can be aborted too
        "max_tokens": tokens_max if tokens_max is not None else -1,  # -1: until the context is full
    }
    for name in ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "ignore_eos"):
        value = getattr(request, name)
        if value is not None:
            body[name] = value
    if stops := stop_texts(request):
        body["stop"] = stops
    if request.logit_bias:
        body["logit_bias"] = [_bias(key, value, vocabulary) for key, value in request.logit_bias.items()]
    return body


def _bias(key: str, value: float, vocabulary: int) -> list[int | float]:
    if not key.isdecimal() or (vocabulary and int(key) >= vocabulary):
        raise InvalidInput(
            f"logit_bias has the key {key!r}; expected a token id below {vocabulary}", field="logit_bias"
        )
    if not -100 <= value <= 100:
        raise InvalidInput(f"logit_bias of token {key} is {value}; expected -100 to 100", field="logit_bias")
    return [int(key), value]


def _bodies(common: dict[str, Any], request: Sampling) -> list[bytes]:
    """Return one body a choice; a seed gives each choice its own, the same every time."""
    bodies = []
    for choice in range(request.n or 1):
        if request.seed is not None:
            seed = (request.seed + choice) & SEED_MASK
            common = {**common, "seed": 0 if seed == SEED_MASK else seed}
        bodies.append(msgspec.json.encode(common))
    return bodies
