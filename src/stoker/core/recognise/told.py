"""Numbers that are only known by the word before them: "call 5550132", "SSN 457 55 5462".

The words are looked for and not the numbers: most texts have many more numbers than such words.
"""

import re
from collections.abc import Iterator
from typing import Final

from stoker.core.recognise import checks
from stoker.core.recognise.numbers import BEFORE, EXTENSION, is_date, opened
from stoker.core.recognise.reading import Reading
from stoker.core.recognise.spans import Span, after

_PHONE_WORDS: Final = (
    "tel", "tél", "phone", "mobil", "cel", "fax", "call", "whatsapp", "sms", "handy", "ring", "text me", "gsm", "tlf",
    "puh", "komórk", "тел", "τηλ", "電話", "电话", "手机", "手機", "携帯", "전화", "휴대",
)  # fmt: skip
_SSN_WORDS: Final = ("ssn", "social")
_BSN_WORDS: Final = ("bsn", "burgerservice", "sofi")
_PHONE_TELLS: Final = (
    r"(?:\btel|\btél|phone|mobil|\bcel|\bfax|\bcall(?:ed|ing|er)?\b|whatsapp|\bsms\b|\bhandy|\bring|\btext me|\bgsm\b"
    r"|\btlf|\bpuh|komórk|\bтел|\bτηλ|電話|电话|手机|手機|携帯|전화|휴대)[^\W\d]{0,4}[^\d\n\x00]{0,14}"
)
_TELLS_PHONE: Final = re.compile(_PHONE_TELLS + r"\Z", re.IGNORECASE)
_PHONE: Final = re.compile(
    _PHONE_TELLS + r"(?-i:(?<![A-Za-z0-9_.]))(\d(?:[ .\-/()]{0,2}\d){6,14}" + EXTENSION + r"(?![A-Za-z0-9_]|[.,]\d))",
    re.IGNORECASE,
)
# Without IGNORECASE, by which [A-Z] would be İ, ı, ſ and the Kelvin sign too.
_NINE: Final = r"[^\d\n\x00]{0,16}(?-i:(?<![A-Za-z0-9_.\-]))"
_NINE_END: Final = r"(?-i:(?![A-Za-z0-9_]|-\d))"
_SSN: Final = re.compile(
    r"(?:\bssn\b|social.?security)" + _NINE + r"(\d{3}(?:\d{2}| \d{2} )\d{4})" + _NINE_END, re.IGNORECASE
)
_BSN: Final = re.compile(r"(?:\bbsn\b|burgerservice|sofi)" + _NINE + r"(\d{9})" + _NINE_END, re.IGNORECASE)


def find(read: Reading) -> Iterator[Span]:
    """Yield numbers that the text says are phones or national ids."""
    for found in after(_PHONE_WORDS, _PHONE, read):
        if not is_date(found[1]):
            start = opened(read.text, found.start(1))
            yield Span(start, found.end(1), "phone")
    for found in after(_SSN_WORDS, _SSN, read):
        if checks.ssn(found[1].replace(" ", "")):
            yield Span(found.start(1), found.end(1), "id")
    for found in after(_BSN_WORDS, _BSN, read):
        if checks.bsn(found[1]):
            yield Span(found.start(1), found.end(1), "id")


def is_told_phone(text: str, start: int) -> bool:
    """Return whether the number at `start` is said to be a phone's."""
    before = text[max(0, start - BEFORE) : start]
    return any(map(before.lower().__contains__, _PHONE_WORDS)) and _TELLS_PHONE.search(before) is not None
