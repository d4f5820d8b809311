"""A piece of a text and what it is; how pieces are found from the words before them."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from stoker.core.recognise.reading import Reading


class Span(NamedTuple):
    """`text[start:end]` is a `kind`."""

    start: int
    end: int
    kind: str


def after(words: Iterable[str], pattern: re.Pattern[str], read: Reading) -> Iterator[re.Match[str]]:
    """Yield where `pattern` begins with one of `words`, which are in small letters.

    A search for ten words costs `re` 20 times what it costs to find each.
    """
    lower = read.lower
    for word in filter(read.may_say, words):
        at = lower.find(word)
        while at >= 0:
            found = pattern.match(read.text, at)
            if found is not None:
                yield found
            at = lower.find(word, at + 1)


def any_of(forms: Iterable[str], not_behind: str) -> str:
    """Return a pattern of what is one of `forms`, each of which begins with a letter, and not behind `not_behind`.

    The first letters stand before all else: `re` passes by what is none of them four times as fast.
    """
    rests: dict[str, list[str]] = {}
    for form in forms:
        rests.setdefault(form[0], []).append(form[1:])
    groups = "|".join(f"(?<={first})(?:{'|'.join(rest)})" for first, rest in rests.items())
    return f"[{''.join(rests)}](?<!{not_behind}.)(?:{groups})"
