"""What is recognised in digits alone: payment cards, phone numbers, IPv4 addresses."""

import re
from itertools import accumulate
from typing import Final

from stoker.core.recognise import checks
from stoker.core.recognise.scan import END, Form, Screen
from stoker.core.recognise.spans import Span

BEFORE: Final = 28  # characters before a number that may say what it is
EXTENSION: Final = r"(?:,? ?(?:x|ext\.?|#) ?\d{1,6})?"
_DAY_FIRST: Final = re.compile(r"\d{1,2}([./-])\d{1,2}\1(?:19|20)\d{2}(?!\d)")
_YEAR_FIRST: Final = re.compile(r"(?:19|20)\d{2}([./-])\d{1,2}\1\d{1,2}(?!\d)")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_SEPARATORS: Final = {ord(letter): None for letter in " ().-/+\u00a0\u202f"}

_CARD: Final = r"(?<!\d[.,]\d)(?:(?<=[2-6])\d{3}|(?<=1)800)(?:[ \-\u00a0\u202f]?+\d){8,15}(?!\d)"
# Lengths of each scheme, the likeliest first, by the longest prefix (ISO/IEC 7812, issuers' public ranges).
_SCHEMES: Final[dict[str, tuple[int, ...]]] = {
    prefix: lengths
    for prefixes, lengths in (
        ("34 37 1800 2131", (15,)),
        ("300 301 302 303 304 305 36 38 39", (14, 16)),
        ("35 51 52 53 54 55 223 224 225 226 227 228 229 23 24 25 26 270 271 2720", (16,)),
        ("2221 2222 2223 2224 2225 2226 2227 2228 2229", (16,)),
        ("4", (16, 13, 19)),
        ("6011 644 645 646 647 648 649 65", (16, 19)),
        ("62", (16, 17, 18, 19)),
        ("50 56 57 58 59 6", (16, 19)),
        ("5018 5020 5038 5893 56 57 58 6304 6390 6759 6761 6762 6763", (16, 13, 12, 15, 19)),
    )
    for prefix in prefixes.split()
}

_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4: Final = (
    r"(?<!\.\d)(?:(?<=2)(?:5[0-5]|[0-4]\d)|(?<=1)\d\d|(?<=[1-9])\d|)\.(?:" + _OCTET + r"\.){2}" + _OCTET + r"(?!\.?\d)"
)
_VERSION: Final = re.compile(
    r"(?:\bv|version|release|firmware|build|driver|\brv|[=<>~^]=|@|\b[A-Za-z]+/)[ :]{0,2}\Z", re.IGNORECASE
)
_NOBODY: Final = ("127.", "0.0.0.0", "255.255.255.")  # this host, any host, a mask

_MANY: Final = r"(?:[ .\-/()\u00a0\u202f]{0,2}\d){6,14}(?!\d)" + EXTENSION
_INTERNATIONAL: Final = r"(?<=\+[1-9])(?<![A-Za-z0-9_+]\+\d)" + _MANY
_ZERO_ZERO: Final = r"(?<=0)(?<![A-Za-z0-9_+]0)(?<!\d 0)0(?=[1-9]\d{0,2}[ ./()\-])[1-9]" + _MANY
_LAST_SEVEN: Final = r"[2-9]\d{2}[ .\-]\d{4}" + EXTENSION + END
_NANP_OPEN: Final = r"(?<=\([2-9])(?<![A-Za-z0-9_.]\(\d)(?<!\d-\(\d)\d{2}\)[ \-]?" + _LAST_SEVEN
_NANP: Final = (
    r"(?<![A-Za-z0-9_.]\d)(?<!\d-\d)(?:(?<=1)[ .\-]?(?:\([2-9]\d{2}\)[ \-]?|[2-9]\d{2}[ .\-])|(?<=[2-9])\d{2}[ .\-])"
    + _LAST_SEVEN
)
_TRUNK: Final = r"(?<=0)(?<![A-Za-z0-9_.,/+\-]0)[1-9]\d{0,4}\)?[ /.\-]{1,3}\d{2,8}(?:[ .\-]\d{2,8}){0,4}" + END


def digits_of(text: str) -> str:
    """Return a number without what stands between its digits."""
    return text.translate(_SEPARATORS)


def is_date(text: str) -> bool:
    """Return whether digits begin with a date."""
    return _DAY_FIRST.match(text) is not None or _YEAR_FIRST.match(text) is not None


def opened(text: str, start: int) -> int:
    """Return `start`, or where the bracket before it is."""
    return start - 1 if start and text[start - 1] == "(" else start


def _card(text: str, start: int, end: int) -> Span | None:
    # Four replacements take a quarter of the time of one translation.
    whole = text[start:end].replace("-", " ").replace("\u00a0", " ").replace("\u202f", " ")
    digits = whole.replace(" ", "")
    get = _SCHEMES.get
    lengths = get(digits[:4]) or get(digits[:3]) or get(digits[:2]) or get(digits[0], ())
    if len(digits) in lengths and checks.luhn(digits):
        return None if _is_in_uuid(text, start, end) else Span(start, end, "card")
    # What follows may be another number: each group of digits may be the last.
    for parted, count in enumerate(accumulate(map(len, whole.split(" ")))):
        if count in lengths and count < len(digits) and checks.luhn(digits[:count]):
            last = start + count + parted
            return None if _is_in_uuid(text, start, last) else Span(start, last, "card")
    return None


def _is_in_uuid(text: str, start: int, end: int) -> bool:
    first = max(0, start - 24)
    return text.find("-", max(0, start - 1), end) >= 0 and any(
        first + found.start() <= start and end <= first + found.end()
        for found in _UUID.finditer(text[first : end + 24])
    )


def _ipv4(text: str, start: int, end: int) -> Span | None:
    before = text[max(0, start - BEFORE) : start]
    last = before.rstrip(" :")[-1:]
    is_told_otherwise = (last.isalpha() or last in "=@/") and _VERSION.search(before)
    return None if is_told_otherwise or text.startswith(_NOBODY, start, end) else Span(start, end, "ip")


def _international(text: str, start: int, end: int) -> Span:
    first = start - 1  # the +
    has_open = text.find(")", start, end) >= 0 and text.find("(", start, end) < 0
    return Span(opened(text, first) if has_open else first, end, "phone")


def _phone(_text: str, start: int, end: int) -> Span:
    return Span(start, end, "phone")


def _open_phone(_text: str, start: int, end: int) -> Span:
    return Span(start - 1, end, "phone")


def _trunk(text: str, start: int, end: int) -> Span | None:
    number = text[start:end]
    is_phone = 9 <= len(digits_of(number)) <= 12 and not is_date(number)
    return Span(opened(text, start), end, "phone") if is_phone else None


_SEVEN_DIGITS: Final = r"(?=(?:[ ().\-/+\u00a0\u202f]{0,3}+\d){6})"  # with what people put between them
SCREENS: Final = (
    Screen(
        _SEVEN_DIGITS,
        (
            Form(_CARD, _card),
            Screen(r"(?<=\+\d)", (Form(_INTERNATIONAL, _international),)),
            Screen(r"(?<=\(\d)", (Form(_NANP_OPEN, _open_phone),)),
            Screen(r"(?=\d{0,2}(?!\d))", (Form(_NANP, _phone),)),
            Screen(r"(?<=0)", (Form(_ZERO_ZERO, _phone), Form(_TRUNK, _trunk))),
        ),
    ),
    Screen(r"(?=\d{0,2}+\.\d)", (Form(_IPV4, _ipv4),)),
)
