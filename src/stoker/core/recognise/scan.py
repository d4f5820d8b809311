"""Where numbers may be, and which forms they may have, without looking at each number of a text.

What a form needs in the outline of a text (`999-99-9999`, `reading.py`) is found there at the speed of memchr, and only
where it is the form itself is looked for.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from stoker.core.recognise.reading import Reading
from stoker.core.recognise.spans import Span

# Of a number: no more of it follows. Letters beside a number part it from others only where words are parted by
# spaces: not those of Chinese.
END: Final = r"(?![A-Za-z0-9_]|[.\-]\d)"
_NINE: Final = ord("9")
# The span, given the text, where the first digit is and where the pattern ended; None when it only looks so.
Judge = Callable[[str, int, int], Span | None]


class Form(NamedTuple):
    """What something looks like, told from the first digit in it.

    pattern: what begins with that digit; it looks behind to see what is before. Every repeat in it is bounded.
    signs: pieces of outlines of which the form has one; where there are none, what to look for in the text or outline.
    first: where that digit may be, counted from the beginning of a sign.
    """

    pattern: re.Pattern[str]
    judged: Judge
    signs: Sequence[bytes] | re.Pattern[str] | re.Pattern[bytes]
    first: Sequence[int]

    def find(self, text: str, drawn: bytes) -> list[Span]:
        """Return where the form is in `text`, whose outline is `drawn`; spans do not overlap."""
        spans: list[Span] = []
        after = 0
        match, judged = self.pattern.match, self.judged
        for start in self._starts(text, drawn):
            found = match(text, start) if start >= after else None
            span = judged(text, start, found.end()) if found is not None else None
            if span is not None:
                after = span.end
                spans.append(span)
        return spans

    def _starts(self, text: str, drawn: bytes) -> Sequence[int]:
        """Return in order the first digits at which the form may begin."""
        signs = self._places(text, drawn)
        if not signs:
            return ()
        firsts = {
            at
            for offset in self.first
            for at in [sign + offset for sign in signs]
            if at >= 0 and drawn[at] == _NINE and (at == 0 or drawn[at - 1] != _NINE)
        }
        return sorted(firsts)

    def _places(self, text: str, drawn: bytes) -> Sequence[int]:
        """Return where signs are, in any order."""
        if isinstance(self.signs, re.Pattern):
            looked_at = drawn if isinstance(self.signs.pattern, bytes) else text
            return [found.start() for found in self.signs.finditer(looked_at)]  # type: ignore[arg-type]
        places: list[int] = []
        for piece in self.signs:
            at = drawn.find(piece)
            while at >= 0:
                places.append(at)
                at = drawn.find(piece, at + 1)
        return places


class Anchored(NamedTuple):
    """What something looks like, told from a sign that few texts have otherwise: the + or the first dot.

    pattern: what begins with that sign, which `re` finds at the speed of memchr; its one group that matched begins
    with the first digit, be it before the sign or behind it. Every repeat in it is bounded.
    """

    pattern: re.Pattern[str]
    judged: Judge

    def find(self, text: str, _drawn: bytes) -> list[Span]:
        """Return where the form is in `text`; spans do not overlap."""
        judged = self.judged
        spans = [judged(text, found.start(found.lastindex or 0), found.end()) for found in self.pattern.finditer(text)]
        return [span for span in spans if span is not None]


class Screen(NamedTuple):
    """Forms that are in a text only if one of `pieces` is in its outline: most texts cost one look for all of them.

    digits_min: how many digits each has that stand together, or with spaces and hyphens between.
    drawn: which outline of a reading has them, and the signs of the forms.
    """

    pieces: Sequence[bytes]
    forms: Sequence[Form | Anchored]
    digits_min: int = 1
    drawn: Callable[[Reading], bytes] = attrgetter("outline")


def find(screens: Iterable[Screen], read: Reading) -> list[Span]:
    """Return what is one of the forms; spans may overlap, but those of one form do not."""
    found: list[Span] = []
    for screen in screens:
        drawn = screen.drawn(read)
        if any(map(drawn.__contains__, screen.pieces)) and read.has_digits(screen.digits_min):
            for form in screen.forms:
                found += form.find(read.text, drawn)
    return found


def form(pattern: str, judged: Judge, *pieces: bytes, first: Sequence[int] = (0,)) -> Form:
    """Return the form of what has one of `pieces` in its outline."""
    return Form(re.compile(r"\d(?:" + pattern + ")"), judged, pieces, first)


def odd_form(
    pattern: str, judged: Judge, sign: re.Pattern[str] | re.Pattern[bytes], first: Sequence[int] = (0,)
) -> Form:
    """Return the form of what has no piece in common; `sign` must be found at 10 ns a digit or less."""
    return Form(re.compile(r"\d(?:" + pattern + ")"), judged, sign, first)
