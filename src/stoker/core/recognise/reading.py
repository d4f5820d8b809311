"""A text as the recognisers read it: itself, in small letters, and drawn; each is made once, at the speed of memcpy.

A form that begins with a digit costs `re` 30 ns for each digit of a text, a word 3 µs in 8 KB, and there are dozens of
each. So what most texts have not is looked for where it stands out: words among the letters alone, numbers in the
outline, in which all digits are the same digit and all letters the same letter.
"""

import re
from typing import Final, NamedTuple

_CAPITALS: Final = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_NO_SMALL_LETTERS: Final = bytes(code for code in range(128) if not chr(code).islower())
_OTHER_DIGIT: Final = re.compile(r"[^\D0-9]")
_SPACED: Final = bytes.maketrans(b".-", b"  ")
_BETWEEN_GROUPS: Final = b" -?"  # a space that does not break is drawn as ?


def _drawn(code: int) -> int:
    letter = chr(code)
    if letter.isalpha():
        return ord("A" if letter.isupper() else "a")
    return ord("9") if letter.isdigit() else code


_TABLE: Final = bytes(_drawn(code) if code < 128 else code for code in range(256))


class Reading(NamedTuple):
    """A text and what is seen of it.

    lower: the text in small letters, each where it was.
    letters: the small letters of `lower`, one behind the other; a word whose letters are not in it is not in the text.
    outline: a byte for each character: 9 is a digit, A and a are letters, other signs of ASCII are themselves.
    spaced: the outline in which a dot and a hyphen are spaces.
    numbers: the outline without spaces and hyphens, in which a number's groups are one.
    """

    text: str
    lower: str
    letters: str
    outline: bytes
    spaced: bytes
    numbers: bytes

    def says(self, word: str) -> bool:
        """Return whether `word`, of small letters and spaces, is in the text."""
        return word.replace(" ", "") in self.letters and word in self.lower

    def has_digits(self, count: int) -> bool:
        """Return whether there may be a number of so many digits, with spaces or hyphens between them or without."""
        return b"9" * count in self.numbers


def reading(text: str) -> Reading:
    """Return what is seen of `text`."""
    lower = text.lower()
    if len(lower) != len(text):  # some letter becomes two
        lower = text.translate(_CAPITALS)
    letters = lower.encode("utf-8", "surrogatepass").translate(None, _NO_SMALL_LETTERS)
    plain = text if text.isascii() else _OTHER_DIGIT.sub("9", text)
    outline = plain.encode("ascii", "replace").translate(_TABLE)
    numbers = outline.translate(None, _BETWEEN_GROUPS)
    return Reading(text, lower, letters.decode("utf-8", "surrogatepass"), outline, outline.translate(_SPACED), numbers)
