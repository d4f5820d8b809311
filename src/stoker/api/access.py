"""Operations on who may do what: projects with their members, roles, and subjects that leave."""

import time
from typing import Final

import msgspec
from starlette.responses import Response

from stoker.api.bodies import decoded, nothing, reply
from stoker.api.manifests import change_project
from stoker.api.operations import Call, Operation
from stoker.client.access import Ended
from stoker.control import issuing
from stoker.store import journal, keys, projects, roles, sessions
from stoker.store.engine import Connection
from stoker.types.access import EVERYWHERE, Member
from stoker.types.errors import InvalidInput, NotFound
from stoker.types.fields import Name
from stoker.types.resources import Project, Role


class RoleBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a member may do: viewer, caller, deployer, operator, owner, or a role of one's own."""

    role: Name


class RoleList(msgspec.Struct, frozen=True):
    """Roles by project and name."""

    items: list[Role]


async def _project(call: Call) -> Response:
    name = call.request.path_params["project"]
    found = await call.plane.database.reading(lambda connection: projects.find(connection, name))
    if found is None:
        raise NotFound(f"no project {name!r}")
    return reply(found)


async def _roles_of(call: Call) -> Response:
    found = await call.plane.database.reading(roles.everything)
    shown = (each for each in found if each.spec.all_projects or call.may("projects:read", each.metadata.project))
    return reply(RoleList(list(shown)))


async def _delete_role(call: Call) -> Response:
    project, name = call.request.path_params["project"], call.request.path_params["name"]

    def change(connection: Connection) -> None:
        gone = roles.remove(connection, project, name)
        if gone.spec.all_projects:
            call.require("projects:write", EVERYWHERE)
        journal.add(connection, journal.Entry(time.time(), "DeleteRole", call.because, project, subject=name))

    await call.plane.database.writing(change)
    call.plane.loop.wake()
    return nothing()


async def _set_member(call: Call) -> Response:
    body = await decoded(call.request, RoleBody)
    name, subject = call.request.path_params["project"], call.request.path_params["subject"]
    try:
        member = msgspec.convert({"subject": subject, "role": body.role}, Member)
    except msgspec.ValidationError as wrong:
        raise InvalidInput(f"{subject[:80]!r} with the role {body.role!r}: {wrong}") from wrong

    def wanted(project: Project) -> Project:
        others = tuple(each for each in project.spec.members if each.subject != subject)
        return _with_members(project, (*others, member))

    return reply(await change_project(call, name, wanted))


async def _remove_member(call: Call) -> Response:
    name, subject = call.request.path_params["project"], call.request.path_params["subject"]

    def wanted(project: Project) -> Project:
        others = tuple(each for each in project.spec.members if each.subject != subject)
        if others == project.spec.members:
            raise NotFound(f"{subject[:80]} is no member of project {name}")
        return _with_members(project, others)

    await change_project(call, name, wanted)
    await call.plane.published(issuing.PUBLISHED_WAIT_S)  # its keys work no more
    return nothing()


def _with_members(project: Project, members: tuple[Member, ...]) -> Project:
    return msgspec.structs.replace(project, spec=msgspec.structs.replace(project.spec, members=members))


async def _remove_subject(call: Call) -> Response:
    subject, now_s = call.request.path_params["subject"], time.time()

    def change(connection: Connection) -> Ended:
        left = []
        for row in projects.everything(connection):
            spec = row.resource.spec
            staying = tuple(each for each in spec.members if each.subject != subject)
            if staying != spec.members:
                left.append(row.name)
                kept = msgspec.structs.replace(row.resource, spec=msgspec.structs.replace(spec, members=staying))
                projects.put(connection, kept, now_s)
        gone, signed_in = keys.remove_of(connection, subject), sessions.remove_of(connection, subject=subject)
        if not left and not gone and not signed_in:
            raise NotFound(f"{subject!r} is no member of any project, and has no key and no session")
        because = (
            f"{subject} leaves: no member of {len(left)} projects, {len(gone)} keys and {signed_in} sessions end; "
            f"{call.because}"
        )
        journal.add(connection, journal.Entry(now_s, "RemoveSubject", because, subject=subject))
        for key in gone:
            journal.add(connection, journal.Entry(now_s, "RevokeKey", because, key.project, subject=key.id))
        return Ended(tuple(left), len(gone))

    ended = await call.plane.database.writing(change)
    await call.plane.published(issuing.PUBLISHED_WAIT_S)
    return reply(ended)


OPERATIONS: Final = (
    Operation("GET", "/api/v1/projects/{project}", _project, "A project as applied", "projects:read", answer=Project),
    Operation(
        "GET",
        "/api/v1/roles",
        _roles_of,
        "List the roles that projects made",
        "projects:read",
        where="each",
        answer=RoleList,
    ),
    Operation(
        "DELETE", "/api/v1/projects/{project}/roles/{name}", _delete_role, "Delete a role", "projects:write", status=204
    ),
    Operation(
        "PUT",
        "/api/v1/projects/{project}/members/{subject}",
        _set_member,
        "Make somebody a member, or give them another role; no other member changes",
        "projects:write",
        body=RoleBody,
        answer=Project,
    ),
    Operation(
        "DELETE",
        "/api/v1/projects/{project}/members/{subject}",
        _remove_member,
        "Make somebody no member any more; their keys of the project end",
        "projects:write",
        status=204,
    ),
    Operation(
        "DELETE",
        "/api/v1/subjects/{subject}",
        _remove_subject,
        "End everything somebody has: memberships and keys, in every project",
        "platform:write",
        where="platform",
        answer=Ended,
    ),
)
