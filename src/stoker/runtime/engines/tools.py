"""How tools reach a model whose template knows none, and how its text becomes tool calls again.

A call is one JSON object, `{"name": …, "arguments": …}`. With `required` or a named function the engine is held to a
schema of exactly that, so the choice is enforced, not hoped for. With `auto` the tools are described to the model and a
grammar lets it either answer in text or make one valid call; which of the two is the model's choice, and a small model
chooses badly. At most one call is made an answer.
"""

import re
from typing import Any

import msgspec

from stoker.protocol.openai import ChatRequest, Message, NamedToolChoice, Tool
from stoker.runtime.engines.json_schema import check_schema
from stoker.types.errors import InvalidInput
from stoker.types.generation import ToolCallDelta

_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")  # OpenAI's rule; it also keeps names free of what JSON escapes
_CALL = re.compile(r'^\{"name":"([a-zA-Z0-9_-]{1,64})","arguments":')
NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


def callable_tools(request: ChatRequest) -> list[Tool]:
    """Return the tools the model may call in answer to `request`. Raises InvalidInput for what cannot be meant."""
    choice = request.tool_choice
    tools = request.tools or []
    if isinstance(choice, NamedToolChoice):
        named = [tool for tool in tools if tool.function.name == choice.function.name]
        if not named:
            raise InvalidInput(
                f"tool_choice names {choice.function.name!r}, which is not in tools", field="tool_choice"
            )
        tools = named
    elif choice == "none":
        return []
    elif choice == "required" and not tools:
        raise InvalidInput("tool_choice is required but there are no tools", field="tool_choice")
    for at, tool in enumerate(tools):
        if not _NAME.match(tool.function.name):
            raise InvalidInput(
                f"tools[{at}].function.name is {tool.function.name!r}; letters, digits, _ and - are allowed, 1 to 64",
                field=f"tools[{at}].function.name",
            )
    return tools


def must_call(request: ChatRequest) -> bool:
    """Return whether the answer has to be a call."""
    return request.tool_choice == "required" or isinstance(request.tool_choice, NamedToolChoice)


def call_schema(tools: list[Tool]) -> dict[str, Any]:
    """Return the schema of one call of one of `tools`. Raises InvalidInput for parameters that cannot be enforced."""
    calls: list[dict[str, Any]] = []
    shared: dict[str, Any] = {}
    for at, tool in enumerate(tools):
        parameters = dict(tool.function.parameters or NO_PARAMETERS)
        check_schema(parameters, f"tools[{at}].function.parameters")
        parameters.setdefault("type", "object")
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool.function.name}, "arguments": _moved(parameters, at, shared)},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {**schema, "$defs": shared} if shared else schema


def _moved(parameters: dict[str, Any], at: int, shared: dict[str, Any]) -> dict[str, Any]:
    """Return `parameters` for a place deeper in a schema: what it refers to within itself goes to `shared`."""
    if b'"$ref"' not in msgspec.json.encode(parameters):
        return parameters
    home = f"tool{at}"
    shared[home] = _renamed(parameters, f"#/$defs/{home}")
    return {"$ref": f"#/$defs/{home}"}


def _renamed(node: Any, home: str) -> Any:
    if isinstance(node, list):
        return [_renamed(inner, home) for inner in node]
    if not isinstance(node, dict):
        return node
    renamed = {key: _renamed(inner, home) for key, inner in node.items()}
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        renamed["$ref"] = home + reference[1:]
    return renamed


def tool_prompt(tools: list[Tool], *, must: bool) -> str:
    """Return what a model is told about the tools it has."""
    lines = ["You can call these tools:"]
    for tool in tools:
        known: dict[str, Any] = {"name": tool.function.name}
        if tool.function.description:
            known["description"] = tool.function.description
        known["parameters"] = tool.function.parameters or {}
        lines.append(msgspec.json.encode(known).decode())
    form = '{"name":"<tool>","arguments":{<arguments>}}'
    if must:
        lines.append(f"Answer with one call and nothing else, as JSON: {form}")
    else:
        lines.append(
            f"If a tool helps, answer with one call and nothing else, as JSON: {form}. Otherwise answer in text."
        )
    return "\n".join(lines)


def plain_messages(messages: list[Message], extra_system: str = "") -> list[dict[str, str]]:
    """Return the conversation in the three roles every template knows: system, user, assistant.

    Calls made earlier become the text the model would have written, results become what the user reports.
    Raises InvalidInput for content that is not text.
    """
    plain: list[dict[str, str]] = []
    called: dict[str, str] = {}  # call id to function name
    for at, message in enumerate(messages):
        text = _text_of(message, at)
        role: str = message.role
        if role == "developer":
            role = "system"
        elif role in ("tool", "function"):
            name = message.name or called.get(message.tool_call_id or "", "") or "tool"
            role, text = "user", f"Result of {name}:\n{text}"
        elif message.tool_calls:
            called.update((call.id, call.function.name) for call in message.tool_calls)
            calls = [
                f'{{"name":"{call.function.name}","arguments":{call.function.arguments or "{}"}}}'
                for call in message.tool_calls
            ]
            text = "\n".join([text, *calls] if text else calls)
        plain.append({"role": role, "content": text})
    if extra_system and plain[0]["role"] == "system":
        plain[0] = {"role": "system", "content": f"{plain[0]['content']}\n\n{extra_system}"}
    elif extra_system:
        plain.insert(0, {"role": "system", "content": extra_system})
    return plain


def _text_of(message: Message, at: int) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    texts = []
    for part_at, part in enumerate(message.content):
        where = f"messages[{at}].content[{part_at}]"
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type")
            raise InvalidInput(f"{where} is of type {kind!r}; this model takes parts of type 'text' only", field=where)
        texts.append(part["text"])
    return "\n".join(texts)


class CallReader:
    """Turns the pieces of an answer's text into text and tool-call pieces, as early as they are certain.

    The grammar fixes the form (`{"name":"…","arguments":…}` without spaces), so the end of a call is one brace, and an
    answer that does not begin with a brace is text.
    """

    def __init__(self, call_id: str, *, must: bool) -> None:
        self._call_id = call_id
        self._is_text = False
        self._must = must
        self._held = ""
        self._has_begun = False

    @property
    def is_call(self) -> bool:
        """Whether a call has been begun."""
        return self._has_begun

    def feed(self, text: str) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """Return what `text` settles: plain text, call pieces, or neither yet."""
        if self._is_text:
            return text, ()
        self._held += text
        if not self._must and not self._has_begun and self._held and not self._held.startswith("{"):
            self._is_text, text, self._held = True, self._held, ""
            return text, ()
        pieces: list[ToolCallDelta] = []
        if not self._has_begun:
            begin = _CALL.match(self._held)
            if begin is None:
                return "", ()
            self._has_begun = True
            self._held = self._held[begin.end() :]
            pieces.append(ToolCallDelta(0, id=self._call_id, name=begin[1]))
        arguments, self._held = self._held[:-1], self._held[-1:]  # the last brace belongs to the call, not to these
        if arguments:
            pieces.append(ToolCallDelta(0, arguments=arguments))
        return "", tuple(pieces)

    def end(self, *, is_cut: bool) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """Return what is left when the answer is over. `is_cut`: it ended by its length, in the middle."""
        held, self._held = self._held, ""
        if not self._has_begun:
            return held, ()
        if is_cut and held:
            return "", (ToolCallDelta(0, arguments=held),)
        return "", ()
