"""National ids and IBANs: numbers, some with letters, that carry check digits or have a form of their own."""

import re
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Final

from stoker.core.recognise import checks
from stoker.core.recognise.numbers import digits_of
from stoker.core.recognise.scan import END, Screen, form, odd_form
from stoker.core.recognise.spans import Span
from stoker.core.recognise.told import is_told_phone

_ALONE: Final = r"(?<![A-Za-z0-9_.\-]\d)"  # the first digit
_AFTER: Final = r"(?![A-Za-z0-9_])"
_SSN: Final = _ALONE + r"\d{2}-\d{2}-\d{4}(?![A-Za-z0-9_]|-\d)"
_ELEVEN: Final = _ALONE + r"\d{10}" + END
_ELEVEN_PARTED: Final = _ALONE + r"\d(?: \d{3} \d{3} \d{3}|\.\d{2}\.\d{2}[- ]\d{3}[.\- ]\d{2})" + END
_NIR: Final = r"(?<=[12])" + _ALONE + r" ?\d{2} ?\d{2} ?\d{2} ?\d{3} ?\d{3} ?\d{2}" + END
_SWEDISH: Final = _ALONE + r"(?:\d{7}|\d{5})[-+]\d{4}" + END
_SPANISH: Final = r"(?<![A-Za-z0-9_]\d)-?\d{7}-?[A-HJ-NP-TV-Z]" + _AFTER
_SPANISH_FOREIGN: Final = (
    r"(?:(?<=[XYZ]\d)(?<![A-Za-z0-9_][XYZ]\d)|(?<=[XYZ]-\d)(?<![A-Za-z0-9_][XYZ]-\d))\d{6}-?[A-HJ-NP-TV-Z]" + _AFTER
)
_FINNISH: Final = r"(?<![A-Za-z0-9_]\d)\d{5}[\-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y]" + _AFTER
_ITALIAN: Final = r"(?<=[A-Z]{6}\d)(?<![A-Za-z0-9_][A-Z]{6}\d)\d[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]" + _AFTER
_PREFIX: Final = "[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]"
_BRITISH: Final = (
    rf"(?:(?<={_PREFIX}\d)(?<![A-Za-z0-9_]{_PREFIX}\d)|(?<={_PREFIX} \d)(?<![A-Za-z0-9_]{_PREFIX} \d))"
    r"\d ?\d{2} ?\d{2} ?[A-D]" + _AFTER
)
_BRITISH_UNUSED: Final = ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")

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


def _either_case(countries: Iterable[str]) -> str:
    """Return a pattern of `countries`, by the first letter: whose it is not, it passes by at once."""
    seconds: dict[str, str] = {}
    for country in sorted(countries):
        first, second = country[0], country[1]
        seconds[first] = seconds.get(first, "") + second + second.lower()
    return "|".join(f"[{first}{first.lower()}][{letters}]" for first, letters in seconds.items())


_IBAN: Final = (
    rf"(?<=(?:{_either_case(_IBAN_LENGTHS)})\d)(?<![A-Za-z0-9][A-Za-z]{{2}}\d)\d(?:[ \-\u00a0]?[A-Za-z0-9]){{11,30}}"
)


def _checked(is_right: Callable[[str], bool]) -> Callable[[str, int, int], Span | None]:
    """Return a judge of digits that pass a check."""

    def judged(text: str, start: int, end: int) -> Span | None:
        return Span(start, end, "id") if is_right(digits_of(text[start:end])) else None

    return judged


def _eleven(text: str, start: int, end: int) -> Span | None:
    digits = digits_of(text[start:end])
    is_right = checks.pesel(digits) or checks.steuer_id(digits) or checks.rijksregister(digits)
    return Span(start, end, "id") if is_right and not is_told_phone(text, start) else None


def _spanish(text: str, start: int, end: int) -> Span | None:
    return Span(start, end, "id") if checks.dni(digits_of(text[start:end])) else None


def _spanish_foreign(text: str, start: int, end: int) -> Span | None:
    return _spanish(text, start - 1 if text[start - 1] != "-" else start - 2, end)


def _finnish(text: str, start: int, end: int) -> Span | None:
    return Span(start, end, "id") if checks.hetu(text[start:end]) else None


def _italian(text: str, start: int, end: int) -> Span | None:
    return Span(start - 6, end, "id") if checks.codice_fiscale(text[start - 6 : end]) else None


def _british(text: str, start: int, end: int) -> Span | None:
    first = start - 2 if text[start - 1] != " " else start - 3
    return None if text.startswith(_BRITISH_UNUSED, first) else Span(first, end, "id")


def _iban(text: str, start: int, end: int) -> Span | None:
    first = start - 2
    length = _IBAN_LENGTHS[text[first:start].upper()]
    whole = text[first:end]
    letters = whole.replace(" ", "").replace("-", "").replace("\u00a0", "")
    if len(letters) < length:
        return None
    last, parted = first + length, 0
    while parted < (found := _separators(text[first:last])):  # of so many letters
        last += found - parted
        parted = found
    is_whole = not text[last : last + 1].isalnum()
    return Span(first, last, "iban") if is_whole and checks.mod97(letters[:length].upper()) else None


def _separators(text: str) -> int:
    return text.count(" ") + text.count("-") + text.count("\u00a0")


_SEVEN: Final = b"9999999"
SCREENS: Final = (
    Screen(
        (_SEVEN,),
        (
            odd_form(_ELEVEN, _eleven, re.compile(rb"99999999999(?:9*+)")),
            form(_SPANISH, _spanish, b"9" + _SEVEN + b"A", b"9" + _SEVEN + b"-A", b"9-" + _SEVEN),
            form(_SPANISH_FOREIGN, _spanish_foreign, b"A" + _SEVEN, first=(1,)),
            form(_SPANISH_FOREIGN, _spanish_foreign, b"A-" + _SEVEN, first=(2,)),
        ),
    ),
    Screen(
        (b"999999",),
        (
            form(_SWEDISH, _checked(checks.personnummer), b"999999-9999", b"999999+9999", first=(0, -2)),
            form(_FINNISH, _finnish, b"999999-999", b"999999+999", b"999999A999"),
        ),
    ),
    Screen(
        (b"999999", b"999 999"),
        (odd_form(_NIR, _checked(checks.nir), re.compile(r"[12]" + _ALONE + r"(?= ?\d\d ?\d\d ?\d\d ?\d{3})")),),
        digits_min=15,
    ),
    Screen((b"99 999 999",), (form(_ELEVEN_PARTED, _eleven, b"99 999 999 999"),)),
    Screen((b"99.99.99",), (form(_ELEVEN_PARTED, _eleven, b"99.99.99-999", b"99.99.99 999"),)),
    Screen((b"999-99-9999",), (form(_SSN, _checked(checks.ssn), b"999-99-9999"),)),
    Screen((b"aa99",), (form(_IBAN, _iban, b"aa99", first=(2,)),), drawn=attrgetter("small")),
    Screen(
        (b"A99", b"A 99"),
        (
            form(_ITALIAN, _italian, b"99A99A999A"),
            form(_BRITISH, _british, b"AA99", first=(2,)),
            form(_BRITISH, _british, b"AA 99", first=(3,)),
        ),
    ),
)
