"""What OpenVINO's pipeline is asked for one request: a prompt each, its choices, and what cannot be asked of it."""

import secrets
from typing import Any

import msgspec

from stoker.protocol.openai import ChatRequest, CompletionRequest, Tool, texts_or_tokens
from stoker.protocol.openai import Sampling as Asked
from stoker.runtime.engines.choices import CHOICES_MAX, CallMode, Job, Run, answer_schema, stop_texts
from stoker.runtime.engines.openvino_grammar import compact_grammar, refuse_unenforced
from stoker.runtime.engines.openvino_wire import Form, Grammar, Ready, Sampling
from stoker.runtime.engines.tools import (
    NO_PARAMETERS,
    call_schema,
    callable_tools,
    must_call,
    plain_messages,
    tool_prompt,
)
from stoker.types.errors import InvalidInput, Unsupported

SEED_MASK = 2**31 - 1
# What is not asked for is as llama.cpp has it, so that another engine for the same model is another speed and not
# another character. (The pipeline's own default is the likeliest token, always.)
TEMPERATURE, TOP_P, TOP_K, MIN_P = 0.8, 0.95, 40, 0.05


class Ask(msgspec.Struct, frozen=True):
    """One request: how its answers are read (`job`), and its prompts, one Add each without the choices' ids."""

    job: Job
    prompts: tuple[list[dict[str, str]] | str | list[int], ...]
    sampling: Sampling
    seeds: tuple[int, ...]  # one a choice of a prompt
    tokens_max: int | None
    stops: tuple[str, ...]
    grammar: Grammar | None = None
    logprobs: bool = False


def chat_ask(request: ChatRequest, ready: Ready) -> Ask:
    """Return what a chat request asks. Raises InvalidInput and Unsupported with the field."""
    schema = answer_schema(request)
    tools = callable_tools(request)
    calls: CallMode = "never"
    grammar, extra_system = None, ""
    if tools:
        if schema is not None:
            raise Unsupported(
                "tools and response_format together are not supported; send one of them", field="response_format"
            )
        calls = "must" if must_call(request) else "may"
        schema = call_schema(tools)
        grammar = Grammar(
            calls=tuple(
                (
                    tool.function.name,
                    _form(_parameters(tool), f"tools[{at}].function.parameters"),
                )
                for at, tool in enumerate(tools)
            ),
            may_be_text=calls == "may",
        )
        extra_system = tool_prompt(tools, must=calls == "must")
    elif schema is not None:
        grammar = Grammar(_form(schema, "response_format.json_schema.schema"))
    if request.top_logprobs:
        raise Unsupported(
            "top_logprobs is not supported by the openvino engine: it knows the log-probability of the token it took, "
            "not of the others; leave it out or use the llamacpp engine",
            field="top_logprobs",
        )
    messages = plain_messages(request.messages, extra_system)
    _check_length(sum(len(message["content"]) for message in messages), ready)
    seeds = _seeds(request)
    stops = tuple(stop_texts(request))
    runs = tuple(Run(index, 0) for index in range(len(seeds)))
    job = Job(True, runs, schema=schema, calls=calls, has_stops=bool(stops))
    tokens_max = request.max_completion_tokens or request.max_tokens
    return Ask(job, (messages,), _sampling(request), seeds, tokens_max, stops, grammar, bool(request.logprobs))


def completion_ask(request: CompletionRequest, ready: Ready) -> Ask:
    """Return what a text completion asks. Raises InvalidInput and Unsupported with the field."""
    prompts = texts_or_tokens(request.prompt, "prompt")
    seeds = _seeds(request)
    if len(prompts) * len(seeds) > CHOICES_MAX:
        raise InvalidInput(
            f"{len(prompts)} prompts × n = {len(seeds)}; at most {CHOICES_MAX} choices are made", field="n"
        )
    if request.logprobs:
        raise Unsupported("logprobs above 0 are not supported by the openvino engine", field="logprobs")
    if request.echo and request.logprobs is not None:
        raise Unsupported("echo with logprobs is not supported: the engine does not score the prompt", field="echo")
    runs: list[Run] = []
    for at, prompt in enumerate(prompts):
        if not prompt:
            raise InvalidInput("prompt is empty; the model needs at least one token", field="prompt")
        if isinstance(prompt, str):
            _check_length(len(prompt), ready)
        elif any(not 0 <= token < ready.vocabulary for token in prompt):
            raise InvalidInput(f"prompt has a token id that is not from 0 to {ready.vocabulary - 1}", field="prompt")
        if request.echo and not isinstance(prompt, str):
            raise Unsupported("echo of a prompt in token ids is not supported; send it as text", field="echo")
        echo = prompt if request.echo and isinstance(prompt, str) else ""
        runs.extend(Run(at * len(seeds) + choice, at, echo=echo) for choice in range(len(seeds)))
    stops = tuple(stop_texts(request))
    job = Job(False, tuple(runs), has_stops=bool(stops))
    return Ask(
        job, tuple(prompts), _sampling(request), seeds, request.max_tokens, stops, None, request.logprobs is not None
    )


def _check_length(characters: int, ready: Ready) -> None:
    """Refuse a text that cannot fit whatever its tokens are, before anything walks through it."""
    if characters > ready.context * ready.token_bytes_max:
        raise InvalidInput(
            f"This model's maximum context length is {ready.context} tokens. However, your prompt has {characters} "
            "characters. Please shorten it (context_length_exceeded)."
        )


def _sampling(request: Asked) -> Sampling:
    if request.logit_bias:
        raise Unsupported("logit_bias is not supported by the openvino engine", field="logit_bias")
    return Sampling(
        temperature=TEMPERATURE if request.temperature is None else request.temperature,
        top_p=TOP_P if request.top_p is None else request.top_p,
        top_k=TOP_K if request.top_k is None else request.top_k,
        min_p=MIN_P if request.min_p is None else request.min_p,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        ignore_eos=bool(request.ignore_eos),
    )


def _seeds(request: Asked) -> tuple[int, ...]:
    """Return a seed a choice: the same every time when the client gave one."""
    first = secrets.randbits(31) if request.seed is None else request.seed
    return tuple((first + choice) & SEED_MASK for choice in range(request.n or 1))


def _parameters(tool: Tool) -> dict[str, Any]:
    return {"type": "object", **(tool.function.parameters or NO_PARAMETERS)}


def _form(schema: dict[str, Any], field: str) -> Form:
    """Return how answers are held to a checked schema. Raises Unsupported for what the pipeline would not enforce."""
    refuse_unenforced(schema, field)
    return Form(compact_grammar(schema), msgspec.json.encode(schema).decode())
