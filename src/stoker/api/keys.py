"""Operations on keys."""

import time
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.responses import Response

from stoker.api.bodies import decoded, nothing, reply
from stoker.api.operations import Call, Operation
from stoker.client.views import KeyView, NewKey
from stoker.control.keys import make
from stoker.store import journal, keys
from stoker.store.engine import Connection
from stoker.store.keys import KeyRow
from stoker.types.fields import Name
from stoker.types.ids import DEFAULT_PROJECT
from stoker.types.keys import UNLIMITED, KeyLimits

PUBLISHED_WAIT_S: Final = 2.0  # a key works, or works no more, when its caller hears so


class KeyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to make. An admin key may change the platform and call every project's endpoints."""

    project: Name = DEFAULT_PROJECT
    name: Annotated[str, Meta(max_length=128)] = ""
    admin: bool = False
    expires_in_s: Annotated[float, Meta(gt=0, le=100 * 365 * 86400)] | None = None
    limits: KeyLimits = UNLIMITED


class KeyList(msgspec.Struct, frozen=True):
    """Keys, oldest first, without their secrets."""

    items: list[KeyView]


async def _create(call: Call) -> Response:
    body = await decoded(call.request, KeyBody)
    now_s = time.time()
    expires_at_s = 0.0 if body.expires_in_s is None else now_s + body.expires_in_s
    text, row = make(
        body.project,
        body.name,
        is_admin=body.admin,
        expires_at_s=expires_at_s,
        now_s=now_s,
        limits=body.limits,
    )

    def change(connection: Connection) -> None:
        keys.add(connection, row)
        because = f"asked to by key {call.key.id}" if call.key is not None else "asked to"
        journal.add(connection, journal.Entry(now_s, "CreateKey", because, row.project, subject=row.id))

    await call.plane.database.writing(change)
    await call.plane.loop.turned(PUBLISHED_WAIT_S)
    return reply(NewKey(**msgspec.structs.asdict(_view(row)), key=text), 201)


async def _list(call: Call) -> Response:
    found = await call.plane.database.reading(keys.everything)
    return reply(KeyList([_view(row) for row in found]))


async def _limit(call: Call) -> Response:
    limits = await decoded(call.request, KeyLimits)
    key_id = call.request.path_params["id"]

    def change(connection: Connection) -> KeyRow:
        row = keys.limit(connection, key_id, limits)
        because = f"asked to by key {call.key.id}" if call.key is not None else "asked to"
        journal.add(connection, journal.Entry(time.time(), "LimitKey", because, row.project, subject=row.id))
        return row

    row = await call.plane.database.writing(change)
    await call.plane.loop.turned(PUBLISHED_WAIT_S)
    return reply(_view(row))


async def _revoke(call: Call) -> Response:
    key_id = call.request.path_params["id"]

    def change(connection: Connection) -> None:
        row = keys.remove(connection, key_id)
        because = f"asked to by key {call.key.id}" if call.key is not None else "asked to"
        journal.add(connection, journal.Entry(time.time(), "RevokeKey", because, row.project, subject=row.id))

    await call.plane.database.writing(change)
    await call.plane.loop.turned(PUBLISHED_WAIT_S)
    return nothing()


def _view(row: KeyRow) -> KeyView:
    return KeyView(
        id=row.id,
        project=row.project,
        name=row.name,
        admin=row.is_admin,
        created_at_s=row.created_at_s,
        expires_at_s=row.expires_at_s,
        limits=row.limits,
    )


OPERATIONS: Final = (
    Operation(
        "POST",
        "/api/v1/keys",
        _create,
        "Make a key; its text is shown this once",
        body=KeyBody,
        answer=NewKey,
        status=201,
    ),
    Operation("GET", "/api/v1/keys", _list, "List keys", answer=KeyList),
    Operation(
        "PUT",
        "/api/v1/keys/{id}/limits",
        _limit,
        "Hold a key to other limits; what is not given is no limit",
        body=KeyLimits,
        answer=KeyView,
    ),
    Operation("DELETE", "/api/v1/keys/{id}", _revoke, "Revoke a key", status=204),
)
