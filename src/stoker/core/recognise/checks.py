"""Check digits: the arithmetic that tells a card, an account or a person's number from any other number.

Numbers are texts of decimal digits, without separators.
"""

from collections.abc import Sequence
from typing import Final

_PLAIN: Final = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED: Final = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))  # digit sums of twice the digit
LONG: Final = 64  # digits from which on their pieces are added up together
_LETTERS_AS_NUMBERS: Final = {ord("A") + at: str(10 + at) for at in range(26)}
_DNI_LETTERS: Final = "TRWAGMYFPDXBNJZSQVHLCKE"
_HETU_LETTERS: Final = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_PESEL_WEIGHTS: Final = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)
# Of the Italian code: what a character counts at an odd place, by its digit or letter (D.M. 23/12/1976).
_CF_ODD: Final = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


class Luhn:
    """What the digits of a text count after Luhn (ISO/IEC 7812-1), so that any piece of it is checked at once.

    In a long text all pieces of 16 digits, which is what most cards have, are added up side by side: each byte of one
    large number is a digit, and four additions of it and itself, moved by 1, 2, 4 and 8 digits, make each byte the sum
    of 16. At most 16 * 9, so that no sum runs over into the next.
    """

    def __init__(self, digits: str) -> None:
        if not digits.isascii():
            digits = "".join(str(int(digit)) for digit in digits)
        plain = digits.encode()
        self._plain, self._doubled = plain.translate(_PLAIN), plain.translate(_DOUBLED)
        self._sixteens = self._of_sixteen() if len(digits) >= LONG else b""

    def is_right(self, start: int, end: int) -> bool:
        """Return whether the last digit of the piece is right."""
        if self._sixteens and end - start == 16:
            return self._sixteens[start] % 10 == 0
        odd = (end - start) % 2
        return (sum(self._doubled[start + odd : end : 2]) + sum(self._plain[start + 1 - odd : end : 2])) % 10 == 0

    def _of_sixteen(self) -> bytes:
        """Return the sum of the 16 digits from each place on, of which the first is doubled."""
        sums = bytearray(len(self._plain))
        for first in (0, 1):
            counts = bytearray(self._plain)
            counts[first::2] = self._doubled[first::2]
            added = int.from_bytes(counts, "little")
            for digits in (1, 2, 4, 8):
                added += added >> (8 * digits)
            sums[first::2] = added.to_bytes(len(sums), "little")[first::2]
        return bytes(sums)


def luhn(digits: str) -> bool:
    """Return whether the last digit is right after Luhn."""
    return Luhn(digits).is_right(0, len(digits))


def mod97(text: str) -> bool:
    """Return whether an IBAN, in capitals without spaces, has the right check digits (ISO 13616)."""
    account, country = text[4:], text[:2].translate(_LETTERS_AS_NUMBERS)
    account = account if account.isdecimal() else account.translate(_LETTERS_AS_NUMBERS)
    return int(f"{account}{country}{text[2:4]}") % 97 == 1


def nir(digits: str) -> bool:
    """Return whether 15 digits are a French social security number."""
    return digits[0] in "12" and 97 - int(digits[:13]) % 97 == int(digits[13:])


def pesel(digits: str) -> bool:
    """Return whether 11 digits are a Polish PESEL: the check digit, and a day that can be."""
    return is_day(int(digits[2:4]) % 20, int(digits[4:6])) and _weighted(digits, _PESEL_WEIGHTS) % 10 == 0


def steuer_id(digits: str) -> bool:
    """Return whether 11 digits are a German tax number: one digit twice or thrice in ten, and ISO 7064 MOD 11,10."""
    seen = set(digits[:10])
    if digits[0] == "0" or not (len(seen) == 9 or (len(seen) == 8 and 3 in map(digits[:10].count, seen))):
        return False
    product = 10
    for digit in digits[:10]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def rijksregister(digits: str) -> bool:
    """Return whether 11 digits are a Belgian national number, of a birth before or after 2000."""
    body, check = digits[:9], int(digits[9:])
    if not is_day(int(digits[2:4]) % 20, int(digits[4:6])):
        return False
    return check in (97 - int(body) % 97, 97 - int("2" + body) % 97)


def bsn(digits: str) -> bool:
    """Return whether 9 digits pass the Dutch test by eleven."""
    return _weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and int(digits) > 0


def personnummer(digits: str) -> bool:
    """Return whether 10 or 12 digits are a Swedish personal number; a coordination number's day is 60 later."""
    short = digits[-10:]
    return luhn(short) and is_day(int(short[2:4]), int(short[4:6]) % 60)


def ssn(digits: str) -> bool:
    """Return whether 9 digits can be a US social security number; there is no check digit, but ranges are unused."""
    return digits[:3] not in ("000", "666") and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def dni(text: str) -> bool:
    """Return whether a Spanish DNI (8 digits and a letter) or NIE (X, Y or Z before 7 digits) has its letter."""
    number = text[:-1].translate({ord("X"): "0", ord("Y"): "1", ord("Z"): "2"})
    return _DNI_LETTERS[int(number) % 23] == text[-1]


def hetu(text: str) -> bool:
    """Return whether a Finnish personal identity code `ddmmyy-nnnc` has its last letter and a day that can be."""
    is_right = _HETU_LETTERS[int(text[:6] + text[7:10]) % 31] == text[10]
    return is_right and is_day(int(text[2:4]), int(text[:2]))


def codice_fiscale(text: str) -> bool:
    """Return whether 16 capitals and digits are an Italian tax code."""
    values = [int(letter) if letter.isdigit() else ord(letter) - ord("A") for letter in text[:15]]
    total = sum(_CF_ODD[value] if at % 2 == 0 else value for at, value in enumerate(values))
    return chr(ord("A") + total % 26) == text[15]


def is_day(month: int, day: int) -> bool:
    """Return whether a month has such a day."""
    return 1 <= month <= 12 and 1 <= day <= 31


def _weighted(digits: str, weights: Sequence[int]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True))
