"""What a language model yields while it answers: deltas, the end of each choice, and one last word with the usage."""

import msgspec

from stoker.types.replica import Usage


class TokenLogprob(msgspec.Struct, frozen=True):
    """One token with its log-probability and the likeliest others (token text, log-probability).

    Text with U+FFFD in it stands for a token that is a part of a character.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class ToolCallDelta(msgspec.Struct, frozen=True):
    """A piece of a tool call: `id` and `name` come first and once, `arguments` in pieces that join to JSON."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Delta(msgspec.Struct, frozen=True):
    """What one step of generation added to choice `index`. `tokens` is how many tokens it stands for."""

    index: int = 0
    text: str = ""
    tokens: int = 1
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class Finish(msgspec.Struct, frozen=True):
    """Choice `index` is complete. reason: `stop`, `length`, `tool_calls` or `content_filter`."""

    index: int
    reason: str


class Resume(msgspec.Struct, frozen=True):
    """An answer that another replica began and could not end: what its client has already.

    pieces: the texts as they were sent; one is one token, but for characters that took several. created_s: the unix
    second the answer began, which all its events name.
    """

    pieces: tuple[str, ...]
    created_s: int

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self.pieces)


class Final(msgspec.Struct, frozen=True):
    """The request is complete; comes once and last."""

    usage: Usage
    prefill_s: float = 0.0
    decode_s: float = 0.0
