"""Keys under authority: nobody makes, turns over or gives away more than they have themselves."""

from collections.abc import Sequence
from typing import Final

import msgspec

from stoker.control import allowances
from stoker.control.keys import another, digest, make
from stoker.core.access import ROLES, Roles, beyond, decide, granted, role
from stoker.store import journal, keys, projects, roles
from stoker.store.engine import Connection
from stoker.store.keys import KeyRow
from stoker.types.access import EVERYTHING, EVERYWHERE, OF_ENDPOINTS, USUAL, Grant, KeyAccess, Member, Permission
from stoker.types.errors import Forbidden, InvalidInput, NotFound
from stoker.types.keys import UNLIMITED, KeyLimits

PUBLISHED_WAIT_S: Final = 2.0  # a key works, or works no more, when its caller hears so


class Asker(msgspec.Struct, frozen=True):
    """Who asks: what they may do, the id of their key, and why, for the journal."""

    grant: Grant
    key: str
    because: str


PLATFORM: Final = Asker(EVERYTHING, "", "asked to")  # its own user, over the socket


class Wish(msgspec.Struct, frozen=True):
    """A key to make."""

    project: str
    name: str
    expires_at_s: float
    limits: KeyLimits = UNLIMITED
    access: KeyAccess = USUAL
    subject: str = ""


def create(connection: Connection, asker: Asker, wish: Wish, now_s: float) -> tuple[str, KeyRow]:
    """Store a new key; return its text and row. Raises Forbidden, NotFound, InvalidInput or Conflict."""
    where = EVERYWHERE if wish.access.everywhere else wish.project
    _require(asker, "keys:write", where, f"no project {wish.project!r} that this key may see")
    found = projects.find(connection, wish.project)
    if found is None:
        raise NotFound(f"no project {wish.project!r}; apply it first", field="project")
    known = roles.known(connection)
    _check(wish, found.spec.members, known)
    asked = granted(wish.access, wish.project, wish.subject, found.spec.members, known)
    _refuse_more(asked, asker)
    text, row = make(
        wish.project,
        wish.name,
        expires_at_s=wish.expires_at_s,
        now_s=now_s,
        limits=wish.limits,
        access=wish.access,
        subject=wish.subject,
    )
    allowances.admit_key(connection, wish.project, now_s)
    keys.add(connection, row)
    journal.add(connection, journal.Entry(now_s, "CreateKey", asker.because, row.project, subject=row.id))
    return text, row


def rotate(connection: Connection, asker: Asker, key_id: str, overlap_s: float, now_s: float) -> tuple[str, KeyRow]:
    """Give a key another secret; return its new text and row.

    The one before works on for `overlap_s`; one from an earlier rotation ends now. Raises NotFound or Forbidden: who
    turns a key over has it, so they must have what it can do.
    """
    row = held(connection, asker, "keys:write", key_id)
    _refuse_more(roles.grant(connection, row), asker)
    text = another(row.id)
    made = keys.rotate(connection, row.id, digest(text), now_s + overlap_s)
    because = f"{asker.because}; the secret before works for {overlap_s:g} s"
    journal.add(connection, journal.Entry(now_s, "RotateKey", because, row.project, subject=row.id))
    return text, made


def held(connection: Connection, asker: Asker, permission: Permission, key_id: str) -> KeyRow:
    """Return a key that the asker has that permission for. Raises NotFound, for one of others too, or Forbidden."""
    row = keys.find(connection, key_id)
    if row is None:
        raise NotFound(f"no key {key_id!r}")
    _require(asker, permission, place(row), f"no key {key_id!r}")
    return row


def place(row: KeyRow) -> str:
    """Return the project that a key belongs to, EVERYWHERE for one that holds in all."""
    return EVERYWHERE if row.access.everywhere else str(row.project)


def expel(connection: Connection, subject: str, project: str, because: str, now_s: float) -> int:
    """End every key that a subject has in a project; return how many."""
    gone = keys.remove_of(connection, subject, project)
    for row in gone:
        reason = f"{subject} is no member any more; {because}"
        journal.add(connection, journal.Entry(now_s, "RevokeKey", reason, row.project, subject=row.id))
    return len(gone)


def may_name(members: Sequence[Member], before: Sequence[Member], project: str, known: Roles, asker: Asker) -> None:
    """Raise InvalidInput or Forbidden unless the asker may give the members that are new their roles."""
    for at, member in enumerate(members):
        if member in before:
            continue
        says = role(member.role, project, known)
        if says is None:
            raise InvalidInput(no_role(member.role), field=f"spec.members[{at}].role")
        _refuse_more(Grant(project, says), asker)


def may_define(project: str, permissions: frozenset[Permission], asker: Asker) -> None:
    """Raise Forbidden unless the asker has what a role says."""
    _refuse_more(Grant(project, permissions), asker)


def require_platform(asker: Asker, field: str) -> None:
    """Raise Forbidden unless the asker may change what bounds a project, which its own owner may not."""
    if decide(asker.grant, "projects:write", EVERYWHERE) != "allowed":
        raise Forbidden(
            f"{field} is changed by who has projects:write everywhere; key {asker.key} has not", field=field
        )


def no_role(name: str) -> str:
    """Return what is said of a role that is none."""
    return f"no role {name!r}; there are {', '.join(ROLES)}, and the project's own"


def _check(wish: Wish, members: Sequence[Member], known: Roles) -> None:
    where = EVERYWHERE if wish.access.everywhere else wish.project
    if wish.access.role and role(wish.access.role, where, known) is None:
        raise InvalidInput(no_role(wish.access.role), field="access.role")
    if not wish.access.role and not wish.access.permissions:
        raise InvalidInput("a key needs a role or permissions", field="access")
    if wish.access.endpoints:
        wrong = sorted(set(wish.access.permissions) - OF_ENDPOINTS)
        if wrong and wish.access.permissions != USUAL.permissions:
            raise InvalidInput(f"{wrong[0]} cannot be had for some endpoints only", field="access.permissions")
    is_member = any(member.subject == wish.subject for member in members)
    if wish.subject and not wish.access.everywhere and not is_member:
        raise InvalidInput(f"{wish.subject} is no member of project {wish.project!r}; add it first", field="subject")


def _refuse_more(asked: Grant, asker: Asker) -> None:
    more = beyond(asked, asker.grant)
    if more:
        raise Forbidden(f"key {asker.key} cannot give what it does not have: {', '.join(more)}")


def _require(asker: Asker, permission: Permission, project: str, hidden: str) -> None:
    match decide(asker.grant, permission, project):
        case "hidden":
            raise NotFound(hidden)
        case "forbidden":
            where = "everywhere" if project == EVERYWHERE else f"in project {project!r}"
            raise Forbidden(f"this needs the permission {permission} {where}; key {asker.key} does not have it")
