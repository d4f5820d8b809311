"""What the recognisers mean, without what makes them fast: each form alone, at each place of the text, one by one."""

import ipaddress
import re
from collections.abc import Iterator

from stoker.core.recognise import _SCREENS, _joined, checks, numbers, secrets, told
from stoker.core.recognise.cards import _SCHEMES, _is_in_uuid
from stoker.core.recognise.numbers import BEFORE, is_date
from stoker.core.recognise.reading import reading
from stoker.core.recognise.scan import Form
from stoker.core.recognise.spans import Span
from stoker.core.recognise.words import _AT, _CODED, _LOCAL_MAX, _SIGNS, _USERINFO

CARD = re.compile(r"(?<!\d[.,])(?:[2-6]\d{3}|1800)(?:[ \-\u00a0\u202f]?\d){8,15}(?!\d)")
TOLD = re.compile(
    r"\(?\d(?:[ .\-/()]{0,2}\d){6,14}(?:,? ?(?:x|ext\.?|#) ?\d{1,6})?(?![A-Za-z0-9_]|[.,]\d)", re.IGNORECASE
)
NINE = re.compile(r"\d{3}(?:\d{2}| \d{2} )\d{4}(?![A-Za-z0-9_]|-\d)")
SSN = re.compile(r"(?:\bssn\b|social.?security)[^\d\n\x00]{0,16}\Z", re.IGNORECASE)
BSN = re.compile(r"(?:\bbsn\b|burgerservice|sofi)[^\d\n\x00]{0,16}\Z", re.IGNORECASE)
IPV6 = re.compile(r"[0-9A-Fa-f:](?<![A-Za-z0-9_:.]{2})[0-9A-Fa-f]{0,3}:[0-9A-Fa-f:]{1,38}(?![A-Za-z0-9_:])")
OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
IPV4 = re.compile(rf"(?<![\d.]){OCTET}(?:\.{OCTET}){{3}}(?!\.?\d)")
INTERNATIONAL = re.compile(
    r"(?<![A-Za-z0-9_+])\+[1-9](?:[ .\-/()\u00a0\u202f]{0,2}\d){6,14}(?!\d)(?:,? ?(?:x|ext\.?|#) ?\d{1,6})?"
)


def find(text: str) -> list[Span]:
    forms = [form for screen in _SCREENS for form in screen.forms if isinstance(form, Form)]
    found = [span for form in forms for span in of_form(form, text)]
    found += [*cards(text), *phones(text), *international(text), *nines(text), *emails(text), *ipv4(text), *ipv6(text)]
    found += [*longs(text), *secrets.find(reading(text))]
    return _joined(found, [])


def of_form(form: Form, text: str) -> Iterator[Span]:
    pattern, after = form.pattern, 0
    for at, letter in enumerate(text):
        is_first = letter.isdecimal() and not text[at - 1 : at].isdecimal()
        found = pattern.match(text, at) if is_first and at >= after else None
        span = form.judged(text, at, found.end()) if found else None
        if span is not None:
            after = span.end
            yield span


def cards(text: str) -> Iterator[Span]:
    after = 0
    for at, letter in enumerate(text):
        is_first = letter.isdecimal() and not text[at - 1 : at].isdecimal()
        found = CARD.match(text, at) if is_first and at >= after else None
        if found is None:
            continue
        ends = [end for end in range(at + 12, found.end()) if text[end - 1].isdecimal() and not text[end].isdecimal()]
        for end in (found.end(), *ends):
            digits = "".join(str(int(digit)) for digit in text[at:end] if digit.isdecimal())
            prefix = next((digits[:size] for size in (4, 3, 2, 1) if digits[:size] in _SCHEMES), None)
            if prefix and len(digits) in _SCHEMES[prefix] and checks.luhn(digits):
                if not _is_in_uuid(text, at, end):
                    after = end
                    yield Span(at, end, "card")
                break


def phones(text: str) -> Iterator[Span]:
    for at in range(len(text)):
        found = TOLD.match(text, at)
        goes_on = found is not None and found[0][0] != "(" and re.match(r"[A-Za-z0-9_.]", text[at - 1 : at])
        if found is None or goes_on or not told.is_told_phone(text, at):
            continue
        if not is_date(found[0].lstrip("(")):
            yield Span(at, found.end(), "phone")


def international(text: str) -> Iterator[Span]:
    for found in INTERNATIONAL.finditer(text):
        is_closed = ")" in found[0] and "(" not in found[0] and text[found.start() - 1 : found.start()] == "("
        yield Span(found.start() - is_closed, found.end(), "phone")


def nines(text: str) -> Iterator[Span]:
    for at in range(len(text)):
        found = NINE.match(text, at)
        if found is None or re.match(r"[A-Za-z0-9_.\-]", text[at - 1 : at]):
            continue
        digits, before = found[0].replace(" ", ""), text[max(0, at - BEFORE - 10) : at]
        is_dutch = digits == found[0] and BSN.search(before) and checks.bsn(digits)
        if is_dutch or (SSN.search(before) and checks.ssn(digits)):
            yield Span(at, found.end(), "id")


def emails(text: str) -> Iterator[Span]:
    for found in (each for pattern in (_AT, *(coded for _, coded in _CODED)) for each in pattern.finditer(text)):
        start, first = found.start(), max(0, found.start() - _LOCAL_MAX)
        while start > first and (text[start - 1].isalnum() or text[start - 1] in _SIGNS):
            start -= 1
        while start < found.start() and text[start] in "'{`!*$^":
            start += 1
        if start < found.start() and not _USERINFO.search(text[max(0, start - _LOCAL_MAX) : start]):
            yield Span(start, found.end(), "email")


def ipv4(text: str) -> Iterator[Span]:
    for found in IPV4.finditer(text):
        before = text[max(0, found.start() - BEFORE) : found.start()]
        if not numbers._VERSION.search(before) and not found[0].startswith(("127.", "0.0.0.0", "255.255.255.")):
            yield Span(found.start(), found.end(), "ip")


def longs(text: str) -> Iterator[Span]:
    for run in secrets._LONG.finditer(text):
        yield from secrets._drawn(text, run.start(), run.end())


def ipv6(text: str) -> Iterator[Span]:
    for found in IPV6.finditer(text):
        try:
            address = ipaddress.IPv6Address(found[0])
        except ValueError:
            continue
        if any(map(str.isdecimal, found[0])) and not address.is_loopback and not address.is_unspecified:
            yield Span(found.start(), found.end(), "ip")
