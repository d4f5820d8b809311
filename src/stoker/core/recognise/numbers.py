"""What is recognised in runs of digits: payment cards, phone numbers, national ids, IPv4 addresses.

One fast pass finds runs of digits and what people put between digits; only inside those the patterns look.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

from stoker.core.recognise import checks
from stoker.core.recognise.spans import Span

# The first character is a plain class, which `re` skips to at 5 ns a character; a look-behind first costs 30.
_END: Final = r"(?![A-Za-z0-9_]|[.\-]\d)"  # of a number: no more of it follows
# Letters beside a number part it from others only where words are parted by spaces: not those of Chinese.
_RUN: Final = re.compile(r"\d[\d ().\-/+\u00a0\u202f]{4,}\d")
BEFORE: Final = 28  # characters before a number that may say what it is
_DAY_FIRST: Final = re.compile(r"\d{1,2}([./-])\d{1,2}\1(?:19|20)\d{2}(?!\d)")
_YEAR_FIRST: Final = re.compile(r"(?:19|20)\d{2}([./-])\d{1,2}\1\d{1,2}(?!\d)")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")

_CARD: Final = re.compile(r"(?<!\d)(?<!\d[.,])[2-6]\d{3}(?=((?:[ \-\u00a0\u202f]?\d){8,15}))")
# Lengths of each scheme by the first digits (ISO/IEC 7812 issuers' public ranges).
_SCHEMES: Final = (
    (re.compile("3[47]"), (15,)),
    (re.compile("3(?:0[0-5]|[689])"), (14, 16)),
    (re.compile("35(?:2[89]|[3-8])"), (16,)),
    (re.compile("4"), (16, 13, 19)),
    (re.compile("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),
    (re.compile("6(?:011|4[4-9]|5)"), (16, 19)),
    (re.compile("62|81"), (16, 17, 18, 19)),
    (re.compile("50|5[6-9]|6[0-9]"), (16, 13, 12, 15, 19)),
)

_IPV4: Final = re.compile(
    r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?!\.?\d)"
)
_VERSION: Final = re.compile(
    r"(?:\bv|version|release|firmware|build|driver|[=<>~^]=|@|\b[A-Za-z]+/)[ :]{0,2}\Z", re.IGNORECASE
)
_NOBODY: Final = ("127.", "0.0.0.0", "255.255.255.")  # this host, any host, a mask

_INTERNATIONAL: Final = re.compile(
    r"(?<![A-Za-z0-9_+])(?:\+|(?<!\d )00(?=[1-9]\d{0,2}[ ./()\-]))[1-9](?:[ .\-/()\u00a0\u202f]{0,2}\d){6,14}(?!\d)"
)
_NANP: Final = re.compile(
    r"(?<![A-Za-z0-9_.])(?<!\d-)(?:1[ .\-]?)?(?:\([2-9]\d{2}\)[ \-]?|[2-9]\d{2}[ .\-])[2-9]\d{2}[ .\-]\d{4}" + _END
)
_TRUNK: Final = re.compile(
    r"(?<![A-Za-z0-9_.,/+\-])\(?0[1-9]\d{0,4}\)?[ /.\-]{1,3}\d{2,8}(?:[ .\-]\d{2,8}){0,4}" + _END
)
_TOLD: Final = re.compile(r"(?<![A-Za-z0-9_.])\(?\d(?:[ .\-/()]{0,2}\d){6,14}(?![A-Za-z0-9_]|[.,]\d)")
_TELLS_PHONE: Final = re.compile(
    r"(?:\btel|phone|mobil|\bcell|\bfax|\bcall(?:ed|ing|er)?\b|whatsapp|\bsms\b|\bhandy|téléphone|\bring|\btext me)"
    r"\w{0,4}[^\d\n\x00]{0,14}\Z",
    re.IGNORECASE,
)
_TELLS_SSN: Final = re.compile(r"(?:\bssn\b|social.?security)[^\d\n\x00]{0,16}\Z", re.IGNORECASE)
_TELLS_BSN: Final = re.compile(r"(?:\bbsn\b|burgerservice|sofi)[^\d\n\x00]{0,16}\Z", re.IGNORECASE)

_SSN: Final = re.compile(r"(?<![A-Za-z0-9_.\-])\d{3}(-?| )\d{2}\1\d{4}(?![A-Za-z0-9_]|-\d)")
_ELEVEN: Final = re.compile(
    r"(?<![A-Za-z0-9_.\-])(?:\d{11}|\d{2} \d{3} \d{3} \d{3}|\d{2}\.\d{2}\.\d{2}[- ]\d{3}[.\- ]\d{2})" + _END
)
_NIR: Final = re.compile(r"(?<![A-Za-z0-9_.\-])[12] ?\d{2} ?\d{2} ?\d{2} ?\d{3} ?\d{3} ?\d{2}" + _END)
_SWEDISH: Final = re.compile(r"(?<![A-Za-z0-9_.\-])(?:\d{8}|\d{6})[-+]\d{4}" + _END)
_SEPARATORS: Final = {ord(letter): None for letter in " ().-/+\u00a0\u202f"}


def find(text: str) -> Iterator[Span]:
    """Yield what runs of digits in `text` are recognised as; spans may overlap."""
    for run in _RUN.finditer(text):
        start, end = max(0, run.start() - 2), run.end() + 1  # a + or ( before, and what must not follow
        if "." in run[0]:
            yield from _ipv4(text, start, end)
        digits = sum(map(str.isdecimal, run[0]))
        if digits >= 12:
            yield from _cards(text, start, end)
        if digits >= 7:
            yield from _phones(text, start, end)
        if digits >= 9:
            yield from _ids(text, start, end)
        if digits >= 10:
            yield from _checked_ids(text, start, end)


def _ipv4(text: str, start: int, end: int) -> Iterator[Span]:
    for found in _IPV4.finditer(text, start, end):
        before = text[max(0, found.start() - BEFORE) : found.start()]
        if not found[0].startswith(_NOBODY) and not _VERSION.search(before):
            yield Span(found.start(), found.end(), "ip")


def _cards(text: str, start: int, end: int) -> Iterator[Span]:
    for found in _CARD.finditer(text, start, end):
        whole = found[0] + found[1]
        at = [index for index, letter in enumerate(whole) if letter.isdecimal()]
        digits = "".join([whole[index] for index in at])
        for length in _lengths(digits):
            if length > len(at):
                continue
            last = found.start() + at[length - 1] + 1
            if text[last : last + 1].isdecimal() or not checks.luhn(digits[:length]):
                continue
            if not _is_in_uuid(text, found.start(), last):
                yield Span(found.start(), last, "card")
            break


def _lengths(digits: str) -> tuple[int, ...]:
    return next((lengths for scheme, lengths in _SCHEMES if scheme.match(digits)), ())


def _is_in_uuid(text: str, start: int, end: int) -> bool:
    first = max(0, start - 24)
    return any(
        first + found.start() <= start and end <= first + found.end()
        for found in _UUID.finditer(text[first : end + 24])
    )


def _phones(text: str, start: int, end: int) -> Iterator[Span]:
    has_prefix = text.find("+", start, end) >= 0 or text.find("00", start, end) >= 0
    for pattern in (_INTERNATIONAL, _NANP) if has_prefix else (_NANP,):
        for found in pattern.finditer(text, start, end):
            yield Span(found.start(), found.end(), "phone")
    for found in _TRUNK.finditer(text, start, end):
        if 9 <= len(_digits(found[0])) <= 12 and not _is_date(found[0]):
            yield Span(found.start(), found.end(), "phone")
    for found in _TOLD.finditer(text, start, end):
        if not _is_date(found[0]) and _tells(_TELLS_PHONE, text, found.start()):
            yield Span(found.start(), found.end(), "phone")


def _ids(text: str, start: int, end: int) -> Iterator[Span]:
    for found in _SSN.finditer(text, start, end):
        digits = _digits(found[0])
        is_told = found[1] == "-" or _tells(_TELLS_SSN, text, found.start())
        is_dutch = not found[1] and checks.bsn(digits) and _tells(_TELLS_BSN, text, found.start())
        if (is_told and checks.ssn(digits)) or is_dutch:
            yield Span(found.start(), found.end(), "id")


def _checked_ids(text: str, start: int, end: int) -> Iterator[Span]:
    for pattern, is_right in _FORMS:
        for found in pattern.finditer(text, start, end):
            if is_right(_digits(found[0])):
                yield Span(found.start(), found.end(), "id")


def _eleven(digits: str) -> bool:
    return checks.pesel(digits) or checks.steuer_id(digits) or checks.rijksregister(digits)


_FORMS: Final[tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...]] = (
    (_ELEVEN, _eleven),
    (_NIR, checks.nir),
    (_SWEDISH, checks.personnummer),
)


def _digits(text: str) -> str:
    return text.translate(_SEPARATORS)


def _is_date(text: str) -> bool:
    return _DAY_FIRST.match(text) is not None or _YEAR_FIRST.match(text) is not None


def _tells(pattern: re.Pattern[str], text: str, start: int) -> bool:
    return pattern.search(text[max(0, start - BEFORE) : start]) is not None
