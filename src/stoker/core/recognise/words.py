"""What is recognised in words: addresses of mail, IPv6 addresses."""

import re
from collections.abc import Iterator
from typing import Final

from stoker.core.recognise.spans import Span

# From the @ on, which `re` finds at the speed of memchr; the part before is read backwards.
_DOMAIN: Final = r"(?:\w[\w\-]{0,62}\.){1,8}(?:[^\W\d_]{2,24}|xn--[a-z0-9\-]{2,58})(?![^\W_])"
_AT: Final = re.compile(r"@(?:" + _DOMAIN + r"|\[\d{1,3}(?:\.\d{1,3}){3}\])")
_AT_IN_URL: Final = re.compile("%40" + _DOMAIN)
_USERINFO: Final = re.compile(r"://[^\s/@]{0,60}:\Z")  # a password stands there, which `secrets` finds
_LOCAL_MAX: Final = 64
_SIGNS: Final = "._%+-'~!$*^{}`"  # also allowed are = & ? / # |, which part other things
_LOCAL: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789" + _SIGNS
_QUOTES: Final = "'{`!*$^"  # signs that also stand before an address

# From its first colon on; the letters before are read backwards.
_IPV6: Final = re.compile(r":[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]{0,33}(?![A-Za-z0-9_:])")
_HEX: Final = "0123456789abcdefABCDEF"
_NOT_BEFORE: Final = re.compile(r"[A-Za-z0-9_:.]")


def find(text: str) -> Iterator[Span]:
    """Yield what words in `text` are recognised as; spans may overlap."""
    if "@" in text:
        yield from _emails(text, _AT)
    if "%40" in text:
        yield from _emails(text, _AT_IN_URL)
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
        at = found.start()
        before = text[max(0, at - 5) : at]
        head = before[len(before.rstrip(_HEX)) :]
        start = at - len(head)
        if len(head) > 4 or _NOT_BEFORE.match(text[start - 1 : start]):
            continue
        if _is_somebody(head + found[0]):
            yield Span(start, found.end(), "ip")


def _is_somebody(address: str) -> bool:
    """Return whether hexadecimal digits and colons are an IPv6 address, and not this or any host's."""
    head, gap, tail = address.partition("::")
    first, last = (half.split(":") if half else [] for half in (head, tail))
    groups = first + last
    is_full = len(groups) == 8
    if bool(gap) == is_full or len(groups) > 8 or (not gap and not is_full):
        return False
    if not all(0 < len(group) <= 4 for group in groups) or not any(map(str.isdecimal, address)):
        return False
    ends_in = int(last[-1] if last else "0", 16) if gap else int(groups[-1], 16)
    leading = groups[:-1] if last or not gap else groups
    return ends_in > 1 or any(group.strip("0") for group in leading)
