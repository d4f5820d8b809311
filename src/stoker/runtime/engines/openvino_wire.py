"""What a replica and the process its OpenVINO pipeline runs in say to each other: small msgpack messages over a socket.

A message is its length (4 bytes, little-endian) and its msgpack. The child answers every choice with pieces, of which
the last has a `finish` or an error; a cancelled choice ends with the finish `cancelled`.
"""

import socket
import struct
from typing import Any

import msgspec

MESSAGE_BYTES_MAX = 64 * 2**20
_LENGTH = struct.Struct("<I")


class Setup(msgspec.Struct, frozen=True, tag="setup"):
    """The first message: what to load and how. Counts in tokens, memory in bytes; `memory_bytes` 0: no limit."""

    path: str
    slots: int
    context: int | None
    batch_tokens: int
    threads: int
    memory_bytes: int
    chat_template: str | None


class Stage(msgspec.Struct, frozen=True, tag="stage"):
    """How far the load is."""

    stage: str
    fraction: float


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The pipeline answers. `token_bytes_max` is the length of the longest token."""

    context: int
    vocabulary: int
    token_bytes_max: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The load failed, and the process ends. `kind` is input, unsupported, artifact or engine."""

    kind: str
    message: str


class Form(msgspec.Struct, frozen=True):
    """What JSON is held to: an EBNF grammar, or where that is "" a JSON Schema as text."""

    ebnf: str
    schema: str


class Grammar(msgspec.Struct, frozen=True):
    """What an answer is held to: one form, or calls of tools (name, form of the arguments).

    `may_be_text`: a text that does not begin with a brace is an answer too.
    """

    form: Form | None = None
    calls: tuple[tuple[str, Form], ...] = ()
    may_be_text: bool = False


class Sampling(msgspec.Struct, frozen=True):
    """How tokens are drawn. A temperature of 0 takes the likeliest."""

    temperature: float
    top_p: float
    top_k: int  # 0: all
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    ignore_eos: bool


class Add(msgspec.Struct, frozen=True, tag="add"):
    """One prompt, answered once for each of `choices` (their ids) with the seed at the same place."""

    choices: tuple[int, ...]
    seeds: tuple[int, ...]
    sampling: Sampling
    messages: list[dict[str, str]] | None = None  # a conversation, or:
    prompt: str | list[int] = ""
    tokens_max: int | None = None
    stops: tuple[str, ...] = ()
    grammar: Grammar | None = None
    logprobs: bool = False


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Nobody wants these choices any more."""

    choices: tuple[int, ...]


class Count(msgspec.Struct, frozen=True):
    """What one choice took."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0


class Piece(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one step added to a choice. `finish`: stop, length or cancelled; `error` is (a kind as in Failed, words)."""

    choice: int
    text: str = ""
    tokens: int = 0
    logprobs: tuple[tuple[str, float], ...] = ()
    finish: str = ""
    count: Count | None = None
    error: tuple[str, str] | None = None


class Step(msgspec.Struct, frozen=True, tag="step"):
    """All that one step made. `kv_used_ratio` is of the whole pool, what is kept for later prompts left out."""

    pieces: list[Piece]
    kv_used_ratio: float


ToChild = Setup | Add | Cancel
FromChild = Stage | Ready | Failed | Step

_encoder = msgspec.msgpack.Encoder()


class Wire:
    """One end of the socket. One thread may send while another receives."""

    def __init__(self, end: socket.socket, kind: Any) -> None:
        self._end = end
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._held = bytearray()

    def send(self, message: ToChild | FromChild) -> None:
        """Send one message; blocks. Raises OSError when the other end is gone."""
        data = _encoder.encode(message)
        self._end.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self) -> Any:
        """Return the next message; blocks. Raises EOFError when the other end is gone."""
        while True:
            message = self._next()
            if message is not None:
                return message
            self._fill(0)

    def waiting(self) -> list[Any]:
        """Return the messages that are there, without blocking. Raises EOFError when the other end is gone."""
        self._fill(socket.MSG_DONTWAIT)
        messages = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def close(self) -> None:
        """End it for both sides, a blocked `receive` included."""
        try:
            self._end.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other side was first

    def _fill(self, flags: int) -> None:
        while True:
            try:
                data = self._end.recv(2**18, flags)
            except BlockingIOError:
                return
            except ConnectionError as gone:
                raise EOFError from gone
            if not data:
                raise EOFError
            self._held += data
            if not flags:
                return

    def _next(self) -> Any:
        if len(self._held) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._held)
        if length > MESSAGE_BYTES_MAX:
            raise EOFError(f"a message of {length} bytes")
        end = _LENGTH.size + length
        if len(self._held) < end:
            return None
        message = self._decoder.decode(memoryview(self._held)[_LENGTH.size : end])
        del self._held[:end]
        return message
