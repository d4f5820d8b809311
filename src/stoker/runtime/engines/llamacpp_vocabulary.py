"""Which token a piece of text is: the vocabulary in a GGUF file, read when an answer is continued for the first time.

llama.cpp takes a prompt of token ids and texts mixed. An answer is continued exactly when each of its tokens is given
back as the token it was: a text made of the pieces may be cut into others. Read here, because the binding has no
function that tokenizes.
"""

import mmap
import struct
from pathlib import Path
from typing import Any, Final

_NORMAL, _USER_DEFINED, _BYTE = 1, 4, 6  # llama.cpp's token types whose text is shown; control tokens have none
_RANK: Final = {_NORMAL: 0, _USER_DEFINED: 1, _BYTE: 2}  # who wins where two tokens have one text
_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_PREFIX: Final = "tokenizer.ggml."
TOKENS_MAX: Final = 2_000_000


class Vocabulary:
    """Tokens by their text. `is_known`: the tokenizer is of a kind whose texts are understood here."""

    def __init__(self, values: dict[str, Any]) -> None:
        kind = values.get("model")
        self.is_known = kind in ("gpt2", "llama")
        self._is_pieces = kind == "llama"  # sentencepiece: what it has no token for, it spells in bytes
        self._ids: dict[bytes, int] = {}
        tokens: list[bytes] = values.get("tokens", [])
        types: tuple[int, ...] = values.get("token_type", ())
        if self.is_known:
            ranks: dict[bytes, int] = {}
            for at, token in enumerate(tokens):
                rank = _RANK.get(types[at] if at < len(types) else _NORMAL)
                text = self._shown(token, types[at] if at < len(types) else _NORMAL) if rank is not None else None
                if rank is not None and text is not None and rank < ranks.get(text, len(_RANK)):
                    ranks[text] = rank
                    self._ids[text] = at
        start = values.get("bos_token_id", -1)
        self.start = tokens[start].decode("utf-8", "replace") if 0 <= start < len(tokens) else ""

    def tokens(self, piece: str) -> list[str | int]:
        """Return the token(s) of one piece of an answer; a text, where only the tokenizer itself knows them."""
        known = self._ids.get(piece.encode())
        if known is not None:
            return [known]
        if self._is_pieces:
            spelt = [self._ids.get(bytes((byte,))) for byte in piece.encode()]
            return [byte for byte in spelt if byte is not None]
        return [piece]

    def _shown(self, token: bytes, kind: int) -> bytes | None:
        """Return the bytes a token adds to an answer, None for one that cannot be understood."""
        try:
            if self._is_pieces:
                return bytes((int(token[1:-1], 16),)) if kind == _BYTE else token.replace("▁".encode(), b" ")
            return token if kind == _USER_DEFINED else bytes(_BYTES[letter] for letter in token.decode())
        except (KeyError, ValueError, UnicodeDecodeError):
            return None


def _byte_letters() -> dict[str, int]:
    """Return GPT-2's letters for bytes: printable ones stand for themselves, the others for 256 and up."""
    own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {chr(byte): byte for byte in own}
    letters.update({chr(256 + at): byte for at, byte in enumerate(byte for byte in range(256) if byte not in own)})
    return letters


_BYTES: Final = _byte_letters()


def read(path: Path) -> Vocabulary:
    """Return the vocabulary of the GGUF file at `path`; an unknown one when there is none. Raises OSError."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return Vocabulary(_values(data))
        except (struct.error, ValueError, IndexError):
            return Vocabulary({})


def _values(data: mmap.mmap) -> dict[str, Any]:
    found: dict[str, Any] = {}
    (count,) = struct.unpack_from("<Q", data, 16)
    at = 24
    for _ in range(count):
        name, at = _text(data, at)
        (kind,) = struct.unpack_from("<I", data, at)
        value, at = _value(data, at + 4, kind)
        if name.startswith(_PREFIX.encode()):
            found[name.decode()[len(_PREFIX) :]] = value
    model = found.get("model")
    return {**found, "model": model.decode() if isinstance(model, bytes) else ""}


def _text(data: mmap.mmap, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("<Q", data, at)
    if at + 8 + length > len(data):
        raise ValueError("a text runs out of the file")
    return data[at + 8 : at + 8 + length], at + 8 + length


def _value(data: mmap.mmap, at: int, kind: int) -> tuple[Any, int]:
    if kind == _STRING:
        return _text(data, at)
    if kind == _ARRAY:
        inner, count = struct.unpack_from("<IQ", data, at)
        at += 12
        if count > TOKENS_MAX:
            raise ValueError("an array is too long")
        if inner == _STRING:
            texts = []
            for _ in range(count):
                text, at = _text(data, at)
                texts.append(text)
            return texts, at
        form = f"<{count}{_SCALARS[inner]}"
        return struct.unpack_from(form, data, at), at + struct.calcsize(form)
    form = f"<{_SCALARS[kind]}"
    return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
