"""Operations on samples: who reads what clients sent leaves a line in the journal."""

import asyncio
import logging
import time
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.responses import Response

from stoker.api.bodies import decoded, nothing, number, reply
from stoker.api.lines import LINES, lines
from stoker.api.operations import Call, Operation, Parameter
from stoker.control.replay import Replay
from stoker.core.sampling import REASONS
from stoker.observe.samples import LIMIT_MAX, Wanted
from stoker.store import journal
from stoker.store.engine import Connection
from stoker.telemetry.sealing import Unreadable
from stoker.types.errors import InvalidInput, NotFound, Unavailable
from stoker.types.ids import NAME_PATTERN
from stoker.types.samples import Rotated, SampleRecord

LIMIT_USUAL: Final = 50

log = logging.getLogger(__name__)


class SampleList(msgspec.Struct, frozen=True):
    """Samples of one endpoint, newest first."""

    items: list[SampleRecord]


class ReplayBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which samples are sent to which two revisions, by number or name.

    before: who is compared with; without it the one that serves.
    rate: samples a second, at most; 0: as fast as they are answered.
    """

    after: str
    before: str = ""
    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)] = 100
    since: float = 0.0
    reasons: tuple[str, ...] = ()
    tenant: str = ""
    key: str = ""
    rate: Annotated[float, Meta(ge=0)] = 0.0


class SampleKeysBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose keys: a project's; "": of all, and the master key that wraps them."""

    project: Annotated[str, Meta(pattern=f"{NAME_PATTERN}|^$")] = ""


async def _samples(call: Call) -> Response:
    project, name = call.request.path_params["project"], call.request.path_params["name"]
    query = call.request.query_params
    reasons = tuple(filter(None, query.get("reason", "").split(",")))
    if unknown := set(reasons) - set(REASONS):
        raise InvalidInput(f"{min(unknown)!r} is no reason; there are {', '.join(REASONS)}", field="reason")
    wanted = Wanted(
        limit=int(number(call.request, "limit", LIMIT_USUAL, 1, LIMIT_MAX)),
        since_s=number(call.request, "since", 0, 0, 1e12),
        reasons=reasons,
        tenant=query.get("tenant", ""),
        key=query.get("key", ""),
        id=query.get("id", ""),
    )
    try:
        found = await asyncio.to_thread(call.plane.samples.read, project, name, wanted, time.time())
    except (OSError, Unreadable) as wrong:
        raise Unavailable(f"the samples of {project}/{name} cannot be read: {wrong}") from wrong
    await _note(call, "ReadSamples", f"{len(found)} samples")
    return reply(SampleList(found))


async def _replay(call: Call) -> Response:
    project, name = call.request.path_params["project"], call.request.path_params["name"]
    body = await decoded(call.request, ReplayBody)
    if unknown := set(body.reasons) - set(REASONS):
        raise InvalidInput(f"{min(unknown)!r} is no reason; there are {', '.join(REASONS)}", field="reasons")
    wanted = Wanted(body.limit, body.since, body.reasons, body.tenant, body.key)
    asked = Replay(body.after, wanted, body.before, body.rate)
    await _note(call, "ReplaySamples", f"up to {body.limit} samples to revision {body.after}")
    return await lines(call.plane.replayer.run(project, name, asked))


async def _delete_samples(call: Call) -> Response:
    project, name = call.request.path_params["project"], call.request.path_params["name"]
    try:
        count = await asyncio.to_thread(call.plane.samples.delete, project, name)
    except OSError as wrong:
        raise Unavailable(f"the samples of {project}/{name} cannot be deleted: {wrong}") from wrong
    await _note(call, "DeleteSamples", f"{count} files")
    return nothing()


async def _forget(call: Call) -> Response:
    project = call.request.path_params["project"]
    try:
        count = await asyncio.to_thread(call.plane.samples.forget, project)
    except (OSError, Unreadable) as wrong:
        raise Unavailable(f"the samples of {project} cannot be forgotten: {wrong}") from wrong
    await _note(call, "ForgetSamples", f"the project's keys, and {count} files")
    return nothing()


async def _rotate(call: Call) -> Response:
    body = await decoded(call.request, SampleKeysBody)
    try:
        found = await asyncio.to_thread(call.plane.samples.rotate, body.project)
    except FileNotFoundError:
        raise NotFound(f"project {body.project!r} keeps no samples, so it has no keys", field="project") from None
    except (OSError, Unreadable) as wrong:
        raise Unavailable(f"the keys of samples cannot be rotated: {wrong}") from wrong
    await _note(call, "RotateSampleKeys", ", ".join(found.rotated) or "none")
    return reply(found)


async def _note(call: Call, action: str, what: str) -> None:
    """Write down who did it; before the answer, so that nothing is read unseen."""
    project, name = (call.request.path_params.get(each, "") for each in ("project", "name"))
    key = call.key.id if call.key is not None else ""

    def add(connection: Connection) -> None:
        because = f"asked to by key {key}: {what}"
        journal.add(connection, journal.Entry(time.time(), action, because, project, name))

    await call.plane.database.writing(add)
    log.info("samples", extra={"action": action, "project": project, "endpoint": name, "key": key, "what": what})


_WHERE: Final = "/api/v1/projects/{project}/endpoints/{name}/samples"

OPERATIONS: Final = (
    Operation(
        "GET",
        _WHERE,
        _samples,
        "Sampled requests with their answers, newest first; the journal notes who asked",
        "samples:read",
        answer=SampleList,
        query=(
            Parameter("limit", int, f"how many at most, up to {LIMIT_MAX}; by default {LIMIT_USUAL}"),
            Parameter("since", float, "only those that came after this unix time"),
            Parameter("reason", str, f"only those kept for one of these: {', '.join(REASONS)}"),
            Parameter("tenant", str, "only this tenant's"),
            Parameter("key", str, "only those of this key, by its id"),
            Parameter("id", str, "only those whose request id begins so"),
        ),
        audit="reads",
    ),
    Operation(
        "POST",
        _WHERE + "/replay",
        _replay,
        "Send sampled requests to two revisions past the gateways; lines of JSON say how far the answers agree",
        "samples:write",
        body=ReplayBody,
        media=LINES,
        audit="begins",
    ),
    Operation(
        "DELETE",
        _WHERE,
        _delete_samples,
        "Delete every sample of an endpoint",
        "samples:write",
        status=204,
        audit="begins",
    ),
    Operation(
        "DELETE",
        "/api/v1/projects/{project}/samples",
        _forget,
        "Destroy the keys of a project's samples, so that no copy of them can be read, and delete them",
        "samples:write",
        status=204,
        audit="begins",
    ),
    Operation(
        "POST",
        "/api/v1/samples/rotate",
        _rotate,
        "Seal samples with new keys from now on; those that were kept stay readable",
        "platform:write",
        "platform",
        body=SampleKeysBody,
        answer=Rotated,
        audit="begins",
    ),
)
