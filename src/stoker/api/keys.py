"""Operations on keys, and on the subjects that have them."""

import time
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.responses import Response

from stoker.api.bodies import decoded, nothing, reply
from stoker.api.operations import Call, Operation
from stoker.client.views import KeyView, NewKey
from stoker.control import issuing
from stoker.control.issuing import PUBLISHED_WAIT_S, Asker, Wish
from stoker.core.access import granted
from stoker.store import journal, keys
from stoker.store.engine import Connection
from stoker.store.keys import KeyRow
from stoker.types.access import ADMIN, USUAL, KeyAccess, Subject
from stoker.types.errors import InvalidInput
from stoker.types.fields import Name
from stoker.types.ids import DEFAULT_PROJECT
from stoker.types.keys import UNLIMITED, KeyLimits

OVERLAP_S_MAX: Final = 90 * 86_400.0


class KeyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key to make: for a project, by default the caller's own.

    admin: the same as the role owner, everywhere. access: by default it calls endpoints, and reads traces and metrics.
    """

    project: Name | None = None
    name: Annotated[str, Meta(max_length=128)] = ""
    admin: bool = False
    expires_in_s: Annotated[float, Meta(gt=0, le=100 * 365 * 86400)] | None = None
    limits: KeyLimits = UNLIMITED
    access: KeyAccess | None = None
    subject: Subject | None = None


class RotateBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the secret before works on."""

    overlap_s: Annotated[float, Meta(ge=0, le=OVERLAP_S_MAX)] = 86_400.0


class KeyList(msgspec.Struct, frozen=True):
    """Keys, oldest first, without their secrets."""

    items: list[KeyView]


async def _create(call: Call) -> Response:
    body = await decoded(call.request, KeyBody)
    if body.admin and body.access is not None:
        raise InvalidInput("name admin or access, not both", field="access")
    access = ADMIN if body.admin else body.access or USUAL
    if access.endpoints and not access.role and not access.permissions:
        access = msgspec.structs.replace(USUAL, endpoints=access.endpoints, everywhere=access.everywhere)
    now_s = time.time()
    wish = Wish(
        project=body.project or call.grant.only or DEFAULT_PROJECT,
        name=body.name,
        expires_at_s=0.0 if body.expires_in_s is None else now_s + body.expires_in_s,
        limits=body.limits,
        access=access,
        subject=body.subject or "",
    )
    text, row = await call.plane.database.writing(lambda each: issuing.create(each, _asker(call), wish, now_s))
    behind = await call.plane.published(PUBLISHED_WAIT_S)
    return reply(NewKey(**msgspec.structs.asdict(_view(row)), key=text, behind=behind), 201)


async def _list(call: Call) -> Response:
    found = await call.plane.database.reading(keys.everything)
    return reply(KeyList([_view(row) for row in found if call.may("keys:read", issuing.place(row))]))


async def _limit(call: Call) -> Response:
    limits = await decoded(call.request, KeyLimits)
    key_id = call.request.path_params["id"]

    def change(connection: Connection) -> KeyRow:
        issuing.held(connection, _asker(call), "keys:write", key_id)
        row = keys.limit(connection, key_id, limits)
        journal.add(connection, journal.Entry(time.time(), "LimitKey", call.because, row.project, subject=row.id))
        return row

    row = await call.plane.database.writing(change)
    await call.plane.published(PUBLISHED_WAIT_S)
    return reply(_view(row))


async def _rotate(call: Call) -> Response:
    body = await decoded(call.request, RotateBody)
    key_id, now_s = call.request.path_params["id"], time.time()
    text, row = await call.plane.database.writing(
        lambda each: issuing.rotate(each, _asker(call), key_id, body.overlap_s, now_s)
    )
    behind = await call.plane.published(PUBLISHED_WAIT_S)
    return reply(NewKey(**msgspec.structs.asdict(_view(row)), key=text, behind=behind))


async def _revoke(call: Call) -> Response:
    key_id = call.request.path_params["id"]

    def change(connection: Connection) -> None:
        issuing.held(connection, _asker(call), "keys:write", key_id)
        row = keys.remove(connection, key_id)
        journal.add(connection, journal.Entry(time.time(), "RevokeKey", call.because, row.project, subject=row.id))

    await call.plane.database.writing(change)
    await call.plane.published(PUBLISHED_WAIT_S)
    return nothing()


def _asker(call: Call) -> Asker:
    return Asker(call.grant, call.caller, call.because)


def _view(row: KeyRow) -> KeyView:
    return KeyView(
        id=row.id,
        project=row.project,
        name=row.name,
        admin=granted(row.access, row.project).is_admin,
        created_at_s=row.created_at_s,
        expires_at_s=row.expires_at_s,
        limits=row.limits,
        access=row.access,
        subject=row.subject,
        old_until_s=row.old_until_s,
        last_used_at_s=row.last_used_at_s,
    )


OPERATIONS: Final = (
    Operation(
        "POST",
        "/api/v1/keys",
        _create,
        "Make a key; its text is shown this once",
        "keys:write",
        where="each",
        body=KeyBody,
        answer=NewKey,
        status=201,
    ),
    Operation("GET", "/api/v1/keys", _list, "List keys", "keys:read", where="each", answer=KeyList),
    Operation(
        "PUT",
        "/api/v1/keys/{id}/limits",
        _limit,
        "Hold a key to other limits; what is not given is no limit",
        "keys:write",
        where="each",
        body=KeyLimits,
        answer=KeyView,
    ),
    Operation(
        "POST",
        "/api/v1/keys/{id}/rotate",
        _rotate,
        "Give a key another secret, shown this once; the one before works on for a while",
        "keys:write",
        where="each",
        body=RotateBody,
        answer=NewKey,
    ),
    Operation("DELETE", "/api/v1/keys/{id}", _revoke, "Revoke a key", "keys:write", where="each", status=204),
)
