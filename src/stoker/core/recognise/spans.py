"""A piece of a text and what it is."""

from typing import NamedTuple


class Span(NamedTuple):
    """`text[start:end]` is a `kind`."""

    start: int
    end: int
    kind: str
