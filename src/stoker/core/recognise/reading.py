"""A text as the recognisers read it: itself, in small letters, and drawn; each is made once, at the speed of memcpy.

A form that begins with a digit costs `re` 30 ns for each digit of a text, a word 3 µs in 8 KB, and there are dozens of
each. So what most texts have not is looked for where it stands out: words among the letters alone, numbers in the
outline, in which all digits are the same digit and all letters the same letter.
"""

import re
from string import ascii_lowercase
from typing import Final, NamedTuple

_CAPITALS: Final = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_ASCII: Final = bytes(range(128))
_NO_SMALL_LETTERS: Final = bytes(set(range(256)) - set(ascii_lowercase.encode()))
_OTHER_DIGIT: Final = re.compile(r"[^\D0-9]")
_SPACED: Final = bytes.maketrans(b".-", b"  ")
_BETWEEN_GROUPS: Final = b" -?"  # a space that does not break is drawn as ?


def _drawn(code: int) -> int:
    letter = chr(code)
    if letter.isalpha():
        return ord("A" if letter.isupper() else "a")
    return ord("9") if letter.isdigit() else code


DRAWN: Final = bytes(_drawn(code) if code < 128 else code for code in range(256))


class Reading(NamedTuple):
    """A text and what is seen of it.

    lower: the text in small letters, each where it was.
    letters: a to z of `lower`, one behind the other; a word whose letters are not in it is not in the text.
    foreign: what of `lower` is not ASCII, of which most texts have little.
    outline: a byte for each character: 9 is a digit, A and a are letters, other signs of ASCII are themselves.
    small: the outline in which small letters stand for capitals too.
    spaced: the outline in which a dot and a hyphen are spaces.
    numbers: the outline without spaces and hyphens, in which a number's groups are one.
    """

    text: str
    lower: str
    letters: str
    foreign: str
    outline: bytes
    small: bytes
    spaced: bytes
    numbers: bytes

    def says(self, word: str) -> bool:
        """Return whether `word`, of small letters and spaces, is in the text."""
        return self.may_say(word) and word in self.lower

    def may_say(self, word: str) -> bool:
        """Return False where `word` cannot be in the text, at a third of the cost."""
        if word.isascii():
            return word.replace(" ", "") in self.letters
        return word.lstrip(ascii_lowercase)[0] in self.foreign

    def has_digits(self, count: int) -> bool:
        """Return whether there may be a number of so many digits, with spaces or hyphens between them or without."""
        return b"9" * count in self.numbers


def reading(text: str) -> Reading:
    """Return what is seen of `text`."""
    lower = text.lower()
    if len(lower) != len(text):  # some letter becomes two
        lower = text.translate(_CAPITALS)
    coded = lower.encode("utf-8", "surrogatepass")
    letters = coded.translate(None, _NO_SMALL_LETTERS).decode()
    foreign = "" if lower.isascii() else coded.translate(None, _ASCII).decode("utf-8", "surrogatepass")
    plain = _OTHER_DIGIT.sub("9", text) if _OTHER_DIGIT.search(foreign) else text
    outline = plain.encode("ascii", "replace").translate(DRAWN)
    numbers = outline.translate(None, _BETWEEN_GROUPS)
    spaced = outline.translate(_SPACED)
    return Reading(text, lower, letters, foreign, outline, outline.lower(), spaced, numbers)
