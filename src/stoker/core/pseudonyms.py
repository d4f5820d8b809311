"""A text without what names a person or opens a door, in which the same value still has the same name.

`bob@example.com` becomes `<email:hmqtnrgjvslp>`: 48 bits of HMAC-SHA256 under the project's key. Two samples of one
project can be joined by it; without the key nobody can try addresses until one fits, and another project's key gives
another name. The letters are g to v, so that no name is recognised as a number of something again.
"""

import hashlib
from binascii import hexlify
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from operator import itemgetter
from typing import Final

from stoker.core.recognise import RANKS, find
from stoker.core.recognise.custom import Custom
from stoker.core.recognise.spans import Span

NAME_LETTERS: Final = 12
_TO_LETTERS: Final = bytes.maketrans(b"0123456789abcdef", b"ghijklmnopqrstuv")
_NUMBERS: Final = frozenset(("phone", "card", "id", "iban"))  # written with separators or without, they are the same
_SIGNS: Final = bytes(code for code in range(128) if not chr(code).isalnum())
_START: Final = itemgetter(0)
BETWEEN: Final = "\n\x00\n"  # two texts read at once; no recogniser reads over it


class Pseudonyms:
    """The names under one key; counts what it hid, by kind."""

    def __init__(self, key: bytes, custom: Sequence[Custom] = ()) -> None:
        # The two halves of HMAC (RFC 2104) with the key already read, the inner one with the kind too: `hmac.digest`
        # reads the key again for each name, and looks the digest up by its name.
        block = key.ljust(hashlib.sha256().block_size, b"\0")
        inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))
        self._inner = {kind: inner.copy() for kind in (*RANKS, *(own.kind for own in custom))}
        for kind, read in self._inner.items():
            read.update(b"%b\0" % kind.encode())
        self._custom = custom
        self.hidden: Counter[str] = Counter()

    def name(self, kind: str, value: str) -> str:
        """Return what stands for `value`; `kind` is one of `RANKS` or a custom pattern's."""
        return self._names([(kind, value)])[0]

    def text(self, text: str) -> str:
        """Return `text` with names for what was recognised in it."""
        return self.texts([("", text)])[0]

    def texts(self, told: Sequence[tuple[str, str]]) -> list[str]:
        """Return the second of each pair with names for what was recognised in it; the first says what it is.

        All are read in one pass: a body of ten thousand short strings costs what one long one does.
        """
        parts: list[str] = []
        starts: list[int] = []
        at = 0
        for what, text in told:
            before = f"{what}: " if what else ""
            starts.append(at + len(before))
            at += len(before) + len(text) + len(BETWEEN)
            parts += (before, text, BETWEEN)
        spans = find("".join(parts), self._custom)
        if not spans:
            return [text for _, text in told]
        return [self._hidden(text, start, spans) for start, (_, text) in zip(starts, told, strict=True)]

    def _hidden(self, text: str, start: int, spans: Sequence[Span]) -> str:
        """Return `text` with names; it began at `start` of what was read, in which `spans` were found."""
        first = bisect_left(spans, start, key=_START)
        if first and spans[first - 1].end > start:
            first -= 1
        own = spans[first : bisect_left(spans, start + len(text), first, key=_START)]
        if not own:
            return text
        cuts = [(max(begin - start, 0), end - start, kind) for begin, end, kind in own]
        self.hidden.update([kind for _, _, kind in cuts])
        names = self._names([(kind, text[begin:end]) for begin, end, kind in cuts])
        parts: list[str] = []
        at = 0
        for (begin, end, _), name in zip(cuts, names, strict=True):
            parts += (text[at:begin], name)
            at = end
        return "".join((*parts, text[at:]))

    def _names(self, values: Sequence[tuple[str, str]]) -> list[str]:
        """Return what stands for each value, of which the kind comes first."""
        digests: list[bytes] = []
        for kind, value in values:
            same = value.casefold()
            if same.isascii():
                plain = same.encode().translate(None, _SIGNS) if kind in _NUMBERS else same.encode()
            else:
                same = "".join(filter(str.isalnum, same)) if kind in _NUMBERS else same
                plain = same.encode("utf-8", "surrogatepass")
            inner, outer = self._inner[kind].copy(), self._outer.copy()
            inner.update(plain)
            outer.update(inner.digest())
            digests.append(outer.digest()[: NAME_LETTERS // 2])
        letters = hexlify(b"".join(digests)).translate(_TO_LETTERS).decode()
        begins = range(0, len(letters), NAME_LETTERS)
        return [f"<{kind}:{letters[at : at + NAME_LETTERS]}>" for at, (kind, _) in zip(begins, values, strict=True)]
