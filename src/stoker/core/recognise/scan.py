"""Where numbers may be, and which forms they may have, without looking at each number of a text.

A form that begins with a digit costs `re` 30 ns for each digit of a text, and a dozen of them are ten times one. So a
text is first made into its outline, in which all digits are the same digit and all letters the same letter; what a
form needs there (`999-99-9999`) is found at the speed of memchr, and only there the form itself is looked for.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from stoker.core.recognise.spans import Span

# Of a number: no more of it follows. Letters beside a number part it from others only where words are parted by
# spaces: not those of Chinese.
END: Final = r"(?![A-Za-z0-9_]|[.\-]\d)"
_NINE: Final = ord("9")
_OTHER_DIGIT: Final = re.compile(r"[^\D0-9]")


def _drawn(code: int) -> int:
    letter = chr(code)
    if letter.isalpha():
        return ord("A" if letter.isupper() else "a")
    return _NINE if letter.isdigit() else code


_TABLE: Final = bytes(_drawn(code) if code < 128 else code for code in range(256))


def outline(text: str) -> bytes:
    """Return a byte for each character: 9 is a digit, A and a are letters, other signs of ASCII are themselves."""
    plain = text if text.isascii() else _OTHER_DIGIT.sub("9", text)
    return plain.encode("ascii", "replace").translate(_TABLE)


class Form(NamedTuple):
    """What something looks like, told from the first digit in it.

    pattern: what begins with that digit; it looks behind to see what is before. Every repeat in it is bounded.
    judged: the span, given the text, where that digit is and where the pattern ended; None when it only looks so.
    signs: pieces of outlines of which the form has one; where there are none, what to look for in the text or outline.
    first: where that digit may be, counted from the beginning of a sign.
    """

    pattern: re.Pattern[str]
    judged: Callable[[str, int, int], Span | None]
    signs: Sequence[bytes] | re.Pattern[str] | re.Pattern[bytes]
    first: Sequence[int]

    def find(self, text: str, drawn: bytes) -> Iterator[Span]:
        """Yield where the form is in `text`, whose outline is `drawn`; spans do not overlap."""
        after = 0
        match, judged = self.pattern.match, self.judged
        for start in self._starts(text, drawn):
            found = match(text, start) if start >= after else None
            span = judged(text, start, found.end()) if found is not None else None
            if span is not None:
                after = span.end
                yield span

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


class Screen(NamedTuple):
    """Forms of which each has one of `pieces` in its outline: most texts cost one look for all of them."""

    pieces: Sequence[bytes]
    forms: Sequence[Form]


def find(screens: Sequence[Screen], text: str) -> Iterator[Span]:
    """Yield what in `text` is one of the forms; spans may overlap, but those of one form do not."""
    drawn = outline(text)
    for screen in screens:
        if any(map(drawn.__contains__, screen.pieces)):
            for form in screen.forms:
                yield from form.find(text, drawn)


def form(
    pattern: str, judged: Callable[[str, int, int], Span | None], *pieces: bytes, first: Sequence[int] = (0,)
) -> Form:
    """Return the form of what has one of `pieces` in its outline."""
    return Form(re.compile(r"\d(?:" + pattern + ")"), judged, pieces, first)


def odd_form(
    pattern: str,
    judged: Callable[[str, int, int], Span | None],
    sign: re.Pattern[str] | re.Pattern[bytes],
    first: Sequence[int] = (0,),
) -> Form:
    """Return the form of what has no piece in common; `sign` must be found at 10 ns a digit or less."""
    return Form(re.compile(r"\d(?:" + pattern + ")"), judged, sign, first)
