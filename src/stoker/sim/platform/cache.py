"""What an engine keeps of prompts: blocks of tokens, the longest unused forgotten first."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

BLOCK_TOKENS: Final = 512  # of a block in Mooncake's traces


class PrefixCache:
    """Blocks of one engine. A block's number stands for all before it too, so what is known of a prompt is a prefix."""

    def __init__(self, blocks_max: int) -> None:
        self._blocks_max = blocks_max
        self._kept: OrderedDict[int, None] = OrderedDict()

    def read(self, blocks: Sequence[int]) -> int:
        """Return how many of the first `blocks` it has, and keep all of them."""
        kept = self._kept
        known = next((at for at, block in enumerate(blocks) if block not in kept), len(blocks))
        for block in reversed(blocks):  # the first of a prompt are the last to go
            kept[block] = None
            kept.move_to_end(block)
        while len(kept) > self._blocks_max:
            kept.popitem(last=False)
        return known
