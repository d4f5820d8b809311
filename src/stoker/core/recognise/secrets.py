"""What opens a door: API keys, tokens, passwords that are told as such, private keys, and words that look drawn.

A digest or a UUID looks drawn at random too; they are hexadecimal, and a secret that is, is only found where the text
says that it is one ("token=…").
"""

import re
from collections.abc import Iterator
from typing import Final

from stoker.core.recognise.reading import Reading
from stoker.core.recognise.spans import Span, after

_LONG: Final = re.compile(r"[A-Za-z0-9](?<![A-Za-z0-9_+/=~]{2})[A-Za-z0-9_+/=~.\-]{15,}")
_LONG_MIN: Final = 16
_IN_LONG: Final = bytes(ord("x") if chr(code) in "9Aa_+/=~.-" else ord(" ") for code in range(256))  # of an outline
# Forms that their issuers publish, for scanners to find.
_ISSUED: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"stk_[a-z0-9]{8}_[A-Za-z0-9_\-]{20,64}"
    r"|sk-[A-Za-z0-9_\-]{16,256}"
    r"|(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Z0-9])"
    r"|gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{22,255}|glpat-[A-Za-z0-9_\-]{20,64}"
    r"|xox[abeprs]-[A-Za-z0-9\-]{10,255}|hf_[A-Za-z0-9]{30,64}|AIza[A-Za-z0-9_\-]{35}"
    r"|[rs]k_(?:live|test)_[A-Za-z0-9]{16,255}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_\-]{40,255}|gsk_[A-Za-z0-9]{40,64}"
    r"|eyJ[A-Za-z0-9_\-]{6,512}+\.[A-Za-z0-9_\-]{6,8192}+(?:\.[A-Za-z0-9_\-]{0,8192}+)?"
    r")"
)
_PEM: Final = "-----BEGIN "
_PEM_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}-----")
_PEM_PRIVATE: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY[A-Z ]{0,12}-----")
_SCHEMES: Final = ("bearer ", "basic ")
_SCHEME: Final = re.compile(r"\b(?:bearer|basic) {1,4}([A-Za-z0-9._~+/\-]{8,8192}={0,2})", re.IGNORECASE)
_IN_URL: Final = re.compile(r"://[^\s/:@\x00]{0,64}:([^\s/@\x00]{1,256})@")
# `password: …`, `"api_key" = "…"`: the value is what is hidden, the name before it is looked at backwards, because a
# search for ten words costs 20 times one for two signs.
_VALUE: Final = re.compile(
    r"[:=][ \t]{0,3}[\"']?(?:bearer |basic )?(?!<[a-z0-9_\-]+:)([^\s\"',;&<>\x00]{4,512})", re.IGNORECASE
)
_TELLS: Final = re.compile(
    r"(?<!<)(?:passw(?:or)?d|passwort|passphrase|pwd|secret(?:[_\- ]?key)?|api[_\- ]?key|(?:access|private)[_\- ]?key"
    r"|(?:auth|access|refresh|session|api|csrf|bearer|id)[_\- ]?token|(?<![a-z_])token|credentials?)"
    r"[\"']?(?: is| was)?[ \t]{0,3}\Z"
)
# `password hunter2X`: without a sign before it only what has small letters, capitals and digits.
_PASSWORD_WORDS: Final = ("passw", "passphrase", "pwd")
_BARE: Final = re.compile(
    r"(?i:passw(?:or)?d|passwort|passphrase|pwd)(?: is| was)? [\"']?"
    r"(?=[^\s0-9]{0,40}[0-9])(?=[^\sa-z]{0,40}[a-z])(?=[^\sA-Z]{0,40}[A-Z])([A-Za-z0-9!#$%&*+@^_~\-]{8,64})"
)
_TELLING_WORDS: Final = ("pass", "pwd", "secret", "key", "token", "credential")
BEFORE: Final = 28
_NO_VALUE: Final = re.compile(
    r"(?:true|false|null|none|str|string|int|bool|required|optional|your[\w\-]*|\W+)[\W]*\Z", re.IGNORECASE
)
_WORD: Final = re.compile(r"[A-Za-z0-9+/_\-]{20,}={0,2}")
_PARTS: Final = re.compile(r"[A-Z]+|[a-z]+|[0-9]+")
_CAMELS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
CHANGES_MIN: Final = 0.37  # misses 2 % of 32 letters drawn from base 62, 7 % of 24
SIGNS_MAX: Final = 0.125  # of base64, one in 32 is a sign; names and paths are made of words with signs between
_HEX: Final = re.compile(r"[0-9a-fA-F\-_]+\Z")
LOOKED_AT: Final = 256  # characters of a long word that decide whether it is random


def find(read: Reading) -> Iterator[Span]:
    """Yield what opens a door; spans may overlap."""
    text = read.text
    for start, end in _long_runs(read.outline):
        for run in _LONG.finditer(text, start, end):
            yield from _in_long(text, run.start(), run.end())
    if _PEM in text:
        yield from _private_keys(text)
    if "://" in text:
        for found in _IN_URL.finditer(text):
            yield Span(found.start(1), found.end(1), "secret")
    if any(map(read.says, _SCHEMES)):
        for found in _SCHEME.finditer(text):
            if any(map(str.isdigit, found[1])) or len(found[1]) > 20:
                yield _without_stop(found)
    if any(map(read.says, _TELLING_WORDS)):
        for found in _VALUE.finditer(text):
            before = text[max(0, found.start() - BEFORE) : found.start()].lower()
            is_told = any(map(before.__contains__, _TELLING_WORDS)) and _TELLS.search(before)
            if is_told and not _NO_VALUE.match(found[1]):
                yield _without_stop(found)
    for found in after(_PASSWORD_WORDS, _BARE, read):
        yield Span(found.start(1), found.end(1), "secret")


def _long_runs(outline: bytes) -> Iterator[tuple[int, int]]:
    """Yield where so many letters and signs stand without a space that one of `_LONG` may be among them."""
    drawn = outline.translate(_IN_LONG)
    start = drawn.find(b"x" * _LONG_MIN)
    while start >= 0:
        end = drawn.find(b" ", start)
        end = end if end >= 0 else len(drawn)
        yield start, end
        start = drawn.find(b"x" * _LONG_MIN, end)


def is_issued(text: str) -> bool:
    """Return whether `text` holds a secret of a form that its issuer publishes, or a private key: no false alarms."""
    return _ISSUED.search(text) is not None or _PEM_PRIVATE.search(text) is not None


def _without_stop(found: re.Match[str]) -> Span:
    """Return the first group of `found` without the full stop of a sentence."""
    return Span(found.start(1), found.start(1) + len(found[1].rstrip(".")), "secret")


def _in_long(text: str, start: int, end: int) -> Iterator[Span]:
    for found in _ISSUED.finditer(text, start, end):
        yield Span(found.start(), found.end(), "secret")
    for found in _WORD.finditer(text, start, end):
        if _is_random(found[0][:LOOKED_AT]):
            yield Span(found.start(), found.end(), "secret")


def _private_keys(text: str) -> Iterator[Span]:
    end = 0
    for found in _PEM_PRIVATE.finditer(text):
        if found.start() < end:
            continue
        room = text.find("\x00", found.end())  # where another text of the same body begins
        room = room if room >= 0 else len(text)
        last = _PEM_END.search(text, found.end(), room)
        end = last.end() if last is not None else room
        yield Span(found.start(), end, "secret")


def _is_random(word: str) -> bool:
    """Return whether a word looks drawn: capitals, small letters and digits, changing as often as chance would.

    Of letters drawn from base 62, two neighbours are of different kinds with p = 0.62. Names in camelCase come near it
    by their capitals, but have few digits, and far fewer changes when a capital belongs to what follows it.
    """
    if _HEX.match(word):
        return False
    parts = _PARTS.findall(word)
    letters = sum(map(len, parts))
    if len(word) - letters > SIGNS_MAX * len(word):
        return False
    if letters < 20 or len(parts) < CHANGES_MIN * letters:
        return False
    digits = sum(map(str.isdecimal, word))
    if digits == 0 or word.upper() == word or word.lower() == word:
        return False
    return digits >= 3 or len(_CAMELS.findall(word)) >= CHANGES_MIN * letters
