"""What a load says to an endpoint: rows made up from its signature, sentences, and chats of given sizes.

No two texts begin alike, so that no cache of prompts makes an engine look faster than it is.
"""

from random import Random
from typing import Final

import msgspec

from stoker.client.data import ModelMetadata
from stoker.client.load import Ask, example
from stoker.types.resources import Task

# Common words, each a token of nearly every vocabulary.
WORDS: Final = (
    "the of and to in is that for it was on are as with they at be this from have or by one had not but what all were "
    "when we there can an your which their said if do will each about how up out them then she many some so these "
    "would other into has more her two like him see time could no make than first been its who now people my made "
    "over did down only way find use may water long little very after words called just where most know"
)
WORDS_MAX: Final = 16_384
VALUES: Final = 8  # so small are numbers, for every type and for the indexes of most tables


class Size(msgspec.Struct, frozen=True):
    """Of one text: its words, and the most tokens of its answer."""

    words: int = 40
    tokens_max: int = 32


USUAL: Final = Size()


class Prompts:
    """The requests to one endpoint. metadata: of one that predicts."""

    def __init__(self, endpoint: str, project: str, task: Task, metadata: ModelMetadata | None = None) -> None:
        self._endpoint, self._task, self._metadata = endpoint, task, metadata
        self._headers = {"Content-Type": "application/json", "Cache-Control": "no-store", "x-stoker-project": project}
        self._rows: dict[int, Ask] = {}

    def ask(self, number: int, size: Size = USUAL) -> Ask:
        """Return the request with this number; the same has the same. Raises InvalidInput as example() does."""
        if self._task == "predict":
            return self._row(number % VALUES)
        text = " ".join(Random(number).choices(WORDS.split(), k=min(max(size.words, 1), WORDS_MAX)))
        if self._task == "embed":
            return Ask("/v1/embeddings", msgspec.json.encode({"model": self._endpoint, "input": [text]}), self._headers)
        body = {
            "model": self._endpoint,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": max(size.tokens_max, 1),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return Ask("/v1/chat/completions", msgspec.json.encode(body), self._headers, is_stream=True)

    def _row(self, value: int) -> Ask:
        if value not in self._rows:
            made = example(self._endpoint, self._task, self._metadata, value=value)
            self._rows[value] = msgspec.structs.replace(made, headers=self._headers)
        return self._rows[value]
