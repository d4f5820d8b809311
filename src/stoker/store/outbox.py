"""What hooks of rollouts are yet to be told: written in the transaction that decided it, removed once it was told.

A process that dies between the two tells it again when it is back, under the same id.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from sqlalchemy import Connection, and_, delete, insert, select

from stoker.core.rollout.hooks import HookMessage, hears
from stoker.store import schema
from stoker.types.rollouts import Hook

OUTBOX_MAX: Final = 100  # of one receiver; the oldest makes room for a new one

_message = msgspec.json.Decoder(HookMessage)


class Letter(msgspec.Struct, frozen=True):
    """One message for one receiver. `receiver` is its address, `secret` the file that signs it, "" for none."""

    number: int
    receiver: str
    at_s: float
    secret: str
    message: HookMessage


def add(connection: Connection, hooks: Iterable[Hook], told: HookMessage) -> None:
    """Keep `told` for each of `hooks` that asked for it."""
    table = schema.rollout_outbox
    for hook in hooks:
        if not hears(hook, told):
            continue
        values = {
            "at_s": told.at_s,
            "receiver": hook.webhook,
            "secret": hook.secret,
            "message": msgspec.json.encode(told).decode(),
        }
        connection.execute(insert(table).values(values))
        mine = select(table.c.number).where(table.c.receiver == hook.webhook).order_by(table.c.number.desc())
        last = connection.execute(mine.offset(OUTBOX_MAX).limit(1)).scalar()
        if last is not None:
            connection.execute(delete(table).where(and_(table.c.receiver == hook.webhook, table.c.number <= last)))


def everything(connection: Connection) -> list[Letter]:
    """Return what is yet to be told, the oldest first."""
    table = schema.rollout_outbox
    return [
        Letter(row.number, row.receiver, row.at_s, row.secret, _message.decode(row.message))
        for row in connection.execute(select(table).order_by(table.c.number))
    ]


def remove(connection: Connection, numbers: Iterable[int]) -> None:
    """Drop what was told, or given up."""
    connection.execute(delete(schema.rollout_outbox).where(schema.rollout_outbox.c.number.in_(list(numbers))))
