"""What is recognised in digits alone, besides cards: phone numbers, IPv4 addresses."""

import re
from operator import attrgetter
from typing import Final

from stoker.core.recognise.scan import END, Anchored, Screen, form, odd_form
from stoker.core.recognise.spans import Span

BEFORE: Final = 28  # characters before a number that may say what it is
EXTENSION: Final = r"(?:,? ?(?:x|ext\.?|#) ?\d{1,6})?"
_DAY_FIRST: Final = re.compile(r"\d{1,2}([./-])\d{1,2}\1(?:19|20)\d{2}(?!\d)")
_YEAR_FIRST: Final = re.compile(r"(?:19|20)\d{2}([./-])\d{1,2}\1\d{1,2}(?!\d)")
_SEPARATORS: Final = b" ().-/+"

_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
# From its first dot on: the number before it is looked at backwards, where no digit and no dot may be before.
_IPV4: Final = re.compile(
    r"\.(?=\d{1,3}\.\d{1,3}\.\d)(?:(?<=(?<![\d.])(25[0-5]|2[0-4]\d|1\d\d)\.)|(?<=(?<![\d.])([1-9]\d)\.)"
    r"|(?<=(?<![\d.])(\d)\.))(?:" + _OCTET + r"\.){2}" + _OCTET + r"(?!\.?\d)"
)
_VERSION: Final = re.compile(
    r"(?:\bv|version|release|firmware|build|driver|\brv|[=<>~^]=|@|\b[A-Za-z]+/)[ :]{0,2}\Z", re.IGNORECASE
)
_NOBODY: Final = ("127.", "0.0.0.0", "255.255.255.")  # this host, any host, a mask

_MANY: Final = r"(?:[ .\-/()\u00a0\u202f]{0,2}+\d){6,14}(?!\d)" + EXTENSION
_INTERNATIONAL: Final = re.compile(r"\+(?<![A-Za-z0-9_+]\+)([1-9])" + _MANY)
_ZERO_ZERO: Final = r"(?<=0)(?<![A-Za-z0-9_+]0)(?<!\d 0)0(?=[1-9]\d{0,2}[ ./()\-])[1-9]" + _MANY
_LAST_SEVEN: Final = r"[2-9]\d{2}[ .\-]\d{4}" + EXTENSION + END
_NANP_OPEN: Final = r"(?<=\([2-9])(?<![A-Za-z0-9_.]\(\d)(?<!\d-\(\d)\d{2}\)[ \-]?" + _LAST_SEVEN
_NANP: Final = (
    r"(?<![A-Za-z0-9_.]\d)(?<!\d-\d)(?:(?<=1)[ .\-]?(?:\([2-9]\d{2}\)[ \-]?|[2-9]\d{2}[ .\-])|(?<=[2-9])\d{2}[ .\-])"
    + _LAST_SEVEN
)
_TRUNK_MAX: Final = 20  # characters: twelve digits, a bracket and seven signs between groups
_TRUNK: Final = r"(?<=0)(?<![A-Za-z0-9_.,/+\-]0)[1-9]\d{0,4}\)?[ /.\-]{1,3}\d{2,8}(?:[ .\-]\d{2,8}){0,4}" + END


def digits_of(text: str) -> str:
    """Return a number without what stands between its digits."""
    if not text.isascii():
        text = text.replace("\u00a0", "").replace("\u202f", "")
    return text.encode().translate(None, _SEPARATORS).decode()


def is_date(text: str) -> bool:
    """Return whether digits begin with a date."""
    return _DAY_FIRST.match(text) is not None or _YEAR_FIRST.match(text) is not None


def opened(text: str, start: int) -> int:
    """Return `start`, or where the bracket before it is."""
    return start - 1 if start and text[start - 1] == "(" else start


def _ipv4(text: str, start: int, end: int) -> Span | None:
    last = text[max(0, start - 3) : start].rstrip(" :")[-1:]
    may_be_told = last.isalpha() or (last and last in "=@/")
    is_told_otherwise = may_be_told and _VERSION.search(text[max(0, start - BEFORE) : start])
    return None if is_told_otherwise or text.startswith(_NOBODY, start, end) else Span(start, end, "ip")


def _international(text: str, start: int, end: int) -> Span:
    first = start - 1  # the +
    closes = text.find(")", start, end) >= 0 and text.find("(", start, end) < 0
    return Span(opened(text, first) if closes else first, end, "phone")


def _phone(_text: str, start: int, end: int) -> Span:
    return Span(start, end, "phone")


def _open_phone(_text: str, start: int, end: int) -> Span:
    return Span(start - 1, end, "phone")


def _trunk(text: str, start: int, end: int) -> Span | None:
    if not 9 <= end - start <= _TRUNK_MAX:
        return None
    number = text[start:end]
    is_phone = 9 <= len(digits_of(number)) <= 12 and not is_date(number)
    return Span(opened(text, start), end, "phone") if is_phone else None


_CLOSED: Final = (b")999 9999", b") 999 9999")
SCREENS: Final = (
    Screen((b".9",), (Anchored(_IPV4, _ipv4),)),
    Screen((b"+9",), (Anchored(_INTERNATIONAL, _international),)),
    Screen(
        (b"999 9999",),
        (
            form(_NANP_OPEN, _open_phone, *_CLOSED, first=(-3,)),
            form(_NANP, _phone, b" 999 9999", first=(-3, -4, -5)),
            form(_NANP, _phone, *_CLOSED, first=(-5, -6)),
        ),
        drawn=attrgetter("spaced"),
    ),
    Screen(
        (b"99",),
        (
            odd_form(_ZERO_ZERO, _phone, re.compile(r"00(?=[1-9]\d{0,2}[ ./()\-])")),
            odd_form(_TRUNK, _trunk, re.compile(r"0(?<![A-Za-z0-9_.,/+\-]0)(?=[1-9]\d{0,4}\)?[ /.\-]{1,3}\d\d)")),
        ),
    ),
)
