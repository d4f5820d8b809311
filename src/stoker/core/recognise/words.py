"""What is recognised in words: addresses of mail, IBANs, national ids with letters, IPv6 addresses."""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Final

from stoker.core.recognise import checks
from stoker.core.recognise.spans import Span

# From the @ on, which `re` finds at the speed of memchr; the part before is read backwards.
_DOMAIN: Final = r"(?:\w[\w\-]{0,62}\.){1,8}(?:[^\W\d_]{2,24}|xn--[a-z0-9\-]{2,58})(?![^\W_])"
_AT: Final = re.compile(r"@(?:" + _DOMAIN + r"|\[\d{1,3}(?:\.\d{1,3}){3}\])")
_AT_IN_URL: Final = re.compile("%40" + _DOMAIN)
_USERINFO: Final = re.compile(r"://[^\s/@]{0,60}:\Z")  # a password stands there, which `secrets` finds
_LOCAL_MAX: Final = 64
_LOCAL_SIGNS: Final = frozenset("._%+-'~!$*^{}`")  # also allowed are = & ? / # |, which part other things

# From the check digits on: a text has fewer digits than letters.
_IBAN: Final = re.compile(r"\d(?<=[A-Za-z]{2}\d)(?<![A-Za-z0-9]{4})\d(?=((?:[ \-\u00a0]?[A-Za-z0-9]){11,30}))")
# Characters of an IBAN by country (SWIFT's IBAN registry).
_IBAN_LENGTHS: Final = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL", 19: "MK SI", 20: "AT BA EE KZ LT LU XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "PT", 26: "IS TR", 27: "FR GR IT MC SM", 28: "AL AZ BY CY DO GT HU LB PL SV", 29: "BR PS QA UA",
        30: "JO KW MU", 31: "MT SC",
    }.items()
    for country in countries.split()
}  # fmt: skip

_SPANISH: Final = re.compile(r"[\dXYZ](?<![A-Za-z0-9_]{2})-?\d{7}-?[A-HJ-NP-TV-Z](?![A-Za-z0-9_])")
_FINNISH: Final = re.compile(r"\d(?<![A-Za-z0-9_]{2})\d{5}[\-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y](?![A-Za-z0-9_])")
_ITALIAN: Final = re.compile(r"[A-Z](?<![A-Za-z0-9_]{2})[A-Z]{5}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z](?![A-Za-z0-9_])")
_BRITISH: Final = re.compile(
    r"[A-CEGHJ-PR-TW-Z](?<![A-Za-z0-9_]{2})[A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D](?![A-Za-z0-9_])"
)
_BRITISH_UNUSED: Final = ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")

_IPV6: Final = re.compile(r"[0-9A-Fa-f:](?<![A-Za-z0-9_:.]{2})[0-9A-Fa-f]{0,3}:[0-9A-Fa-f:]{1,34}(?![A-Za-z0-9_:])")
_MAYBE_IPV6: Final = re.compile(r":[0-9A-Fa-f]{0,4}:")
_SEPARATORS: Final = {ord(letter): None for letter in " -\u00a0"}


def find(text: str) -> Iterator[Span]:
    """Yield what words in `text` are recognised as; spans may overlap."""
    if "@" in text:
        yield from _emails(text, _AT)
    if "%40" in text:
        yield from _emails(text, _AT_IN_URL)
    if not any(map(text.__contains__, "0123456789")):
        return
    yield from _ibans(text)
    for pattern, is_right in _FORMS:
        for found in pattern.finditer(text):
            if is_right(found[0].translate(_SEPARATORS) if pattern is not _FINNISH else found[0]):
                yield Span(found.start(), found.end(), "id")
    if _MAYBE_IPV6.search(text):
        yield from _ipv6(text)


def _emails(text: str, pattern: re.Pattern[str]) -> Iterator[Span]:
    for found in pattern.finditer(text):
        start, first = found.start(), max(0, found.start() - _LOCAL_MAX)
        while start > first and (text[start - 1].isalnum() or text[start - 1] in _LOCAL_SIGNS):
            start -= 1
        while start < found.start() and text[start] in "'{`!*$^":  # signs that also stand before an address
            start += 1
        if start < found.start() and not _USERINFO.search(text[max(0, start - _LOCAL_MAX) : start]):
            yield Span(start, found.end(), "email")


def _ibans(text: str) -> Iterator[Span]:
    for found in _IBAN.finditer(text):
        start = found.start() - 2
        length = _IBAN_LENGTHS.get(text[start : start + 2].upper(), 0)
        whole = text[start : found.end(1)]
        at = [index for index, letter in enumerate(whole) if letter.isalnum()]
        if not 0 < length <= len(at):
            continue
        last = start + at[length - 1] + 1
        is_whole = not text[last : last + 1].isalnum()
        if is_whole and checks.mod97("".join([whole[index] for index in at[:length]]).upper()):
            yield Span(start, last, "iban")


def _ipv6(text: str) -> Iterator[Span]:
    for found in _IPV6.finditer(text):
        is_whole = "::" in found[0] or found[0].count(":") == 7
        if not is_whole or not any(map(str.isdecimal, found[0])):
            continue
        try:
            address = ipaddress.IPv6Address(found[0])
        except ValueError:
            continue
        if not address.is_loopback and not address.is_unspecified:
            yield Span(found.start(), found.end(), "ip")


def _british(text: str) -> bool:
    return text[:2] not in _BRITISH_UNUSED


_FORMS: Final[tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...]] = (
    (_SPANISH, checks.dni),
    (_FINNISH, checks.hetu),
    (_ITALIAN, checks.codice_fiscale),
    (_BRITISH, _british),
)
