"""A server's stream of events as ours: whole events only, one `data:` line each, ended by what our clients expect.

Most events differ from the one before in their text only, and are told by that: the same beginning, the same end, and
nothing between that could end a string. Such an event is cut and joined, not parsed. All others are read: the end of a
choice, the usage, an error, a tool call, a text with an escape in it.

What is learned here is what the `openai` engine promises (runtime/engines/openai_answer.py): however the server writes
its events, they come out alike; what cannot be whole is an error, never a silent end.
"""

import json
import re
from typing import Any, Final

import msgspec
from msgspec import Raw

from stoker.gateway.remote.request import Outgoing
from stoker.protocol.openai_chunks import EVENT_BYTES_MAX, ServedUsage, told_error, whole_characters
from stoker.protocol.openai_reply import DONE
from stoker.types.errors import EngineFailed
from stoker.types.replica import Usage

EARLY_BYTES_MAX: Final = 64 << 10  # of events without content, which wait for the first one with some

_TEXTS: Final = re.compile(rb'"(?:content|text)":\s*"')
_MODEL: Final = re.compile(rb'"model":\s*"(?:[^"\\]|\\.)*"')
_PAIR: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_NOTHING: Final = (Raw(b"null"), Raw(b'""'), Raw(b"[]"))
_ENDLESS_BYTES: Final = 1 << 60  # no event is as long
# A byte is looked for by its number, in 11 ns; bytes of one take 130, because they are tried as a number, which raises.
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_LF: Final = ord("\n")
_CR: Final = ord("\r")


class _Choice(msgspec.Struct):
    index: int = 0
    delta: dict[str, Raw] | None = None
    text: Raw | None = None
    finish_reason: str | None = None

    @property
    def has_content(self) -> bool:
        """Whether it adds anything but the role of who speaks."""
        if self.text is not None and self.text not in _NOTHING:
            return True
        return any(name != "role" and value not in _NOTHING for name, value in (self.delta or {}).items())


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: ServedUsage | None = None
    error: Any = None


_decode: Final = msgspec.json.Decoder(_Event).decode


class Stream:
    """One stream. `feed` and `end` return what goes to the client; after `problem` nothing does.

    is_done: `[DONE]` came, or the end of the bytes; `usage` is then known.
    """

    __slots__ = (
        "_asked", "_counted", "_early", "_early_bytes", "_halves", "_has_begun", "_has_cr", "_head", "_held",
        "_is_even", "_is_same", "_model", "_name", "_new_head", "_new_tail", "_served", "_shell_bytes", "_tail",
        "_told_usage", "_unfinished", "is_done", "problem",
    )  # fmt: skip

    def __init__(self, asked: Outgoing) -> None:
        self._asked = asked
        self._name = b'"model":' + asked.name
        self._unfinished = set(range(asked.choices))
        self._model = b""  # how the server writes its model's name
        # Of an event that adds text: what is before and behind it, and the same for the client; how long both are.
        self._head = self._new_head = self._tail = self._new_tail = b""
        self._shell_bytes = _ENDLESS_BYTES
        self._is_same = False  # the client gets these events as they are
        self._is_even = True  # nothing is held of what came
        self._held = bytearray()  # of an event that is not complete
        self._has_cr = False  # one more byte of it, a CR
        self._has_begun = False
        self._early: list[bytes] = []
        self._early_bytes = 0
        self._halves: dict[int, str] = {}
        self._counted = 0
        self._served: Usage | None = None
        self._told_usage = False
        self.is_done = False
        self.problem: EngineFailed | None = None

    @property
    def usage(self) -> Usage:
        """The server's own count, or what was counted of its answer."""
        return self._served or Usage(output_tokens=self._counted)

    def feed(self, data: bytes) -> bytes:
        """Return the events that `data` completes, as the client gets them. Not to be called after the end."""
        if self._is_even:
            told = self._quick(data)
            if told:
                return told
        if not self._is_even or _CR in data or not data.endswith(b"\n\n"):
            data = self._complete(data)
        self._is_even = False
        told = self._all(data)
        self._is_even = not (self._held or self._has_cr or self._halves)
        return told

    def end(self) -> bytes:
        """Take the end of the bytes; return what is left to tell."""
        told = self._all(bytes(self._held)) if self._held.strip() else b""
        self._held.clear()
        if not self.is_done and self.problem is None:
            told += self._finish()
        return told

    def last(self, request: str, now_s: float) -> bytes:
        """Return the stream's last events: `[DONE]`, and the usage before it if the server did not tell it."""
        if not self._asked.wants_usage or self._told_usage:
            return DONE
        usage, is_chat = self.usage, self._asked.method == "chat"
        event: dict[str, Any] = {
            "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{request}",
            "object": "chat.completion.chunk" if is_chat else "text_completion",
            "created": int(now_s),
            "model": Raw(self._asked.name),
            "choices": [],
            "usage": {
                "prompt_tokens": usage.input_tokens,
                "completion_tokens": usage.output_tokens,
                "total_tokens": usage.input_tokens + usage.output_tokens,
            },
        }
        return b"data: " + msgspec.json.encode(event) + b"\n\n" + DONE

    def _complete(self, data: bytes) -> bytes:
        """Return what is whole with `data`, with LF for CRLF and CR; hold the rest."""
        if self._has_cr:
            data = b"\r" + data
        self._has_cr = data.endswith(b"\r")  # it may be the first half of CRLF
        if _CR in data:
            data = data[: len(data) - self._has_cr].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        held = self._held
        begin = max(len(held) - 1, 0)
        held += data
        cut = held.rfind(b"\n\n", begin) + 2
        whole = bytes(held[:cut]) if cut > 1 else b""
        del held[: len(whole)]
        if len(held) > EVENT_BYTES_MAX:
            held.clear()
            self._fail(EngineFailed(f"the upstream server sent an event of over {EVENT_BYTES_MAX} bytes"))
        return whole

    def _all(self, data: bytes) -> bytes:
        told: list[bytes] = []
        for event in data.split(b"\n\n"):
            if event:
                told.append((not self._halves and self._quick(event + b"\n\n")) or self._read(event))
                if self.is_done or self.problem is not None:
                    break
        return b"".join(told)

    def _quick(self, event: bytes) -> bytes:
        """Return the event for the client if it is like the last but for its text, else nothing."""
        head, tail = self._head, self._tail
        if len(event) < self._shell_bytes or not event.startswith(head) or not event.endswith(tail):
            return b""
        text = event[len(head) : -len(tail)]
        if _QUOTE in text or _BACKSLASH in text or _LF in text or _CR in text:
            return b""
        self._counted += 1
        return event if self._is_same else b"".join((self._new_head, text, self._new_tail))

    def _read(self, event: bytes) -> bytes:
        """Return one event for the client, parsed; b"" for one that has nothing for it."""
        payload = event[6:] if event.startswith(b"data: {") and b"\n" not in event else _data(event)
        if not payload:
            return b""
        if payload == b"[DONE]":
            return self._finish()
        if self._halves or (b"\\u" in payload and _HALF.search(_PAIR.sub(b"", payload))):
            payload = self._join(payload)
        try:
            chunk = _decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
            return self._fail(EngineFailed(f"the upstream server sent an event that cannot be read: {broken}"))
        if chunk.error is not None:
            return self._fail(told_error(chunk.error))
        return self._tell(chunk, payload)

    def _tell(self, chunk: _Event, payload: bytes) -> bytes:
        choices = chunk.choices or ()
        has_content = has_end = False
        for choice in choices:
            if not 0 <= choice.index < self._asked.choices:
                return self._fail(
                    EngineFailed(f"the upstream server sent choice {choice.index} of {self._asked.choices}")
                )
            if choice.has_content:
                has_content = True
                self._counted += 1
            if choice.finish_reason:
                has_end = True
                self._unfinished.discard(choice.index)
        if chunk.usage is not None:
            self._served = chunk.usage.counted
            if not choices and not self._asked.wants_usage:
                return b""
            self._told_usage = True
        told = b"data: " + self._named(payload) + b"\n\n"
        if has_content and len(choices) == 1 and chunk.usage is None and not has_end:
            self._learn(b"data: " + payload + b"\n\n", told)
        return self._in_order(told, is_early=not has_content and not has_end)

    def _in_order(self, told: bytes, *, is_early: bool) -> bytes:
        """Return `told` behind what waited for it. What says only who speaks waits for the first words: until those
        come, the request may be tried again."""
        if self._has_begun:
            return told
        self._early.append(told)
        self._early_bytes += len(told)
        if is_early and self._early_bytes <= EARLY_BYTES_MAX:
            return b""
        self._has_begun = True
        early, self._early = self._early, []
        return b"".join(early)

    def _named(self, payload: bytes) -> bytes:
        """Return the payload with the client's name of the model."""
        if not self._model or self._model not in payload:
            found = _MODEL.search(payload)
            if found is None:
                return payload
            self._model = found[0]
        return payload if self._model == self._name else payload.replace(self._model, self._name)

    def _learn(self, event: bytes, told: bytes) -> None:
        """Remember how an event looks that adds text."""
        found, new = _TEXTS.search(event), _TEXTS.search(told)
        if found is None or new is None:
            return
        until = event.find(b'"', found.end())
        if b"\\" not in event[found.end() : until]:
            self._head, self._tail = event[: found.end()], event[until:]
            self._new_head, self._new_tail = told[: new.end()], told[told.find(b'"', new.end()) :]
            self._shell_bytes = len(self._head) + len(self._tail)
            self._is_same = event == told

    def _join(self, payload: bytes) -> bytes:
        """Return a payload whose halves of characters, cut by a server in JavaScript, are joined over events."""
        try:
            chunk = json.loads(payload)
            for choice in chunk.get("choices") or ():
                place, key = (choice["delta"], "content") if choice.get("delta") else (choice, "text")
                text = self._halves.pop(choice.get("index", 0), "") + (place.get(key) or "")
                if text:
                    place[key], half = whole_characters(text)
                    if half:
                        self._halves[choice.get("index", 0)] = half
            return json.dumps(chunk).encode()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return payload  # the decoder says what is wrong with it

    def _finish(self) -> bytes:
        self.is_done = True
        if self._unfinished:
            return self._fail(EngineFailed("the upstream server ended its stream in the middle of the answer"))
        early, self._early = self._early, []
        return b"".join(early)

    def _fail(self, problem: EngineFailed) -> bytes:
        self.problem = problem
        return b""


def _data(event: bytes) -> bytes:
    """Return the payload of an event in any form: comments and other fields left out, its lines in one."""
    lines: list[bytes] = []
    for line in event.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return b" ".join(lines).strip()
