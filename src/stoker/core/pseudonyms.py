"""A text without what names a person or opens a door, in which the same value still has the same name.

`bob@example.com` becomes `<email:hmqtnrgjvslp>`: 48 bits of HMAC-SHA256 under the project's key. Two samples of one
project can be joined by it; without the key nobody can try addresses until one fits, and another project's key gives
another name. The letters are g to v, so that no name is recognised as a number of something again.
"""

import hashlib
from binascii import hexlify
from collections.abc import Sequence
from typing import Final

from stoker.core.recognise import find
from stoker.core.recognise.custom import Custom
from stoker.core.recognise.spans import Span

NAME_LETTERS: Final = 12
_TO_LETTERS: Final = bytes.maketrans(b"0123456789abcdef", b"ghijklmnopqrstuv")
_NUMBERS: Final = ("phone", "card", "id", "iban")  # written with separators or without, they are the same
_SIGNS: Final = bytes(code for code in range(128) if not chr(code).isalnum())
BETWEEN: Final = "\n\x00\n"  # two texts read at once; no recogniser reads over it


class Pseudonyms:
    """The names under one key; counts what it hid, by kind."""

    def __init__(self, key: bytes, custom: Sequence[Custom] = ()) -> None:
        # The two halves of HMAC (RFC 2104) with the key already read: `hmac.digest` reads it again for each name, and
        # looks the digest up by its name.
        block = key.ljust(hashlib.sha256().block_size, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))
        self._custom = custom
        self.hidden: dict[str, int] = {}

    def name(self, kind: str, value: str) -> str:
        """Return what stands for `value`."""
        same = value.casefold()
        if same.isascii():
            plain = same.encode().translate(None, _SIGNS) if kind in _NUMBERS else same.encode()
        else:
            same = "".join(filter(str.isalnum, same)) if kind in _NUMBERS else same
            plain = same.encode("utf-8", "surrogatepass")
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(b"%b\0%b" % (kind.encode(), plain))
        outer.update(inner.digest())
        return f"<{kind}:{hexlify(outer.digest()[: NAME_LETTERS // 2]).translate(_TO_LETTERS).decode()}>"

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
        made: list[str] = []
        first = 0
        for start, (_, text) in zip(starts, told, strict=True):
            while first < len(spans) and spans[first].end <= start:
                first += 1
            made.append(self._hidden(text, start, spans, first))
        return made

    def _hidden(self, text: str, start: int, spans: Sequence[Span], first: int) -> str:
        parts: list[str] = []
        at = 0
        for span in spans[first:]:
            if span.start >= start + len(text):
                break
            begin, end = max(0, span.start - start), min(len(text), span.end - start)
            self.hidden[span.kind] = self.hidden.get(span.kind, 0) + 1
            parts += (text[at:begin], self.name(span.kind, text[begin:end]))
            at = end
        return "".join((*parts, text[at:])) if parts else text
