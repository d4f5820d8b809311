"""Operations on models: blobs, versions, aliases."""

import asyncio
import time
from contextlib import ExitStack
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.responses import Response

from stoker.api.bodies import chunks, decoded, nothing, reply
from stoker.api.operations import Call, Operation
from stoker.control.allowances import over_storage
from stoker.control.models import may, reference, refuse_push
from stoker.control.signatures import SignedPush
from stoker.registry.versions import Given, Scalar
from stoker.store import models
from stoker.types.access import Permission
from stoker.types.errors import Forbidden, InvalidInput, NotFound
from stoker.types.fields import Name
from stoker.types.ids import DEFAULT_PROJECT, Digest, is_digest
from stoker.types.models import FileEntry, Format, Lineage, ModelVersion
from stoker.types.signing import SIGNATURE_BYTES_MAX

FILES_MAX: Final = 10_000
CLOCKS_APART_S: Final = 300.0  # of who trains and of control
# Bytes gathered before a thread writes them: a hop to a thread for each small piece would cost more than the write.
WRITE_BYTES: Final = 1 << 20


class VersionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a version is made of; what is left out is found in the files."""

    files: Annotated[tuple[FileEntry, ...], Meta(max_length=FILES_MAX)]
    format: Format | None = None
    entry: str | None = None
    tasks: tuple[str, ...] | None = None
    options: dict[str, Scalar] | None = None
    metadata: dict[str, Scalar | list[str] | None] | None = None
    lineage: Lineage = Lineage()
    signatures: Annotated[tuple[Annotated[str, Meta(max_length=SIGNATURE_BYTES_MAX)], ...], Meta(max_length=1)] = ()
    project: Name | None = None  # whose demands of signatures it is held to; by default of the key's own


class AliasBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which version an alias means."""

    number: Annotated[int, Meta(ge=1)]


class VersionList(msgspec.Struct, frozen=True):
    """Versions by name and number."""

    items: list[ModelVersion]


async def _has_blob(call: Call) -> Response:
    # Touched: whoever asks is about to register it, and a collection must not come between.
    if not await asyncio.to_thread(call.plane.models.blobs.touch, _digest(call)):
        raise NotFound("no such blob")
    return nothing(200)


async def _put_blob(call: Call) -> Response:
    digest, blobs, registry = _digest(call), call.plane.models.blobs, call.plane.models
    if await asyncio.to_thread(blobs.touch, digest):
        return nothing(200)
    # Before a byte is taken, where its length is said; what comes without is cut where there is no more room.
    project, said = call.grant.only or "", call.request.headers.get("content-length", "0")
    told = int(said) if said.isascii() and said.isdecimal() else 0
    left = await registry.admit_upload(project, digest, told, time.time())
    with ExitStack() as cleanup:
        cleanup.callback(lambda: registry.uploaded(project, digest, stored, time.time()) if left is not None else None)
        stored = total = 0
        writer = cleanup.enter_context(await asyncio.to_thread(blobs.writer, digest))
        gathered: list[bytes] = []
        size = 0
        async for chunk in chunks(call.request):
            gathered.append(chunk)
            size, total = size + len(chunk), total + len(chunk)
            if left is not None and total > left:
                raise over_storage(total, left)
            if size >= WRITE_BYTES:
                await asyncio.to_thread(writer.write, b"".join(gathered))
                gathered, size = [], 0
        if gathered:
            await asyncio.to_thread(writer.write, b"".join(gathered))
        await asyncio.to_thread(writer.commit)
        stored = total
    return nothing(201)


async def _push(call: Call) -> Response:
    body = await decoded(call.request, VersionBody)
    if body.lineage.trained_at_s > time.time() + CLOCKS_APART_S:
        raise InvalidInput("trained in the future; it is unix time in seconds", field="lineage.trained_at_s")
    given = Given(body.format, body.entry, body.tasks, body.options, body.metadata, body.lineage)
    project = body.project or call.grant.only or DEFAULT_PROJECT
    call.require("models:push", project)
    signed, name = SignedPush(body.signatures, project, call.grant), call.request.path_params["name"]
    await call.plane.database.reading(lambda connection: refuse_push(connection, name, call.grant))
    version, is_new = await call.plane.models.push(name, body.files, given, signed, call.actor)
    return reply(version, 201 if is_new else 200)


async def _models(call: Call) -> Response:
    found, owners = await call.plane.database.reading(lambda each: (models.everything(each), models.owners(each)))
    return reply(VersionList([each for each in found if may(call.grant, "models:read", owners[each.name])]))


async def _versions(call: Call) -> Response:
    name = call.request.path_params["name"]
    await require_model(call, "models:read", name)
    found = await call.plane.database.reading(lambda connection: models.everything(connection, name))
    if not found:
        raise NotFound(models.unknown(name))
    return reply(VersionList(found))


async def _version(call: Call) -> Response:
    ref = reference(call.request.path_params["name"], call.request.path_params["which"])
    await require_model(call, "models:read", ref.name)
    return reply(await call.plane.database.reading(lambda connection: models.get(connection, ref)))


async def _delete_version(call: Call) -> Response:
    await require_model(call, "models:push", call.request.path_params["name"])
    await call.plane.models.remove(call.request.path_params["name"], call.request.path_params["which"])
    return nothing()


async def _put_alias(call: Call) -> Response:
    body = await decoded(call.request, AliasBody)
    name, alias = call.request.path_params["name"], call.request.path_params["alias"]
    await require_model(call, "models:push", name)
    await call.plane.models.set_alias(name, alias, body.number, call.actor)
    call.plane.loop.wake()
    return nothing()


async def _delete_alias(call: Call) -> Response:
    await require_model(call, "models:push", call.request.path_params["name"])
    await call.plane.models.remove_alias(call.request.path_params["name"], call.request.path_params["alias"])
    return nothing()


async def require_model(call: Call, permission: Permission, name: str) -> None:
    """Raise NotFound for a model that the caller does not see, as for one that is not there; Forbidden otherwise."""
    owner = await call.plane.database.reading(lambda connection: models.owner(connection, name))
    if owner is None or may(call.grant, permission, owner):
        return  # what is not there is found to be so later, in the same words
    if not may(call.grant, "models:read", owner) and call.grant.only is not None:
        raise NotFound(models.unknown(name))
    raise Forbidden(f"this needs the permission {permission} for model {name!r}; key {call.caller} does not have it")


def _digest(call: Call) -> Digest:
    text = call.request.path_params["digest"]
    if not is_digest(text):
        raise InvalidInput(f"{text!r} is not a digest; write sha256: and 64 hex digits", field="digest")
    return Digest(text)


_BLOB: Final = "/api/v1/blobs/{digest}"
_MODEL: Final = "/api/v1/models/{name}"
_VERSION: Final = "/api/v1/models/{name}/versions/{which}"
_ALIAS: Final = "/api/v1/models/{name}/aliases/{alias}"
_BYTES: Final = "application/octet-stream"

OPERATIONS: Final = (
    Operation("HEAD", _BLOB, _has_blob, "Whether a blob is there", ("models:push", "endpoints:write"), where="each"),
    Operation(
        "PUT",
        _BLOB,
        _put_blob,
        "Upload a blob; its digest is checked",
        ("models:push", "endpoints:write"),
        where="each",
        body=_BYTES,
        status=201,
        audit="nothing",
    ),
    Operation(
        "GET",
        "/api/v1/models",
        _models,
        "List every version of every model",
        "models:read",
        where="each",
        answer=VersionList,
    ),
    Operation(
        "GET", _MODEL, _versions, "List the versions of a model", "models:read", where="each", answer=VersionList
    ),
    Operation(
        "POST",
        _MODEL + "/versions",
        _push,
        "Make a version of uploaded blobs",
        "models:push",
        where="each",
        body=VersionBody,
        answer=ModelVersion,
        status=201,
    ),
    Operation(
        "GET",
        _VERSION,
        _version,
        "A version by number, alias or digest",
        "models:read",
        where="each",
        answer=ModelVersion,
    ),
    Operation(
        "DELETE",
        _VERSION,
        _delete_version,
        "Delete a version that nothing uses",
        "models:push",
        where="each",
        status=204,
    ),
    Operation(
        "PUT",
        _ALIAS,
        _put_alias,
        "Point an alias at a version",
        "models:push",
        where="each",
        body=AliasBody,
        status=204,
    ),
    Operation("DELETE", _ALIAS, _delete_alias, "Remove an alias", "models:push", where="each", status=204),
)
