"""The tags of a request: those of its key, and those of its header `x-stoker-tags: team=search,run=7`."""

from typing import Final

from stoker.types.errors import InvalidInput
from stoker.types.routes import KeyRoute
from stoker.types.usage import TAG_MAX, TAGS_MAX, Tags

KNOWN_MAX: Final = 1024
HEADER: Final = "x-stoker-tags"


class TagReader:
    """Reads tags, and remembers what it read: most requests of a caller say the same."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[str, tuple[tuple[str, str], ...], bytes | None], Tags] = {}

    def read(self, key: KeyRoute, header: bytes | None) -> Tags:
        """Return the tags by name; the key's win. Raises InvalidInput."""
        own = key.limits.tags
        if header is None and not own:
            return ()
        known = self._known.get((key.key, tuple(own.items()), header))
        if known is not None:
            return known
        tags = tuple(sorted({**parse(header or b""), **own}.items()))
        if len(tags) > TAGS_MAX:
            raise InvalidInput(f"{len(tags)} tags, {TAGS_MAX} are the most, those of the key included", field=HEADER)
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[key.key, tuple(own.items()), header] = tags
        return tags


def parse(header: bytes) -> dict[str, str]:
    """Return the tags of a header's value. Raises InvalidInput."""
    tags: dict[str, str] = {}
    for each in header.decode("utf-8", "replace").split(","):
        name, equals, value = (part.strip() for part in each.partition("="))
        if not name and not equals:
            continue
        if not name or not equals or len(name) > TAG_MAX or len(value) > TAG_MAX or not (name + value).isprintable():
            raise InvalidInput(
                f"{each[:40]!r} is no tag; write name=value, each at most {TAG_MAX} characters", field=HEADER
            )
        tags[name] = value
    return tags
