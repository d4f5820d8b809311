"""Patterns of label values: the part of regular expressions that nobody can write slowly.

Known are `|` between alternatives, `.` for one character, `.*` and `.+` for any, `[a-c]` for one of several, and `\\`
before a character that is meant as it is. A pattern fits a whole value. Groups, counts and anchors are refused: with
them a pattern of thirty characters can take minutes (each `.*` here is atomic, as fnmatch has it, so none tries again).
"""

import re
from functools import lru_cache
from typing import Final

PATTERN_MAX: Final = 500  # characters
KNOWN_MAX: Final = 256  # compiled patterns kept
_CLASS: Final = re.compile(r"\[\^?[\w.:/ -]+\]")
_REFUSED: Final = frozenset("()+*?{}^$]")


@lru_cache(maxsize=KNOWN_MAX)
def compiled(pattern: str) -> re.Pattern[str]:
    """Return `pattern` ready to match. Raises ValueError with the place that is not known."""
    if len(pattern) > PATTERN_MAX:
        raise ValueError(f"the pattern has {len(pattern)} characters; at most {PATTERN_MAX} are read")
    alternatives, at = [], 0
    pieces: list[str] = [""]  # literal parts; between two of them stands `.*`
    while at < len(pattern):
        char = pattern[at]
        if char == "|":
            alternatives.append(_joined(pieces))
            pieces = [""]
            at += 1
        elif pattern.startswith((".*", ".+"), at):
            pieces[-1] += "." if pattern[at + 1] == "+" else ""
            pieces.append("")
            at += 2
        else:
            text, at = _one(pattern, at)
            pieces[-1] += text
    return re.compile("|".join((*alternatives, _joined(pieces))), re.DOTALL)


def fits(pattern: str, value: str) -> bool:
    """Return whether `pattern` fits the whole of `value`. Raises ValueError as `compiled`."""
    return compiled(pattern).fullmatch(value) is not None


def _one(pattern: str, at: int) -> tuple[str, int]:
    """Return the expression of what stands at `at`, and where the next begins."""
    char = pattern[at]
    if char == ".":
        return ".", at + 1
    if char == "\\" and at + 1 < len(pattern):
        return re.escape(pattern[at + 1]), at + 2
    if char == "[" and (found := _CLASS.match(pattern, at)) is not None:
        return found[0], found.end()
    if char in _REFUSED or char in "[\\":
        raise ValueError(
            f"{pattern!r}: {char!r} at {at + 1} is not known; write | . .* .+ [a-z], or \\{char} for itself"
        )
    return re.escape(char), at + 1


def _joined(pieces: list[str]) -> str:
    """Return the literal parts with `.*` between them: each but the last takes the first place where it fits."""
    if len(pieces) == 1:
        return pieces[0]
    first, *middle, last = pieces
    return first + "".join(f"(?>.*?{piece})" for piece in middle if piece) + ".*" + last
