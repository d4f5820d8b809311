"""What a change is told as: the fields of a resource that differ, with what opens a door hidden."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from stoker.core.audit.chain import canonical
from stoker.core.recognise import secrets
from stoker.core.recognise.reading import reading
from stoker.types.audit import FieldChange, ResourceChange

FIELDS_MAX: Final = 200  # of one resource
TEXT_MAX: Final = 500  # characters of one value
HIDDEN: Final = "(hidden)"

# Whose values are secrets, or digests of some, whatever they look like. `secret`, `password` and the like of notifiers
# and hooks name a place where one is; the name of the place is no secret, but nobody needs it here.
_DOORS: Final = re.compile(
    r"(?:^|[._\-])(?:env|headers)[.\[]|(?:^|[._\-])(?:sha256|secret|passw(?:or)?d|token|api_?key|credentials?)$",
    re.IGNORECASE,
)
_ADDRESSES: Final = re.compile(r"(?:^|[._\-])(?:url|webhook|address)$", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"^([a-z][a-z0-9+.\-]*://)(?:[^/@]*@)?([^/?#]*)(.*)$", re.IGNORECASE | re.DOTALL)

Image = Mapping[str, Any]  # a row: columns with their values, JSON as the text it is stored as


def change(what: str, before: Image | None, after: Image | None) -> ResourceChange | None:
    """Return what happened to a resource between two images of its row; None where nothing did."""
    old, new = dict(_leaves("", _opened(before))), dict(_leaves("", _opened(after)))
    named = [name for name in {**old, **new} if name not in old or name not in new or not _same(old[name], new[name])]
    if before is not None and after is not None and not named:
        return None
    fields = tuple(FieldChange(name, _shown(name, old.get(name)), _shown(name, new.get(name))) for name in named)
    more = fields[FIELDS_MAX:]
    return ResourceChange(
        what,
        "create" if before is None else "delete" if after is None else "update",
        fields[:FIELDS_MAX],
        len(more),
        hashlib.sha256(canonical(more)).hexdigest() if more else "",
    )


def summary(text: str) -> str:
    """Return what stands for a text that is too much to be told."""
    return f"{len(text)} characters, sha256 {hashlib.sha256(text.encode()).hexdigest()}"


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _opened(image: Image | None) -> dict[str, Any]:
    """Return a row with its JSON columns as values."""
    opened = {}
    for name, value in (image or {}).items():
        opened[name] = value
        if isinstance(value, str) and value[:1] in ("{", "["):
            with suppress(msgspec.MsgspecError):  # somebody's text that begins so
                opened[name] = msgspec.json.decode(value)
    return opened


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every single value with its path; what is empty stands for itself."""
    if isinstance(value, dict) and value:
        for name, inside in value.items():
            yield from _leaves(f"{path}.{name}" if path else str(name), inside)
    elif isinstance(value, list) and value:
        for at, inside in enumerate(value):
            yield from _leaves(f"{path}[{at}]", inside)
    elif path:
        yield path, value


def _shown(path: str, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if _DOORS.search(path):
        return HIDDEN
    if not isinstance(value, str):
        return value
    return hidden(_address(value) if _ADDRESSES.search(path) else value)


def _address(value: str) -> str:
    """Return an address without who logs in there and what it asks: of many a webhook that is the secret."""
    found = _ADDRESS.match(value)
    if found is None:
        return value
    return f"{found[1]}{found[2]}{'/' + HIDDEN if found[3] not in ('', '/') else found[3]}"


def hidden(text: str) -> str:
    """Return a text without what in it opens a door, and not longer than TEXT_MAX."""
    for span in sorted(secrets.find(reading(text)), reverse=True):
        text = text[: span.start] + HIDDEN + text[span.end :]
    if len(text) > TEXT_MAX:
        return f"{text[:TEXT_MAX]}… ({summary(text)})"
    return text
