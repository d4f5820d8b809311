"""What opens a door: API keys, tokens, passwords that are told as such, private keys, and words that look drawn.

A digest or a UUID looks drawn at random too; they are hexadecimal, and a secret that is, is only found where the text
says that it is one ("token=…").
"""

import re
from collections.abc import Iterator
from typing import Final

from stoker.core.recognise.reading import DRAWN, Reading
from stoker.core.recognise.spans import Span, after, any_of

_LONG: Final = re.compile(r"[A-Za-z0-9](?<![A-Za-z0-9_+/=~]{2})[A-Za-z0-9_+/=~.\-]{15,}")
_LONG_MIN: Final = 16
_IN_LONG: Final = bytes(ord("x") if chr(code) in "9Aa_+/=~.-" else ord(" ") for code in range(256))  # of an outline
# Forms that their issuers publish, for scanners to find; each begins with a letter.
_FORMS: Final = (
    r"stk_[a-z0-9]{8}_[A-Za-z0-9_\-]{20,64}",
    r"sk-[A-Za-z0-9_\-]{16,256}",
    r"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}(?![A-Z0-9])",
    r"gh[pousr]_[A-Za-z0-9]{30,255}",
    r"github_pat_[A-Za-z0-9_]{22,255}",
    r"glpat-[A-Za-z0-9_\-]{20,64}",
    r"xox[abeprs]-[A-Za-z0-9\-]{10,255}",
    r"hf_[A-Za-z0-9]{30,64}",
    r"AIza[A-Za-z0-9_\-]{35}",
    r"sk_(?:live|test)_[A-Za-z0-9]{16,255}",
    r"rk_(?:live|test)_[A-Za-z0-9]{16,255}",
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-[A-Za-z0-9_\-]{40,255}",
    r"gsk_[A-Za-z0-9]{40,64}",
    r"SG\.[A-Za-z0-9_\-]{16,32}\.[A-Za-z0-9_\-]{16,64}",
    r"GOCSPX-[A-Za-z0-9_\-]{20,64}",
    r"whsec_[A-Za-z0-9+/=]{24,128}",
    r"do[opr]_v1_[0-9a-f]{64}",
    r"dckr_pat_[A-Za-z0-9_\-]{20,64}",
    r"dapi[0-9a-f]{32}",
    r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",
    r"hvs\.[A-Za-z0-9_\-]{24,255}",
    r"glsa_[A-Za-z0-9]{32}_[0-9a-f]{8}",
    r"nvapi-[A-Za-z0-9_\-]{40,128}",
    r"ya29\.[A-Za-z0-9_\-]{20,512}",
    r"T[A-Z0-9]{8,10}/B[A-Z0-9]{8,10}/[A-Za-z0-9]{24}",  # of a web hook's address
    r"eyJ[A-Za-z0-9_\-]{6,512}+\.[A-Za-z0-9_\-]{6,8192}+(?:\.[A-Za-z0-9_\-]{0,8192}+)?",
)
_ISSUED: Final = re.compile(any_of(_FORMS, "[A-Za-z0-9]"))
_PEM: Final = "-----BEGIN "
_PEM_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}-----")
_PEM_PRIVATE: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY[A-Z ]{0,12}-----")
_SCHEMES: Final = ("bearer ", "basic ")
_SCHEME: Final = re.compile(r"\b(?:bearer|basic) {1,4}([A-Za-z0-9._~+/\-]{8,8192}={0,2})", re.IGNORECASE)
_IN_URL: Final = re.compile(r"://[^\s/:@\x00]{0,64}:([^\s/@\x00]{1,256})@")
# `password: …`, `"api_key" = "…"`: the value is what is hidden, the name before it is looked at backwards, because a
# search for ten words costs 20 times one for two signs.
_SIGN: Final = re.compile(r"[:=](?<=[deglnstyDEGLNSTY\"' \t].)")  # behind the last letter of such a name, or a quote
_VALUE: Final = re.compile(
    r"[:=][ \t]{0,3}[\"']?(?:bearer |basic )?(?!<[a-z0-9_\-]+:)([^\s\"',;&<>\x00]{4,512})", re.IGNORECASE
)
_NAMES: Final = (
    "passw(?:or)?d", "passwort", "passphrase", "pwd", r"secret(?:[_\- ]?key)?", r"api[_\- ]?key", r"access[_\- ]?key",
    r"private[_\- ]?key", r"auth[_\- ]?token", r"access[_\- ]?token", r"refresh[_\- ]?token", r"session[_\- ]?token",
    r"api[_\- ]?token", r"csrf[_\- ]?token", r"bearer[_\- ]?token", r"id[_\- ]?token", "t(?<![a-z_]t)oken",
    "credentials?",
)  # fmt: skip
_TELLS: Final = re.compile(any_of(_NAMES, "<") + r"[\"']?(?: is| was)?[ \t]{0,3}\Z")
# `password hunter2X`: without a sign before it only what has small letters, capitals and digits.
_PASSWORD_WORDS: Final = ("passw", "passphrase", "pwd")
_BARE: Final = re.compile(
    r"(?i:passw(?:or)?d|passwort|passphrase|pwd)(?: is| was)? [\"']?"
    r"(?=[^\s0-9]{0,40}[0-9])(?=[^\sa-z]{0,40}[a-z])(?=[^\sA-Z]{0,40}[A-Z])([A-Za-z0-9!#$%&*+@^_~\-]{8,64})"
)
_TELLING_WORDS: Final = ("pass", "pwd", "secret", "key", "token", "credential", "sig", "sess")
# What such a name has is only a secret if it is long and has digits: `signature: (self)`, `session: 3`.
_TELLS_DRAWN: Final = re.compile(r"(?:(?<![a-z])sig(?:nature)?|sess(?:ion)?[_\-]?(?:id|key)?)[\"']?[ \t]{0,3}\Z")
_DRAWN_VALUE: Final = re.compile(r"[:=][ \t]{0,3}[\"']?(?=[^\s0-9]{0,64}[0-9])([A-Za-z0-9+/_\-.%~]{16,512}={0,2})")
_AUTHORIZATION: Final = re.compile(
    r"authorization[\"']?[ \t]{0,3}[:=][ \t]{0,3}[\"']?(?:[a-z][a-z0-9\-]{1,20} {1,4})?"
    r"([A-Za-z0-9._~+/\-]{8,8192}={0,2})",
    re.IGNORECASE,
)
_COOKIES: Final = re.compile(r"cookie[\"']?[ \t]{0,3}[:=][ \t]{0,3}[\"']?", re.IGNORECASE)
_COOKIES_MAX: Final = 4096  # characters of a header, which a browser sends at the most
_LINE_END: Final = re.compile(r"[\n\x00]")
_COOKIE: Final = re.compile(r"=(?=[^\s0-9;]{0,64}[0-9])([^\s=;,\"'\x00]{16,512}={0,2})")
_CURL_MAX: Final = 256  # characters of a command before its user
_USER: Final = re.compile(r" (?:-u|--user)[ =][\"']?[^\s:\"'\x00]{1,64}:([^\s\"'\x00]{1,256})", re.IGNORECASE)
BEFORE: Final = 28
_NO_VALUE: Final = re.compile(
    r"(?:true|false|null|none|str|string|int|bool|required|optional|your[\w\-]*|\W+)[\W]*\Z", re.IGNORECASE
)
_WORD_MIN: Final = 20
_WORD: Final = re.compile(rf"[A-Za-z0-9+/_\-]{{{_WORD_MIN},}}={{0,2}}")
_KINDS: Final = bytes(drawn if chr(drawn) in "Aa9" else ord("_") for drawn in DRAWN)
_PART_BEGINS: Final = tuple(f"{before}{kind}".encode() for kind in "Aa9" for before in "Aa9_" if before != kind)
_CAMELS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
CHANGES_MIN: Final = 0.37  # misses 2 % of 32 letters drawn from base 62, 7 % of 24
SIGNS_MAX: Final = 0.125  # of base64, one in 32 is a sign; names and paths are made of words with signs between
_DIGEST: Final = re.compile(r"sha(?:256|384|512)[\-:]", re.IGNORECASE)
_DIGEST_MAX: Final = 7  # characters of its name
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_HEX: Final = re.compile(r"[0-9a-fA-F\-_]+\Z")
LOOKED_AT: Final = 256  # characters of a long word that decide whether it is random


def find(read: Reading) -> Iterator[Span]:
    """Yield what opens a door; spans may overlap."""
    text = read.text
    for start, end in _long_runs(read.outline):
        for issued in _ISSUED.finditer(text, start, end):
            yield Span(issued.start(), issued.end(), "secret")
        for run in _LONG.finditer(text, start, end):
            yield from _drawn(text, *run.span())
    if _PEM in text:
        yield from _private_keys(text)
    if "://" in text:
        for found in _IN_URL.finditer(text):
            yield Span(found.start(1), found.end(1), "secret")
    yield from _sent(read)
    if any(map(read.says, _TELLING_WORDS)):
        yield from _told(text, read.lower)
    for found in after(_PASSWORD_WORDS, _BARE, read):
        yield Span(found.start(1), found.end(1), "secret")


def _sent(read: Reading) -> Iterator[Span]:
    """Yield what is sent with a request to open a door: credentials, cookies, the password of a user of curl."""
    text = read.text
    for pattern, words in ((_SCHEME, _SCHEMES), (_AUTHORIZATION, ("authorization",))):
        for found in after(words, pattern, read):
            if any(map(str.isdigit, found[1])) or len(found[1]) > 20:
                yield _without_stop(found)
    read_to = 0
    for found in after(("cookie",), _COOKIES, read):
        if found.end() >= read_to:
            line = _LINE_END.search(text, found.end(), found.end() + _COOKIES_MAX)
            read_to = line.start() if line is not None else found.end() + _COOKIES_MAX
            for cookie in _COOKIE.finditer(text, found.end(), read_to):
                yield Span(cookie.start(1), cookie.end(1), "secret")
    if read.says("curl"):
        for found in _USER.finditer(text):
            if "curl" in read.lower[max(0, found.start() - _CURL_MAX) : found.start()]:
                yield Span(found.start(1), found.end(1), "secret")


def _told(text: str, lower: str) -> Iterator[Span]:
    for sign in _SIGN.finditer(text):
        at = sign.start()
        before = lower[max(0, at - BEFORE) : at]
        if not any(map(before.__contains__, _TELLING_WORDS)):
            continue
        if _TELLS.search(before):
            found = _VALUE.match(text, at)
        else:
            found = _DRAWN_VALUE.match(text, at) if _TELLS_DRAWN.search(before) else None
            found = None if found is not None and _UUID.fullmatch(found[1]) else found
        if found is not None and not _NO_VALUE.match(found[1]):
            yield _without_stop(found)


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


def _drawn(text: str, start: int, end: int) -> list[Span]:
    """Return the words that look drawn at random and are no digest, which is nobody's secret."""
    if end - start < _WORD_MIN:
        return []
    return [
        Span(word.start(), word.end(), "secret")
        for word in _WORD.finditer(text, start, end)
        if _is_random(word[0][:LOOKED_AT])
        and not _DIGEST.search(text, max(0, word.start() - _DIGEST_MAX), word.start() + _DIGEST_MAX)
        and not _UUID.search(word[0])
    ]


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
    drawn = b"_" + word.encode().translate(_KINDS)
    capitals, small, digits = map(drawn.count, (b"A", b"a", b"9"))
    letters = capitals + small + digits
    if not (capitals and small and digits) or letters < _WORD_MIN or len(word) - letters > SIGNS_MAX * len(word):
        return False
    if _HEX.match(word) or sum(map(drawn.count, _PART_BEGINS)) < CHANGES_MIN * letters:
        return False
    return digits >= 3 or len(_CAMELS.findall(word)) >= CHANGES_MIN * letters
