"""What in a text names a person or opens a door: `find` tells where, and what it is.

A recogniser a file: `cards`; `numbers` (phones, IPv4) and `ids` (national ids, IBANs), whose forms `scan` looks for
where the outline of the text (`reading`) has them; `told` (numbers known by the word before them), `words` (addresses
of mail, IPv6), `secrets` (keys, tokens, passwords), `custom` (an endpoint's own patterns). Each looks for a form and
then, where the form has one, at the check digit: the form alone would take order numbers for cards. What is in no form
(names, streets, what a person tells of himself) is not found.

Every pattern is linear in the text: repeats are bounded, and what is not is one class of letters that ends before the
search goes on (tests/core/test_recognise.py holds the growth).
"""

from collections.abc import Iterable, Sequence
from typing import Final

from stoker.core.recognise import cards, ids, numbers, scan, secrets, told, words
from stoker.core.recognise.custom import Custom
from stoker.core.recognise.reading import reading
from stoker.core.recognise.spans import Span

# What an overlap is called: the first of these in it. A secret first, because it is the one that opens something.
RANKS: Final = ("secret", "iban", "card", "id", "email", "phone", "ip")
_SCREENS: Final = (*numbers.SCREENS, *ids.SCREENS)


def find(text: str, custom: Sequence[Custom] = ()) -> list[Span]:
    """Return what was recognised in `text`, in order, without overlaps. `custom` come first in an overlap's name.

    Where two recognisers overlap the span is the whole of both: to keep the one would show the rest of the other.
    """
    found: list[Span] = []
    for own in custom:
        found += own.find(text)
    read = reading(text)
    found += secrets.find(read)
    found += words.find(text)
    found += cards.find(read)
    found += scan.find(_SCREENS, read)
    found += told.find(read)
    return _joined(found, [own.kind for own in custom])


def _joined(found: Iterable[Span], first: Sequence[str]) -> list[Span]:
    rank = {kind: at for at, kind in enumerate((*first, *RANKS))}
    joined: list[Span] = []
    for span in sorted(found):
        last = joined[-1] if joined else None
        if last is None or span.start >= last.end:
            joined.append(span)
            continue
        if span.end <= last.end and span.kind == last.kind:
            continue
        kind = min(last.kind, span.kind, key=rank.__getitem__)
        joined[-1] = Span(last.start, max(last.end, span.end), kind)
    return joined
