"""What a stream's client has already, read back from the events it was sent, and how that travels to another replica.

A gateway relays events without reading them. A Transcript keeps of each only what differs from the one before, the text
between equal beginnings and ends (about 10 bytes a token where an event has 250), and is read only after a failure.
"""

from typing import Any, Final

import msgspec

from stoker.core.failover import Asked
from stoker.protocol.openai import ChatRequest, CompletionRequest, texts_or_tokens
from stoker.types.errors import InvalidInput, StokerError
from stoker.types.generation import Resume

KEPT_MAX_BYTES: Final = 1 << 20  # of one stream; a longer one cannot go on elsewhere

# Where the text begins and ends in the events that openai_reply writes most.
_BEGINNINGS: Final = (b'"delta":{"content":"', b'[{"index":0,"text":"')
_ENDS: Final = (b'"},"logprobs":null,"finish_reason":null}]', b'","logprobs":null,"finish_reason":null}]')
_DATA: Final = b"data: "

_decode_resume = msgspec.msgpack.Decoder(Resume).decode


class Transcript:
    """The events of one stream so far, at most KEPT_MAX_BYTES. `add` costs a fraction of a microsecond."""

    __slots__ = ("_end", "_head", "_kept", "_start", "_tail", "is_overfull")

    def __init__(self) -> None:
        self._kept = bytearray()  # a line an event: its text as JSON, or the whole of it
        self._head = b"\n"  # no event begins so
        self._tail = b""
        self._start = self._end = 0
        self.is_overfull = False

    def add(self, event: bytes) -> None:
        """Keep one event, as it was sent."""
        if event.startswith(self._head) and event.endswith(self._tail):
            self._kept += event[self._start : self._end]
            self._kept += b"\n"
            if len(self._kept) > KEPT_MAX_BYTES:
                self._give_up()
        elif not self.is_overfull:
            self._add_whole(event)

    def _add_whole(self, event: bytes) -> None:
        if len(self._kept) + len(event) > KEPT_MAX_BYTES:
            self._give_up()
            return
        self._kept += event.rstrip(b"\n") + b"\n"
        for beginning, end in zip(_BEGINNINGS, _ENDS, strict=True):
            at, until = event.find(beginning), event.rfind(end)
            if at >= 0 and until >= at + len(beginning):
                self._head, self._tail = event[: at + len(beginning)], event[until:]
                self._start, self._end = len(self._head) - 1, 1 - len(self._tail)  # with both quotes

    def _give_up(self) -> None:
        self.is_overfull = True
        self._kept.clear()
        self._head = b"\n"

    def read(self) -> "Told | None":
        """Return what the client was told; None when that is not known whole."""
        if self.is_overfull:
            return None
        told = Told()
        try:
            for line in bytes(self._kept).split(b"\n")[:-1]:
                if line.startswith(_DATA):
                    told.take(msgspec.json.decode(line[len(_DATA) :]))
                else:
                    told.pieces.append(msgspec.json.decode(line, type=str))
        except (msgspec.DecodeError, KeyError, TypeError):
            return None
        return told


class Told:
    """A stream's events, read. `wants_usage`: its last event before `[DONE]` is to tell the usage."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.created_s = 0
        self.is_finished = False
        self.wants_usage = False

    def take(self, event: dict[str, Any]) -> None:
        """Read one whole event. Raises KeyError or TypeError for one that openai_reply did not write."""
        self.created_s = event["created"]
        self.wants_usage = "usage" in event
        for choice in event["choices"]:
            text = choice["delta"].get("content") if "delta" in choice else choice["text"]
            if text:
                self.pieces.append(text)
            if choice["finish_reason"] is not None:
                self.is_finished = True

    def resume(self) -> bytes:
        """Return what the next replica is sent behind the request's body."""
        return msgspec.msgpack.encode(Resume(tuple(self.pieces), self.created_s))


def split(body: bytes, resume_bytes: int) -> tuple[bytes, Resume]:
    """Return the request's own body and the Resume behind it. Raises InvalidInput when there is none."""
    at = len(body) - resume_bytes
    if at < 0:
        raise InvalidInput(f"the body has {len(body)} bytes, fewer than the {resume_bytes} to resume with")
    try:
        return body[:at], _decode_resume(body[at:])
    except msgspec.DecodeError as broken:
        raise InvalidInput(f"what another replica answered cannot be read: {broken}") from broken


def asked(request: ChatRequest | CompletionRequest) -> Asked:
    """Return what of `request` decides whether its answer can go on elsewhere."""
    is_greedy = request.temperature == 0 or request.top_k == 1
    count = request.n or 1
    if isinstance(request, ChatRequest):
        form = request.response_format
        return Asked(
            choices=count,
            has_tools=bool(request.tools) and request.tool_choice != "none",
            is_constrained=form is not None and form.type != "text",
            has_logprobs=bool(request.logprobs),
            is_greedy=is_greedy,
            has_seed=request.seed is not None,
        )
    try:
        count *= len(texts_or_tokens(request.prompt, "prompt"))
    except StokerError:
        count = 0  # the replica says what is wrong with it
    return Asked(
        choices=count,
        has_logprobs=request.logprobs is not None,
        has_echo=bool(request.echo),
        is_greedy=is_greedy,
        has_seed=request.seed is not None,
    )
