"""Payment cards: groups of digits of a scheme's length whose last digit is right after Luhn."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final

from stoker.core.recognise.checks import Luhn
from stoker.core.recognise.reading import Reading
from stoker.core.recognise.spans import Span

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
# Digits with one sign between their groups at most: all numbers that stand so beside each other are read together.
_RUN: Final = re.compile(r"\d{4,}+(?:[ \-\u00a0\u202f]\d++)*+")
_DRAWN_RUN: Final = re.compile(rb"9999(?<!99999)(?=[9 \-?]{8})9*+(?:[ \-?]9++)*+")  # of an outline; ? is any other sign
_DIGITS_MIN: Final = 12
_DIGITS_MAX: Final = 19
# Lengths of each scheme, the shortest first, by the longest prefix (ISO/IEC 7812, issuers' public ranges).
_SCHEMES: Final[dict[str, tuple[int, ...]]] = {
    prefix: lengths
    for prefixes, lengths in (
        ("34 37 1800 2131", (15,)),
        ("300 301 302 303 304 305 36 38 39", (14, 16)),
        ("35 51 52 53 54 55 223 224 225 226 227 228 229 23 24 25 26 270 271 2720", (16,)),
        ("2221 2222 2223 2224 2225 2226 2227 2228 2229", (16,)),
        ("4", (13, 16, 19)),
        ("6011 644 645 646 647 648 649 65", (16, 19)),
        ("62", (16, 17, 18, 19)),
        ("50 56 57 58 59 6", (16, 19)),
        ("5018 5020 5038 5893 56 57 58 6304 6390 6759 6761 6762 6763", (12, 13, 15, 16, 19)),
    )
    for prefix in prefixes.split()
}
_NO_CARDS: Final = {f"{two:02}" for two in range(100)} - {
    f"{prefix}{digit}"[:2] for prefix in _SCHEMES for digit in range(10)
}  # the first two digits of most numbers that are none


def find(read: Reading) -> Iterator[Span]:
    """Yield the cards in a text; spans do not overlap."""
    if read.has_digits(_DIGITS_MIN):
        for drawn in _DRAWN_RUN.finditer(read.outline):
            for run in _RUN.finditer(read.text, *drawn.span()) if b"?" in drawn[0] else (drawn,):
                yield from _in_run(read.text, run.start(), read.text[run.start() : run.end()])


def _in_run(text: str, first: int, run: str) -> Iterator[Span]:
    """Yield the cards in groups of digits with a sign between each two."""
    groups = run.replace("-", " ").replace("\u00a0", " ").replace("\u202f", " ").split(" ")
    digits = "".join(groups)
    if len(digits) < _DIGITS_MIN or (len(groups) == 1 and len(digits) not in _lengths(digits[:4])):
        return
    bounds = list(accumulate(map(len, groups), initial=0))  # of groups, counted in digits
    ends = frozenset(bounds)
    sums = Luhn(digits)
    may_be_in_uuid = text.find("-", max(0, first - 1), first + len(run)) >= 0
    after = 1 if _is_fraction(text, first) else 0  # the group behind the last card
    for at, group in enumerate(groups):
        if at < after or group[:2] in _NO_CARDS:
            continue
        start = bounds[at]
        right = [
            start + length
            for length in _lengths(group[:4])
            if start + length in ends and sums.is_right(start, start + length)
        ]
        if right:
            last = bounds.index(_likeliest(right, bounds, at), at)
            begin, end = first + start + at, first + bounds[last] + last - 1
            if not (may_be_in_uuid and _is_in_uuid(text, begin, end)):
                after = last
                yield Span(begin, end, "card")


@lru_cache(maxsize=8192)  # which are all prefixes there are
def _lengths(prefix: str) -> tuple[int, ...]:
    """Return how many digits cards have whose first group begins with the four digits `prefix`, or is that short."""
    if len(prefix) < 4:
        return ()
    return next((_SCHEMES[prefix[:size]] for size in (4, 3, 2, 1) if prefix[:size] in _SCHEMES), ())


def _likeliest(right: Sequence[int], bounds: Sequence[int], at: int) -> int:
    """Return where a card ends of which several ends have a right check digit.

    All digits that a card may have come first, then the fewest: what follows those may be another number.
    """
    all_end = bounds[bisect_right(bounds, bounds[at] + _DIGITS_MAX, at + 1) - 1]
    return all_end if all_end in right else right[0]


def _is_fraction(text: str, start: int) -> bool:
    """Return whether a number goes on at `start` behind its decimal sign."""
    return start > 1 and text[start - 1] in ".," and text[start - 2].isdecimal()


def _is_in_uuid(text: str, start: int, end: int) -> bool:
    first = max(0, start - 24)
    return text.find("-", max(0, start - 1), end) >= 0 and any(
        first + found.start() <= start and end <= first + found.end()
        for found in _UUID.finditer(text[first : end + 24])
    )
