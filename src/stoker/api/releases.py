"""Operations on releases: dossiers, the key that signs them, and the examples that endpoints hold."""

import asyncio
import time
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.responses import Response

from stoker.api.bodies import decoded, nothing, reply
from stoker.api.operations import Call, Operation
from stoker.control import steering
from stoker.core.gate import golden
from stoker.core.gate.golden import BadGolden
from stoker.core.revisions import revision_id
from stoker.store import journal, releases
from stoker.store.engine import Connection
from stoker.types.errors import InvalidInput, NotFound
from stoker.types.ids import DIGEST_PATTERN, Digest, is_digest
from stoker.types.releases import GOLDEN_BYTES_MAX, GoldenSet, PlatformKey, ReleaseView

LATEST: Final = "latest"


class ReleaseList(msgspec.Struct, frozen=True):
    """Dossiers, the newest first."""

    items: list[ReleaseView]


class GoldenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The examples that an endpoint shall hold: a blob that was uploaded."""

    digest: Annotated[str, Meta(extra_json_schema={"pattern": DIGEST_PATTERN})]


async def _releases(call: Call) -> Response:
    project, name = _whose(call)
    found = await call.plane.database.reading(lambda connection: releases.of(connection, project, name))
    return reply(ReleaseList(found))


async def _release(call: Call) -> Response:
    project, name = _whose(call)
    which = call.request.path_params["which"]
    if which != LATEST and not (which.isascii() and which.isdigit() and len(which) < 10):
        raise NotFound(f"{which[:64]!r} is not a revision; write its number, or {LATEST}", field="which")
    revision = None if which == LATEST else revision_id(project, name, int(which))

    def look(connection: Connection) -> ReleaseView:
        view = releases.get(connection, project, name, revision)
        held = steering.awaited(connection, project, name, view.dossier.revision)
        return msgspec.structs.replace(view, verdict=held) if held else view

    found = await call.plane.database.reading(look)
    key = await asyncio.to_thread(call.plane.releases.public_key)
    return reply(msgspec.structs.replace(found, fingerprint=key.fingerprint))


async def _key(call: Call) -> Response:
    return reply(await asyncio.to_thread(call.plane.releases.public_key))


async def _golden(call: Call) -> Response:
    project, name = _whose(call)
    held = await call.plane.database.reading(lambda connection: releases.golden(connection, project, name))
    if held is None:
        raise NotFound(f"endpoint {name!r} holds no examples; give it some with `stoker golden set {name} FILE`")
    return reply(held)


async def _set_golden(call: Call) -> Response:
    project, name = _whose(call)
    text = (await decoded(call.request, GoldenBody)).digest
    if not is_digest(text):
        raise InvalidInput(f"{text!r} is not a digest; write sha256: and 64 hex digits", field="digest")
    digest = Digest(text)
    held = await asyncio.to_thread(_checked, call, digest)

    def put(connection: Connection) -> None:
        releases.set_golden(connection, project, name, held)
        because = f"{held.rows} examples are held against its revisions from now on"
        journal.add(connection, journal.Entry(held.set_at_s, "SetGolden", because, project, name, digest))

    await call.plane.database.writing(put)
    call.plane.releases.wake()
    return reply(held)


async def _remove_golden(call: Call) -> Response:
    project, name = _whose(call)

    def remove(connection: Connection) -> None:
        if not releases.remove_golden(connection, project, name):
            raise NotFound(f"endpoint {name!r} holds no examples")
        journal.add(connection, journal.Entry(time.time(), "RemoveGolden", "asked to", project, name))

    await call.plane.database.writing(remove)
    call.plane.releases.wake()
    return nothing()


def _checked(call: Call, digest: Digest) -> GoldenSet:
    """Return uploaded examples as an endpoint holds them; blocks. Raises NotFound, InvalidInput."""
    blobs = call.plane.models.blobs
    if not blobs.touch(digest) or not blobs.verify(digest):
        raise NotFound("no such blob; upload it first", field="digest")
    size_bytes = blobs.size(digest)
    if size_bytes > GOLDEN_BYTES_MAX:
        raise InvalidInput(f"it has {size_bytes} bytes; at most {GOLDEN_BYTES_MAX} are read", field="digest")
    try:
        rows = len(golden.read(blobs.path(digest).read_bytes()))
    except BadGolden as wrong:
        raise InvalidInput(str(wrong), field="digest") from wrong
    return GoldenSet(digest, rows, size_bytes, time.time())


def _whose(call: Call) -> tuple[str, str]:
    return call.request.path_params["project"], call.request.path_params["name"]


_ENDPOINT: Final = "/api/v1/projects/{project}/endpoints/{name}"
_GOLDEN: Final = _ENDPOINT + "/golden"

OPERATIONS: Final = (
    Operation(
        "GET",
        _ENDPOINT + "/releases",
        _releases,
        "Dossiers of an endpoint's revisions",
        "endpoints:read",
        answer=ReleaseList,
    ),
    Operation(
        "GET",
        _ENDPOINT + "/releases/{which}",
        _release,
        "The dossier of a revision by its number, or `latest`",
        "endpoints:read",
        answer=ReleaseView,
    ),
    Operation(
        "GET",
        "/api/v1/releases/key",
        _key,
        "The public key that signs dossiers",
        "endpoints:read",
        where="each",
        answer=PlatformKey,
    ),
    Operation(
        "GET",
        _GOLDEN,
        _golden,
        "The examples that an endpoint holds",
        "endpoints:read",
        answer=GoldenSet,
        audit="reads",
    ),
    Operation(
        "PUT",
        _GOLDEN,
        _set_golden,
        "Have an endpoint hold examples",
        "endpoints:write",
        body=GoldenBody,
        answer=GoldenSet,
    ),
    Operation("DELETE", _GOLDEN, _remove_golden, "Have an endpoint hold no examples", "endpoints:write", status=204),
)
