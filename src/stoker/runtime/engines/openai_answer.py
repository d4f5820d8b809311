"""What another server's streamed answer has come to so far, and whether it is whole and what was asked for."""

from typing import Any

from stoker.protocol.openai_chunks import read_chunk, whole_characters
from stoker.runtime.engines.json_schema import violation
from stoker.types.errors import EngineFailed
from stoker.types.generation import Delta, Finish
from stoker.types.replica import Usage

COMPARED_CHARACTERS_MAX = 8 * 2**20


class Answer:
    """What came of one streamed answer so far."""

    def __init__(self, choices: int, schema: dict[str, Any] | None = None) -> None:
        self._unfinished = set(range(choices))
        self._choices = choices
        self._halves: dict[int, str] = {}
        self._counted = 0
        self._usage: Usage | None = None
        self._schema = schema
        self._texts: list[list[str]] = [[] for _ in range(choices)]  # kept only to be compared with the schema
        self._kept = 0

    @property
    def usage(self) -> Usage:
        """The server's own count, or what was counted of its answer."""
        return self._usage or Usage(output_tokens=self._counted)

    def read(self, payload: bytes) -> list[Delta | Finish]:
        """Return what one event adds. Raises EngineFailed."""
        chunk = read_chunk(payload)
        self._usage = chunk.counted or self._usage
        items: list[Delta | Finish] = []
        for choice in chunk.choices or ():
            if not 0 <= choice.index < self._choices:
                raise EngineFailed(f"the upstream server sent choice {choice.index} of {self._choices}")
            text = self._halves.pop(choice.index, "") + choice.added
            if not text.isascii():
                text, half = whole_characters(text)
                if half:
                    self._halves[choice.index] = half
            logprobs, calls = choice.token_logprobs, choice.calls
            if text or calls or logprobs:
                self._counted += 1
                self._keep(choice.index, text, is_call=bool(calls))
                items.append(Delta(choice.index, text, 1, calls, logprobs))
            if choice.finish_reason and choice.index in self._unfinished:
                self._unfinished.discard(choice.index)
                self._compare(choice.index, choice.finish_reason)
                items.append(Finish(choice.index, choice.finish_reason))
        return items

    def check_complete(self) -> None:
        """Raise EngineFailed when the stream ended before the answer did."""
        if self._unfinished:
            raise EngineFailed("the upstream server ended its stream in the middle of the answer")

    def _keep(self, index: int, text: str, *, is_call: bool) -> None:
        self._kept += len(text)
        if is_call or self._kept > COMPARED_CHARACTERS_MAX:
            self._schema = None
        elif self._schema is not None:
            self._texts[index].append(text)

    def _compare(self, index: int, reason: str) -> None:
        """Raise EngineFailed for a whole answer that is not what was asked for; one cut by its length may be."""
        wrong = violation("".join(self._texts[index]), self._schema) if self._schema and reason == "stop" else None
        if wrong:
            raise EngineFailed(f"the upstream server's answer does not keep to the schema: {wrong}")
