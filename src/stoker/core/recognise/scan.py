"""Where numbers begin, and which forms they may have: one pass over a text for all forms together.

A form that begins with a digit costs `re` 30 ns for each digit of a text, and a search of its own costs half a
microsecond for each number, whatever comes of it; a dozen of them are ten times one. So all are looked for at once,
at the first digit of each group of digits, and only what has the form of something is looked at in Python.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from stoker.core.recognise.spans import Span

# Of a number: no more of it follows. Letters beside a number part it from others only where words are parted by
# spaces: not those of Chinese.
END: Final = r"(?![A-Za-z0-9_]|[.\-]\d)"
FIRST: Final = r"\d(?<!\d\d)"  # a plain class first, which `re` skips to at 5 ns a character


class Form(NamedTuple):
    """What something looks like, told from the first digit in it.

    pattern: what follows that digit; it looks behind to see the digit and what is before. It has no groups, and every
        repeat in it is bounded.
    judged: the span, given the text, where that digit is and where the pattern ended; None when it only looks so.
    """

    pattern: str
    judged: Callable[[str, int, int], Span | None]


class Screen(NamedTuple):
    """Forms that all need what `pattern`, which only looks, sees: most numbers cost one look for all of them."""

    pattern: str
    forms: Sequence["Form | Screen"]


class Scan:
    """Screens, compiled into one pattern with a group for each form."""

    def __init__(self, screens: Sequence[Screen]) -> None:
        self.forms: list[Form] = []
        looks = "".join(map(self._look, screens))
        some = "(?!)"  # of the groups, at least one was found
        for group in range(len(self.forms), 0, -1):
            some = f"(?({group})|{some})"
        self._pattern = re.compile(FIRST + looks + some + r"\d*+")

    def find(self, text: str) -> Iterator[Span]:
        """Yield what is one of the forms; spans may overlap, but those of one form do not."""
        judges = (_none, *(form.judged for form in self.forms))
        after = [0] * len(judges)  # where the last span of each form ended
        for found in self._pattern.finditer(text):
            start, form = found.start(), found.lastindex
            while form:
                end = found.end(form)
                if end >= 0 and start >= after[form]:
                    span = judges[form](text, start, end)
                    if span is not None:
                        after[form] = span.end
                        yield span
                form -= 1

    def _look(self, part: Form | Screen) -> str:
        """Return what looks ahead for a form, or for all of a screen, and goes on whether it is there or not."""
        if isinstance(part, Form):
            self.forms.append(part)
            return f"(?=({part.pattern})|)"
        return f"(?={part.pattern}" + "".join(map(self._look, part.forms)) + "|)"


def _none(*_: object) -> None:
    """Judge nothing: groups are numbered from 1."""
