"""What is recognised in words: addresses of mail, IPv6 addresses."""

import re
from collections.abc import Iterator
from typing import Final

from stoker.core.recognise.spans import Span

# From the @ on, which `re` finds at the speed of memchr; the part before is read backwards.
_DOMAIN: Final = r"(?:\w[\w\-]{0,62}\.){1,8}(?:[^\W\d_]{2,24}|xn--[a-z0-9\-]{2,58})(?![^\W_])"
_AT: Final = re.compile(r"@(?:" + _DOMAIN + r"|\[\d{1,3}(?:\.\d{1,3}){3}\])")
# The @ of a URL, of JSON inside of a text, of HTML; each with what a text must have.
_CODED: Final = tuple(
    (sign, re.compile(at + _DOMAIN))
    for sign, at in (("%40", "%40"), ("u0040", r"\\{1,4}u0040"), ("&#64;", "&#64;"), ("&#x40;", "&#x40;"))
)
_USERINFO: Final = re.compile(r"://[^\s/@]{0,60}:\Z")  # a password stands there, which `secrets` finds
_LOCAL_MAX: Final = 64
_SIGNS: Final = "._%+-'~!$*^{}`"  # also allowed are = & ? / # |, which part other things
_LOCAL: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789" + _SIGNS
_QUOTES: Final = "'{`!*$^"  # signs that also stand before an address

# From its first colon on: what is before it is looked at backwards. One gap, or eight groups.
_HEX: Final = "[0-9A-Fa-f]"
_GROUP: Final = _HEX + "{1,4}"
_NOT_BEFORE: Final = "(?<![A-Za-z0-9_:.])"
_HEAD: Final = "|".join(rf"(?<={_NOT_BEFORE}({_HEX}{{{letters}}}):)" for letters in (4, 3, 2, 1))
_IPV6: Final = re.compile(
    rf":(?={_HEX}{{0,4}}:)(?:{_HEAD}|(?<={_NOT_BEFORE}():)(?=:))"
    rf"(?:(?::|{_GROUP}(?::{_GROUP}){{0,5}}::)(?:{_GROUP}(?::{_GROUP}){{0,6}})?|{_GROUP}(?::{_GROUP}){{6}})"
    r"(?![A-Za-z0-9_:])"
)
_COLONS_MAX: Final = 7  # one more where the gap is at an end


def find(text: str) -> Iterator[Span]:
    """Yield what words in `text` are recognised as; spans may overlap."""
    if "@" in text:
        yield from _emails(text, _AT)
    for sign, pattern in _CODED:
        if sign in text:
            yield from _emails(text, pattern)
    if ":" in text:
        yield from _ipv6(text)


def _emails(text: str, pattern: re.Pattern[str]) -> Iterator[Span]:
    for found in pattern.finditer(text):
        at = found.start()
        first = max(0, at - _LOCAL_MAX)
        before = text[first:at]
        rest = before.rstrip(_LOCAL)
        while rest and rest[-1].isalnum():  # no letter of ASCII
            rest = rest[:-1].rstrip(_LOCAL)
        start = at - len(before[len(rest) :].lstrip(_QUOTES))
        if start < at and not (text[start - 1 : start] == ":" and _USERINFO.search(text[max(0, start - 64) : start])):
            yield Span(start, found.end(), "email")


def _ipv6(text: str) -> Iterator[Span]:
    for found in _IPV6.finditer(text):
        start, end = found.start(found.lastindex or 0), found.end()
        if _is_somebody(text[start:end]):
            yield Span(start, end, "ip")


def _is_somebody(address: str) -> bool:
    """Return whether what looks like an IPv6 address has no more than eight groups and is not this or any host's."""
    colons = address.count(":")
    if colons > _COLONS_MAX + (address.startswith("::") or address.endswith("::")):
        return False
    has_digits = address.strip("abcdefABCDEF:") != ""  # else it may be a word and two colons
    return has_digits and address.lstrip("0:") not in ("", "1")
