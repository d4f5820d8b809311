"""Properties of texts that need no model, of many texts at once: script, digits, signs, how repetitive, what wording.

Looked at are EXCERPT characters from a random place of each text: enough for a share, and a text of any length costs
the same. Trigrams of letters are hashed into buckets; how often which comes says language and topic, and no text.
"""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from random import random
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stoker.core.watched import BUCKETS, TRIGRAMS, WORDING
from stoker.telemetry.texts import NO_SCRIPT, script_of

EXCERPT: Final = 256  # characters
_SPACE, _DIGIT, _SIGN = range(3)  # classes of characters; scripts follow
# Beyond ASCII characters are of one class in blocks: a script begins and ends at one, or nearly.
_FINE, _FINE_END, _COARSE = 0x40, 0x3400, 0x100
_SPACES: Final = (0xA0, 0x2028, 0x2029, 0x3000)
_END: Final = 0x30000  # characters from there on count as the last before it, which are Chinese
_SIGNS: Final = ((0x80, 0xC0), (0x2000, 0x2C00), (0x3000, 0x3040), (0xFE00, 0xFE80), (0x1F000, 0x20000))
_MIX: Final = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)  # odd numbers with many bits, as xxHash has

Arrays = dict[str, NDArray[Any]]


def profile(whose: str, texts: Sequence[str]) -> Arrays:
    """Return columns [rows, 1] and the wording float32 [rows, BUCKETS] of `texts`, named as core/watched.py does.

    A text without characters has no shares and no wording: NaN, "" and zeros.
    """
    rows = len(texts)
    codes, whose_row = _letters([_excerpt(text) for text in texts])
    kinds, names = _classes()
    classes = _table(whose_row, kinds[codes], rows, len(names))
    visible = classes[:, _SIGN:].sum(axis=1) + classes[:, _DIGIT]
    wording = _table(*_trigrams(codes, whose_row), rows, BUCKETS)
    many = wording.sum(axis=1)
    scripts = classes[:, _SIGN + 1 :]
    lengths = np.array([len(text) for text in texts], np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Arrays = {
            "characters": lengths,
            "digits": classes[:, _DIGIT] / visible,
            "signs": classes[:, _SIGN] / visible,
            "variety": (wording > 0).sum(axis=1) / np.minimum(many, BUCKETS),
            "script": _named(scripts, names[_SIGN + 1 :], lengths > 0),
            "trigram": _drawn(wording, many),
        }
        frequencies = np.sqrt(wording / np.maximum(many, 1)[:, None])
    columns = {f"{whose}.{name}": values[:, None] for name, values in found.items()}
    return columns | {f"{whose}.{WORDING}": frequencies.astype(np.float32)}


def _excerpt(text: str) -> str:
    over = len(text) - EXCERPT
    start = int(random() * (over + 1)) if over > 0 else 0
    return text[start : start + EXCERPT].lower()


def _letters(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.intp]]:
    """Return all characters of the texts in a row, and of which text each is."""
    data = "".join(texts).encode("utf-32-le", "surrogatepass")
    codes = np.minimum(np.frombuffer(data, np.uint32), np.uint32(_END - 1))
    return codes, np.repeat(np.arange(len(texts)), [len(text) for text in texts])


def _table(row: NDArray[np.intp], column: NDArray[Any], rows: int, columns: int) -> NDArray[np.int64]:
    """Return how often each column comes in each row."""
    found: NDArray[np.int64] = np.bincount(row * columns + column, minlength=rows * columns).reshape(rows, columns)
    return found


def _trigrams(codes: NDArray[np.uint32], row: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.uint32]]:
    """Return of each three neighbours in one text the text and the bucket."""
    first, second, third = (codes[at : len(codes) - 2 + at] * np.uint32(by) for at, by in enumerate(_MIX))
    mixed = (first ^ (second >> np.uint32(7))) + third
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(_MIX[0])
    is_one = row[2:] == row[:-2]
    return row[:-2][is_one], (mixed >> np.uint32(24))[is_one]


def _named(scripts: NDArray[np.int64], names: Sequence[str], has_text: NDArray[np.bool_]) -> NDArray[Any]:
    most = scripts.argmax(axis=1)
    found: NDArray[Any] = np.array([*names, None], object)[most]
    found[scripts.max(axis=1, initial=0) == 0] = NO_SCRIPT
    found[~has_text] = ""
    return found


def _drawn(wording: NDArray[np.int64], many: NDArray[np.int64]) -> NDArray[Any]:
    """Return of each text one of its trigrams: of rows that are one draw each, counts are what chi-square thinks."""
    place = np.array([int(random() * count) for count in many])
    bucket = (wording.cumsum(axis=1) <= place[:, None]).sum(axis=1)
    found: NDArray[Any] = np.array([*TRIGRAMS, None], object)[bucket % len(TRIGRAMS)]
    found[many == 0] = ""
    return found


@cache
def _classes() -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return the class of every character below _END, and the names of the classes: made once, in a few ms."""
    names = ["", "", ""]
    found = np.full(_END, _SIGN, np.uint8)
    for start, end in pairwise((*range(0, _FINE_END, _FINE), *range(_FINE_END, _END + 1, _COARSE))):
        name = script_of("".join(chr(code) for code in range(start + 1, end, (end - start) // 4)))
        if name == NO_SCRIPT:
            continue
        if name not in names:
            names.append(name)
        found[start:end] = names.index(name)
    for low, high in _SIGNS:
        found[low:high] = _SIGN
    found[:0x80] = [_of_ascii(chr(code), names.index("latin")) for code in range(0x80)]
    found[list(_SPACES)] = _SPACE
    return found, tuple(names)


def _of_ascii(letter: str, latin: int) -> int:
    if letter.isalpha():
        return latin
    if letter.isdigit():
        return _DIGIT
    return _SIGN if letter.isprintable() and letter != " " else _SPACE
