"""Readings of secrets as rows: who saw which value when, by its number."""

from collections.abc import Iterable

from sqlalchemy import Connection, delete, insert, select, update

from stoker.store.schema_secrets import secret_reads
from stoker.types.secrets import SecretState


def note(connection: Connection, states: Iterable[SecretState], processes: Iterable[str]) -> int:
    """Write what is new of `states`; drop what `processes`, which told them all, use no more. Return how many are new.

    A process that started again has read its secrets anew.
    """
    table = secret_reads
    known = {(row.reference, row.process): row for row in connection.execute(select(table))}
    told = {(each.reference, each.process): each for each in states if each.read}
    new = 0
    for key, each in told.items():
        row = known.get(key)
        here = (table.c.reference == each.reference) & (table.c.process == each.process)
        if row is None:
            connection.execute(
                insert(table).values(
                    reference=each.reference, process=each.process, number=each.read, read_at_s=each.changed_at_s
                )
            )
        elif (row.number, row.read_at_s) != (each.read, each.changed_at_s):
            connection.execute(update(table).where(here).values(number=each.read, read_at_s=each.changed_at_s))
        else:
            continue
        new += 1
    asked = set(processes)
    for reference, process in known.keys() - told.keys():
        if process in asked:
            connection.execute(delete(table).where((table.c.reference == reference) & (table.c.process == process)))
    return new


def is_news(connection: Connection, states: Iterable[SecretState]) -> bool:
    """Return whether `note` would write a reading."""
    known = {
        (row.reference, row.process): (row.number, row.read_at_s) for row in connection.execute(select(secret_reads))
    }
    return any(
        known.get((each.reference, each.process)) != (each.read, each.changed_at_s) for each in states if each.read
    )
