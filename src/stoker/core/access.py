"""Who may do what: one table of roles, and one function that API, gateway and every list ask.

A grant is what a key comes to: permissions in one project, or everywhere (docs/explanation/threat-model.md).
"""

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final, Literal

from stoker.types.access import EVERYWHERE, OF_ENDPOINTS, PERMISSIONS, Grant, KeyAccess, Member, Permission

Decision = Literal["allowed", "forbidden", "hidden"]
Roles = Mapping[tuple[str, str], frozenset[Permission]]  # by project and name; EVERYWHERE: of all projects

_VIEWER: Final[frozenset[Permission]] = frozenset(
    (
        "endpoints:read",
        "models:read",
        "traces:read",
        "metrics:read",
        "usage:read",
        "incidents:read",
        "policies:read",
        "projects:read",
        "platform:read",
    )
)
_DEPLOYER: Final[frozenset[Permission]] = frozenset(
    (*_VIEWER, "endpoints:call", "endpoints:write", "models:push", "releases:decide")
)
_OPERATOR: Final[frozenset[Permission]] = frozenset(
    (
        *_DEPLOYER,
        "samples:read",
        "samples:write",
        "incidents:write",
        "gamedays:run",
        "logs:read",
        "audit:read",
        "secrets:read",
        "keys:read",
    )
)
# platform:… means something only to who has the role everywhere.
ROLES: Final[Mapping[str, frozenset[Permission]]] = {
    "viewer": _VIEWER,
    "caller": frozenset(("endpoints:call",)),
    "deployer": _DEPLOYER,
    "operator": _OPERATOR,
    "owner": frozenset(PERMISSIONS),
}


def role(name: str, project: str, roles: Roles) -> frozenset[Permission] | None:
    """Return what a role says in a project; None where there is no such role. Nobody can redefine those of `ROLES`."""
    found = ROLES.get(name)
    if found is None:
        found = roles.get((project, name))
    return found if found is not None else roles.get((EVERYWHERE, name))


def granted(
    access: KeyAccess, project: str, subject: str = "", members: Iterable[Member] = (), roles: Roles | None = None
) -> Grant:
    """Return what a key of `project` comes to.

    A role that is no more says nothing. The key of a subject can do what the subject's roles in the project say, at
    the most: who is no member of it any more can do nothing. Everywhere there are no members.
    """
    known = roles or {}
    where = EVERYWHERE if access.everywhere else project
    given = frozenset(access.permissions) | (role(access.role, where, known) or frozenset())
    if subject and not access.everywhere:
        own = [role(each.role, project, known) or frozenset() for each in members if each.subject == subject]
        given &= frozenset().union(*own)
    if access.endpoints:
        given &= OF_ENDPOINTS
    return Grant(where, given, access.endpoints)


def decide(grant: Grant, permission: Permission, project: str, endpoint: str = "") -> Decision:
    """Return whether a grant allows something in `project` (EVERYWHERE: for the platform), of an endpoint or not.

    hidden: it sees nothing there, so it must not learn what is there. It depends on the grant and on names alone,
    never on what exists. Of several grants the one that allows most says.
    """
    found = _decide(grant, permission, project, endpoint)
    for other in grant.others:
        if found == "allowed":
            break
        says = _decide(other, permission, project, endpoint)
        if says != "hidden":
            found = says
    return found


def _decide(grant: Grant, permission: Permission, project: str, endpoint: str) -> Decision:
    if grant.project not in (EVERYWHERE, project):
        return "forbidden" if project == EVERYWHERE else "hidden"
    if endpoint and not reaches(grant, endpoint):
        return "hidden"
    if permission in grant.permissions and (endpoint or not grant.endpoints):
        return "allowed"
    return "forbidden"


def foremost(grants: Iterable[Grant], wanted: Collection[Permission], project: str) -> Grant:
    """Return several grants as one, for a request that needs one of `wanted`; with none of them: no permission at all.

    Lists that show one project show the first grant's: one that has what is wanted, everywhere before `project`
    before others, so that nothing is shown by what holds elsewhere.
    """
    given = sorted(
        grants,
        key=lambda each: (not each.permissions.intersection(wanted), not each.is_everywhere, each.project != project),
    )
    if not given:
        return Grant(project, frozenset())
    first, *rest = given
    return Grant(first.project, first.permissions, first.endpoints, tuple(rest))


def allows(grant: Grant, permission: Permission, project: str, endpoint: str = "") -> bool:
    """Return whether `decide` says so."""
    return decide(grant, permission, project, endpoint) == "allowed"


def reaches(grant: Grant, endpoint: str) -> bool:
    """Return whether an endpoint of that name is one of those that the grant is for."""
    return not grant.endpoints or matches(endpoint, grant.endpoints)


def matches(endpoint: str, patterns: Iterable[str]) -> bool:
    """Return whether some pattern means the name."""
    return any(fnmatchcase(endpoint, pattern) for pattern in patterns)


def beyond(asked: Grant, own: Grant) -> Collection[Permission]:
    """Return what of `asked` is more than who gives it has, sorted: nobody gives more than they have.

    Patterns are compared as they are written: a key for some endpoints gives keys for the same ones.
    """
    left = asked.permissions
    for each in (own, *own.others):
        is_wider = each.project not in (EVERYWHERE, asked.project)
        if each.endpoints and not (asked.endpoints and set(asked.endpoints) <= set(each.endpoints)):
            is_wider = True
        if not is_wider:
            left -= each.permissions
    return sorted(left)
