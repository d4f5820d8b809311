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
    """One message for one receiver: its address, or the reference to it.

    secret: the file that signs it; sign_with: or the reference to what does; "" for none.
    """

    number: int
    receiver: str
    at_s: float
    secret: str
    message: HookMessage
    sign_with: str = ""


def add(connection: Connection, hooks: Iterable[Hook], told: HookMessage) -> None:
    """Keep `told` for each of `hooks` that asked for it."""
    table = schema.rollout_outbox
    for hook in hooks:
        if not hears(hook, told):
            continue
        receiver = hook.webhook_from or hook.webhook
        values = {
            "at_s": told.at_s,
            "receiver": receiver,
            "secret": hook.secret,
            "sign_with": hook.sign_with or "",
            "message": msgspec.json.encode(told).decode(),
        }
        connection.execute(insert(table).values(values))
        mine = select(table.c.number).where(table.c.receiver == receiver).order_by(table.c.number.desc())
        last = connection.execute(mine.offset(OUTBOX_MAX).limit(1)).scalar()
        if last is not None:
            connection.execute(delete(table).where(and_(table.c.receiver == receiver, table.c.number <= last)))


def everything(connection: Connection) -> list[Letter]:
    """Return what is yet to be told, the oldest first."""
    table = schema.rollout_outbox
    return [
        Letter(row.number, row.receiver, row.at_s, row.secret, _message.decode(row.message), row.sign_with)
        for row in connection.execute(select(table).order_by(table.c.number))
    ]


def remove(connection: Connection, numbers: Iterable[int]) -> None:
    """Drop what was told, or given up."""
    connection.execute(delete(schema.rollout_outbox).where(schema.rollout_outbox.c.number.in_(list(numbers))))
