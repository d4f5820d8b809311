"""How much work a language-model request is, before it ran: in the units of core/fairness.py.

A request counts in a replica's load as its share: its size against the usual one of its endpoint, so that a long
document is not one request like a greeting.
"""

from typing import Final

from stoker.core import fairness

CHARS_PER_TOKEN: Final = 4.0
OUTPUT_FIRST: Final = 200.0  # tokens, until answers were seen
SHARE_MIN, SHARE_MAX = 0.1, 10.0
_STEP: Final = 0.05


class Sizes:
    """What is usual in one endpoint."""

    __slots__ = ("_output", "_size")

    def __init__(self) -> None:
        self._output = OUTPUT_FIRST
        self._size = 0.0

    def share(self, prompt_chars: int, known_chars: int, tokens_max: int) -> float:
        """Return the size of a request against the usual one, and count it.

        Args:
            known_chars: of the prompt, those that the replica likely keeps.
            tokens_max: what the answer is limited to by its client, 0: not; most set it far above what is written.
        """
        output = min(float(tokens_max), self._output) if tokens_max else self._output
        size = units(max(prompt_chars - known_chars, 0) / CHARS_PER_TOKEN, output)
        self._size = size if not self._size else self._size + (size - self._size) * _STEP
        return min(max(size / self._size, SHARE_MIN), SHARE_MAX)

    def ended(self, output_tokens: int) -> None:
        """Learn from an answer."""
        self._output += (output_tokens - self._output) * _STEP


def units(read_tokens: float, written_tokens: float) -> float:
    """Return the work of reading and writing so many tokens; at least 1."""
    return 1.0 + fairness.INPUT_UNITS * read_tokens + fairness.OUTPUT_UNITS * written_tokens
