"""From tokens to text that may be shown: whole characters only, nothing of a stop text, and what the cache knew."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

HALF_CHARACTER = "\ufffd"  # stands for a token that ends no character
CONTEXT_TOKENS = 4  # decoded again with the new ones: a token's text can depend on those before it


class Detokenizer:
    """Turns the tokens of one answer into text, as early as it is certain.

    `decode` drops the bytes of a character that is not whole yet, so the text of a token and those before it grows only
    when a character is complete.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._shown = 0  # of the text of `_tokens`: how many characters are out

    def add(self, token: int) -> str:
        """Return the text that `token` completes, "" for none yet."""
        self._tokens.append(token)
        text = self._decode(self._tokens)
        new = text[self._shown :]
        self._shown = len(text)
        if new and len(self._tokens) > 4 * CONTEXT_TOKENS:
            # Only what was complete with the last token may be forgotten: keep a few whose bytes may belong together.
            self._tokens = self._tokens[-CONTEXT_TOKENS:]
            self._shown = len(self._decode(self._tokens))
        return new


class StopScanner:
    """Lets text through up to the first of `stops` that is whole, holding back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.is_stopped = False

    def feed(self, text: str) -> str:
        """Return what may be shown; after a stop text `is_stopped` is true and the rest is dropped."""
        if not self._stops:
            return text
        self._held += text
        # The one that is whole first, so that it does not matter how the text was cut; of two, the longer.
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.is_stopped = True
            shown, self._held = self._held[: min(found)[1]], ""
            return shown
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def end(self) -> str:
        """Return what was held back, for an answer that ended by itself."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` begin `stop`, not all of it."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


class KnownBlocks:
    """Our own record of which blocks of tokens the pipeline's cache holds: it does not say what it knew of a prompt.

    Exact while the pool has never been full; afterwards it forgets the least recently used, as the pipeline does. Only
    whole blocks count, so the truth is this or a little more.
    """

    def __init__(self, block_tokens: int, blocks_max: int) -> None:
        self._block_tokens = block_tokens
        self._blocks_max = blocks_max
        self._known: OrderedDict[int, None] = OrderedDict()

    def known(self, tokens: Sequence[int]) -> int:
        """Return how many tokens at the beginning of a prompt need not be computed: never the last one."""
        count = 0
        for block in self._blocks(tokens):
            if block not in self._known:
                break
            self._known.move_to_end(block)
            count += self._block_tokens
        return min(count, len(tokens) - 1)

    def add(self, tokens: Sequence[int]) -> None:
        """Take note of `tokens`, computed from the first on."""
        for block in self._blocks(tokens):
            self._known[block] = None
            self._known.move_to_end(block)
        while len(self._known) > self._blocks_max:
            self._known.popitem(last=False)

    def _blocks(self, tokens: Sequence[int]) -> list[int]:
        blocks, before = [], 0
        for at in range(0, len(tokens) - self._block_tokens + 1, self._block_tokens):
            before = hash((before, tuple(tokens[at : at + self._block_tokens])))
            blocks.append(before)
        return blocks
