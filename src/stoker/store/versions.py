"""Many model versions at once. Rows never change, so they are remembered; which there are, and aliases, is asked."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

from sqlalchemy import Connection, func, select, tuple_

from stoker.core.refs import ModelRef
from stoker.store import models, schema
from stoker.types.models import ModelVersion

KEPT_MAX: Final = 4096  # versions; a manifest is some kB
ASKED_AT_ONCE: Final = 500  # names or versions in one question

_T = TypeVar("_T")
_Key = tuple[str, int]  # name and number
_Aliases = dict[str, dict[str, int]]  # numbers by name and alias


class Versions:
    """Resolves references in a few questions however many they are. For one thread."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int, str], ModelVersion] = OrderedDict()  # with the digest; oldest use first

    def resolve(self, connection: Connection, refs: Iterable[ModelRef]) -> dict[ModelRef, ModelVersion | None]:
        """Return what `models.resolve` would, for each of `refs`."""
        wanted = set(refs)
        names = sorted({each.name for each in wanted})
        aliases = _aliases(connection, names)
        newest = _newest(connection, sorted({each.name for each in wanted if each.is_newest}))
        keys: dict[ModelRef, _Key] = {}
        for ref in wanted:
            number = ref.number or (aliases.get(ref.name, {}).get(ref.alias) if ref.alias else newest.get(ref.name))
            if number and ref.digest is None:
                keys[ref] = (ref.name, number)
        known = self._versions(connection, sorted(set(keys.values())), aliases)
        found = {ref: known.get(keys[ref]) if ref in keys else None for ref in wanted}
        found.update({ref: models.resolve(connection, ref) for ref in wanted if ref.digest is not None})
        return found

    def _versions(self, connection: Connection, keys: Sequence[_Key], aliases: _Aliases) -> dict[_Key, ModelVersion]:
        table, found = schema.versions, dict[_Key, ModelVersion]()
        here = tuple_(table.c.name, table.c.number)
        for some in _chunks(keys):
            ask = select(table.c.name, table.c.number, table.c.digest).where(here.in_(some))
            there = [(row.name, row.number, row.digest) for row in connection.execute(ask)]
            new = [each[:2] for each in there if each not in self._kept]
            if new:
                for row in connection.execute(select(table).where(here.in_(new))):
                    self._kept[row.name, row.number, row.digest] = models.version(row)
            for name, number, digest in there:
                self._kept.move_to_end((name, number, digest))
                pointing = tuple(sorted(alias for alias, at in aliases.get(name, {}).items() if at == number))
                found[name, number] = models.aliased(self._kept[name, number, digest], pointing)
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return found


def _aliases(connection: Connection, names: Sequence[str]) -> _Aliases:
    table, found = schema.aliases, _Aliases()
    for some in _chunks(names):
        for row in connection.execute(select(table).where(table.c.name.in_(some))):
            found.setdefault(row.name, {})[row.alias] = row.number
    return found


def _newest(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    table, found = schema.versions, dict[str, int]()
    for some in _chunks(names):
        ask = select(table.c.name, func.max(table.c.number).label("number")).where(table.c.name.in_(some))
        found.update({row.name: row.number for row in connection.execute(ask.group_by(table.c.name))})
    return found


def _chunks(every: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (every[at : at + ASKED_AT_ONCE] for at in range(0, len(every), ASKED_AT_ONCE))
