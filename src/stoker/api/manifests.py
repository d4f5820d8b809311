"""Operations on what people ask for: apply, endpoints, projects."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Final, assert_never

import msgspec
from msgspec import Meta
from starlette.responses import Response

from stoker.api import conditional
from stoker.api.bodies import MANIFEST_BYTES_MAX, decoded, flag, nothing, read, reply
from stoker.api.operations import Call, Operation, Parameter
from stoker.api.queries import NAME
from stoker.client.endpoints import EndpointWritten
from stoker.client.views import ApplyResult, EndpointDetail, ProjectView
from stoker.control import allowances, specs, ways_back
from stoker.control.changes import Change, applied
from stoker.control.issuing import Asker
from stoker.control.policies import Denied, Made
from stoker.control.views import endpoint_detail, endpoint_view
from stoker.core.world import capacity
from stoker.protocol import manifest
from stoker.store import endpoints, journal, projects
from stoker.store.engine import Connection
from stoker.telemetry.sealing import Unreadable
from stoker.types.access import EVERYWHERE
from stoker.types.errors import InvalidInput, NotFound
from stoker.types.resources import Budget, Endpoint, IdentityProvider, Notifier, Policy, Project, Resource, Role
from stoker.types.statuses import EndpointView

NUMBER_MAX: Final = 999_999_999  # of a revision
log = logging.getLogger(__name__)

ACTED_WAIT_S: Final = 2.0  # for the first decision, so that an answer shows the revision


class ApplyAnswer(msgspec.Struct, frozen=True):
    """What applying did, in the manifest's order but projects first."""

    results: list[ApplyResult]


class EndpointList(msgspec.Struct, frozen=True):
    """Endpoints by project and name."""

    items: list[EndpointView]


class ProjectList(msgspec.Struct, frozen=True):
    """Projects by name."""

    items: list[ProjectView]


class RollbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which revision to return to; null: the one before."""

    to: Annotated[int, Meta(ge=1, le=NUMBER_MAX)] | None = None


async def _apply(call: Call) -> Response:
    body = await read(call.request, MANIFEST_BYTES_MAX)
    dry_run = flag(call.request, "dry_run")
    frozen, insists = call.plane.watch.frozen, flag(call.request, "over_budget")
    nodes = [capacity(each) for each in call.plane.observer.nodes()]
    resources = await asyncio.to_thread(manifest.load, body)
    if not resources:
        raise InvalidInput("no resource in it")

    for each in resources:
        _require(call, each)
    asker = Asker(call.grant, call.caller, call.because)

    def change(connection: Connection) -> tuple[list[ApplyResult], list[Change]]:
        _check_each(call, connection, resources)
        apply = partial(
            specs.apply, connection, resources, time.time(), frozen,
            insists=insists, by=asker, nodes=nodes, rules=call.plane.secrets.rules,
        )  # fmt: skip
        return applied(connection, resources, apply)

    try:
        await _check_policies(call, resources)
        made = await call.plane.admission.make(change, call.actor, is_trial=dry_run)
    except specs.Refusal as refused:
        raise _located(body, refused) from refused
    except Denied as denied:
        raise _placed(body, denied) from denied
    if not dry_run:
        call.plane.loop.wake()
        if any(isinstance(each, IdentityProvider) for each in resources):
            call.plane.sign_in.providers.wake()
    return reply(ApplyAnswer([_with_warnings(result, made) for result in made.value]))


def _check_each(call: Call, connection: Connection, resources: Sequence[Resource]) -> None:
    """Raise PreconditionFailed unless each endpoint is what the caller saw, where they say what they saw."""
    if "if-match" not in call.request.headers:
        return
    for each in resources:
        if isinstance(each, Endpoint):
            project, name = each.metadata.project, each.metadata.name
            state = endpoints.find(connection, project, name, is_locked=True)
            conditional.check(call.request, state, f"{project}/{name}")


async def change_project(call: Call, name: str, wanted: Callable[[Project], Project]) -> Project:
    """Apply what `wanted` makes of a project as it is at that moment, and return it. Raises NotFound, and what apply
    does: of two changes at once none is lost, because each is read and written in one transaction.
    """
    asker = Asker(call.grant, call.caller, call.because)

    def change(connection: Connection) -> tuple[Project, list[Change]]:
        found = projects.find(connection, name)
        if found is None:
            raise NotFound(f"no project {name!r}")
        project = wanted(found)
        flaws = manifest.check(project)
        if flaws:
            raise InvalidInput(flaws[0].message, field=flaws[0].field)
        _, changes = applied(connection, [project], partial(specs.apply, connection, [project], time.time(), by=asker))
        return project, changes

    made = await call.plane.admission.make(change, call.actor)
    call.plane.loop.wake()
    return made.value


def _require(call: Call, resource: Resource) -> None:
    """Raise NotFound or Forbidden unless the caller may write the resource where it is, and everywhere it holds."""
    match resource:
        case Project():
            call.require("projects:write", resource.metadata.name)
        case Endpoint():
            call.require("endpoints:write", resource.metadata.project, resource.metadata.name)
        case Notifier():
            call.require("incidents:write", resource.metadata.project)
        case Policy():
            call.require("policies:write", EVERYWHERE if resource.spec.all_projects else resource.metadata.project)
        case Role():
            call.require("projects:write", EVERYWHERE if resource.spec.all_projects else resource.metadata.project)
        case Budget():
            call.require("projects:write", resource.metadata.project)
        case IdentityProvider():
            call.require("platform:write", EVERYWHERE)
        case _:
            assert_never(resource)


async def _check_policies(call: Call, resources: Sequence[Resource]) -> None:
    """Raise Refusal with everything that is wrong with the expressions of the policies among `resources`."""
    given = [each for each in resources if isinstance(each, Policy)]
    if not given:
        return
    problems = [
        specs.Wrong("Policy", each.metadata.project, each.metadata.name, field, f"{each.metadata.name}: {message}")
        for each, flaws in zip(given, await call.plane.admission.check(given), strict=True)
        for field, message in flaws
    ]
    if problems:
        raise specs.Refusal(problems)


def _with_warnings(result: ApplyResult, made: Made[list[ApplyResult]]) -> ApplyResult:
    return msgspec.structs.replace(
        result, warnings=(*result.warnings, *made.warnings(result.kind, result.project, result.name))
    )


def _located(body: bytes, refused: specs.Refusal) -> manifest.ManifestError:
    """Return `refused` with the line of each problem; what is wrong elsewhere, because of this, has line 0."""
    problems = [
        manifest.Problem(_line(body, wrong.kind, wrong.project, wrong.name, wrong.field), wrong.field, wrong.message)
        for wrong in refused.problems
    ]
    return manifest.ManifestError(sorted(problems, key=lambda problem: problem.line))


def _placed(body: bytes, denied: Denied) -> Denied:
    """Return `denied` with the lines of what it is about."""
    for change, verdict in denied.denials:
        line = _line(body, change.kind, change.project, change.name, verdict.field or "spec")
        denied.lines.append(line)
    return denied


def _line(body: bytes, kind: str, project: str, name: str, field: str) -> int:
    if b"\n" not in body.strip():
        return 0  # a program's JSON: its one line says nothing
    return manifest.line_of_field(body, (kind, "" if kind in ("Project", "IdentityProvider") else project, name), field)


async def _endpoints(call: Call) -> Response:
    project = call.request.query_params.get("project")
    found = await call.plane.database.reading(lambda connection: endpoints.everything(connection, project))
    found = [each for each in found if call.may("endpoints:read", each.project, each.name)]
    observer, table = call.plane.observer, call.plane.routes.table
    return reply(EndpointList([endpoint_view(state, observer, table) for state in found]))


async def _endpoint(call: Call) -> Response:
    tag, detail = await _detail(call)
    return reply(detail, headers={"etag": tag})


async def _put_endpoint(call: Call) -> Response:
    project, name = call.request.path_params["project"], call.request.path_params["name"]
    resources = await asyncio.to_thread(manifest.load, await read(call.request, MANIFEST_BYTES_MAX))
    given = resources[0]
    if len(resources) != 1 or not isinstance(given, Endpoint):
        raise InvalidInput("expected one Endpoint", field="kind")
    if (given.metadata.project, given.metadata.name) != (project, name):
        raise InvalidInput(
            f"the path says {project}/{name}, the body {given.metadata.project}/{given.metadata.name}",
            field="metadata.name",
        )
    frozen, insists = call.plane.watch.frozen, flag(call.request, "over_budget")
    nodes = [capacity(each) for each in call.plane.observer.nodes()]

    def change(connection: Connection) -> tuple[list[ApplyResult], list[Change]]:
        conditional.check(call.request, endpoints.find(connection, project, name, is_locked=True), f"{project}/{name}")
        rules = call.plane.secrets.rules
        apply = partial(
            specs.apply, connection, [given], time.time(), frozen, insists=insists, nodes=nodes, rules=rules
        )
        return applied(connection, [given], apply)

    made = await call.plane.admission.make(change, call.actor)
    result = _with_warnings(made.value[0], made)
    await call.plane.loop.turned(ACTED_WAIT_S)
    tag, detail = await _detail(call)
    fields = {name: getattr(detail, name) for name in detail.__struct_fields__}
    status = 201 if result.action == "created" else 200
    return reply(EndpointWritten(**fields, applied=result), status, {"etag": tag})


async def _delete_endpoint(call: Call) -> Response:
    project, name = call.request.path_params["project"], call.request.path_params["name"]

    def change(connection: Connection) -> tuple[None, list[Change]]:
        old = endpoints.get(connection, project, name).resource
        specs.delete(connection, project, name, time.time())
        return None, [Change("delete", None, old)]

    await call.plane.admission.make(change, call.actor)
    call.plane.loop.wake()
    return nothing(202)


async def _rollback(call: Call) -> Response:
    project, name = call.request.path_params["project"], call.request.path_params["name"]
    body = await decoded(call.request, RollbackBody)
    await call.plane.loop.turned(ACTED_WAIT_S)  # "the one before" is told from what was asked for last
    await call.plane.database.writing(
        lambda connection: ways_back.rollback(connection, project, name, body.to, time.time())
    )
    await call.plane.loop.turned(ACTED_WAIT_S)
    state = await call.plane.database.reading(lambda connection: endpoints.get(connection, project, name))
    return reply(endpoint_view(state, call.plane.observer, call.plane.routes.table))


async def _projects(call: Call) -> Response:
    def read(connection: Connection) -> list[ProjectView]:
        return [
            ProjectView(
                row.name,
                row.resource.spec.description,
                row.endpoints,
                row.created_at_s,
                allowances.uses(connection, row.name),
            )
            for row in projects.everything(connection)
            if call.may("projects:read", row.name)
        ]

    return reply(ProjectList(await call.plane.database.reading(read)))


async def _delete_project(call: Call) -> Response:
    name = call.request.path_params["project"]

    def change(connection: Connection) -> tuple[None, list[Change]]:
        old = projects.find(connection, name)
        projects.remove(connection, name)
        journal.add(connection, journal.Entry(time.time(), "DeleteProject", "asked to", name))
        return None, [Change("delete", None, old)]

    await call.plane.admission.make(change, call.actor)
    try:
        await asyncio.to_thread(call.plane.samples.forget, name)
    except (OSError, Unreadable):  # the chores do it
        log.exception("the samples of a deleted project could not be forgotten; it is tried again")
    return nothing()


async def _detail(call: Call) -> tuple[str, EndpointDetail]:
    """Return an endpoint with its tag. Raises NotFound."""
    project, name = call.request.path_params["project"], call.request.path_params["name"]
    observer, folders, table = call.plane.observer, call.plane.loop.folders, call.plane.routes.table

    def look(connection: Connection) -> tuple[str, EndpointDetail]:
        # The tag first: where the two are not of one moment, the next If-Match fails, and loses nothing.
        tag = conditional.tag(endpoints.get(connection, project, name))
        return tag, endpoint_detail(connection, observer, folders, table, project, name)

    return await call.plane.database.reading(look)


_OVER: Final = Parameter("over_budget", bool, "roll out though the policy of an error budget freezes it")
_ENDPOINT: Final = "/api/v1/projects/{project}/endpoints/{name}"

OPERATIONS: Final = (
    Operation(
        "POST",
        "/api/v1/apply",
        _apply,
        "Store resources from a manifest, all or none",
        ("endpoints:write", "projects:write", "incidents:write", "policies:write", "platform:write"),
        where="each",
        body="application/yaml",
        answer=ApplyAnswer,
        query=(Parameter("dry_run", bool, "only say what would change"), _OVER),
        headers=(conditional.EACH_MATCHES,),
    ),
    Operation(
        "GET",
        "/api/v1/endpoints",
        _endpoints,
        "List endpoints",
        "endpoints:read",
        where="each",
        answer=EndpointList,
        query=(Parameter("project", str, "only those of this project", pattern=NAME),),
    ),
    Operation(
        "GET",
        _ENDPOINT,
        _endpoint,
        "An endpoint with revisions, replicas and decisions",
        "endpoints:read",
        answer=EndpointDetail,
        is_tagged=True,
    ),
    Operation(
        "PUT",
        _ENDPOINT,
        _put_endpoint,
        "Create or replace an endpoint",
        "endpoints:write",
        body=Endpoint,
        answer=EndpointWritten,
        also=201,
        query=(_OVER,),
        headers=conditional.HEADERS,
        is_tagged=True,
    ),
    Operation("DELETE", _ENDPOINT, _delete_endpoint, "Drain and remove an endpoint", "endpoints:write", status=202),
    Operation(
        "POST",
        _ENDPOINT + "/rollback",
        _rollback,
        "Return to an earlier revision",
        "releases:decide",
        body=RollbackBody,
        answer=EndpointView,
    ),
    Operation("GET", "/api/v1/projects", _projects, "List projects", "projects:read", where="each", answer=ProjectList),
    Operation(
        "DELETE", "/api/v1/projects/{project}", _delete_project, "Remove an empty project", "projects:write", status=204
    ),
)
