"""An endpoint's own patterns, of which it must be certain that no text can make them slow.

`re` tries again: `(a+)+b` takes a day for thirty letters, and even `a+b` takes a second for 30,000. So a pattern is
refused unless the number of ways in which it can match at one place is bounded and small; a search then costs at most
that many steps for each character, whatever the text.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from stoker.core.recognise.spans import Span

PATTERN_MAX: Final = 500  # characters
WAYS_MAX: Final = 2_000
LENGTH_MAX: Final = 1_000  # of what it matches
KIND: Final = re.compile(r"[a-z][a-z0-9_\-]{0,30}")


class Custom(NamedTuple):
    """What an endpoint calls `kind`, as a pattern that `compiled` has found linear."""

    kind: str
    pattern: re.Pattern[str]

    def find(self, text: str) -> Iterator[Span]:
        """Yield where it matches; what matches nothing is no match."""
        return (Span(found.start(), found.end(), self.kind) for found in self.pattern.finditer(text) if found[0])


def compiled(kind: str, pattern: str) -> Custom:
    """Return the recogniser. Raises ValueError, in words for its author, for what may be slow or is no pattern."""
    if not KIND.fullmatch(kind):
        raise ValueError(f"{kind!r} is no name for a pattern: small letters, digits, - and _, at most 31")
    if len(pattern) > PATTERN_MAX:
        raise ValueError(f"{len(pattern)} characters; {PATTERN_MAX} are the most a pattern may have")
    try:
        made = re.compile(pattern)
        tree = re._parser.parse(pattern)  # type: ignore[attr-defined]  # the standard library's own reading of it
    except (re.error, RecursionError, OverflowError) as wrong:
        raise ValueError(f"no regular expression: {wrong}") from wrong
    longest = tree.getwidth()[1]
    ways = _ways(tree)
    if longest > LENGTH_MAX or ways > WAYS_MAX:
        raise ValueError(
            f"it may match {'very long texts' if longest > LENGTH_MAX else f'one text in {ways} ways'}, which can be "
            "slow; bound every repeat, such as {1,20} for +, and split it into several patterns"
        )
    return Custom(kind, made)


def _ways(tree: Any) -> int:
    """Return in how many ways the items of a parsed pattern can match at one place, at the most."""
    ways = 1
    for item in tree:
        ways *= _ways_of(str(item[0]), item[1])
        if ways > WAYS_MAX:
            return ways
    return ways


def _ways_of(name: str, argument: Any) -> int:
    match name:
        case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN" | "AT":
            return 1
        case "SUBPATTERN":
            return _ways(argument[3])
        case "ATOMIC_GROUP":
            return _ways(argument)
        case "ASSERT" | "ASSERT_NOT":
            return _ways(argument[1])
        case "BRANCH":
            return sum(map(_ways, argument[1]))
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            return _ways_of_repeat(*argument)
    raise ValueError(f"{name.lower().replace('_', ' ')} has no bound on its work, and is not supported")


def _ways_of_repeat(least: int, most: int, tree: Any) -> int:
    once = _ways(tree)
    if most > LENGTH_MAX:
        return WAYS_MAX + 1
    ways = 0
    for count in range(least, most + 1):
        ways += once**count if once > 1 else 1
        if ways > WAYS_MAX:
            break
    return ways
