"""Identity providers as they are applied and deleted, and as gateways are told of them."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from stoker.control import issuing
from stoker.control.issuing import Asker
from stoker.core import identity as rules
from stoker.core.access import Roles, allows, role
from stoker.protocol import manifest
from stoker.store import journal, projects, providers, roles, sessions
from stoker.store.engine import Connection
from stoker.store.providers import Published
from stoker.store.roles import Rights
from stoker.types.access import EVERYWHERE, Grant, Member
from stoker.types.errors import Conflict, InvalidInput
from stoker.types.identity import KEYS_KEPT_S, ClaimGrant, GrantRoute, IdentityProviderSpec, ProviderRoute
from stoker.types.resources import IdentityProvider
from stoker.types.units import parse_seconds

HOUR_S: Final = 3600.0  # when keys were fetched is told by the hour, so that a fetch alone makes no new route table


def apply(
    connection: Connection, given: IdentityProvider, by: Asker, now_s: float
) -> tuple[IdentityProvider | None, Sequence[manifest.Change]]:
    """Store a provider; return what was there before, and what changed.

    Raises InvalidInput, Conflict, or Forbidden: nobody gives by a claim more than they have.
    """
    name, spec = given.metadata.name, given.spec
    old = providers.find(connection, name)
    changes = manifest.diff(old, given)
    if not changes:
        return old, changes
    if old is not None and (old.spec.issuer, old.spec.subjects) != (spec.issuer, spec.subjects):
        raise InvalidInput(
            f"{name} is {old.spec.issuer}, and its {old.spec.subjects}s are members under that name: another issuer's "
            "would be taken for them; delete it, or choose another name",
            field="spec.issuer",
        )
    for other in providers.everything(connection):
        shared = _meant(other.spec) & _meant(spec)
        if other.metadata.name != name and other.spec.issuer == spec.issuer and shared:
            raise Conflict(
                f"{other.metadata.name} takes the tokens of {spec.issuer} for {min(shared)}", field="spec.audiences"
            )
    known, before = roles.known(connection), old.spec.grants if old is not None else ()
    for at, grant in enumerate(spec.grants):
        if grant not in before:
            _check_grant(f"spec.grants[{at}]", grant, known, by)
    providers.put(connection, given, now_s)
    paths = "" if old is None else f", changed: {', '.join(change.path for change in changes)}"
    journal.add(connection, journal.Entry(now_s, "ApplyIdentityProvider", f"{by.because}{paths}", subject=name))
    return old, changes


def _meant(spec: IdentityProviderSpec) -> set[str]:
    return {*spec.audiences, spec.client_id, spec.cli_client_id} - {""}


def _check_grant(field: str, grant: ClaimGrant, known: Roles, by: Asker) -> None:
    where = EVERYWHERE if grant.everywhere else grant.project
    says = role(grant.role, where, known)
    if says is None:
        raise InvalidInput(issuing.no_role(grant.role), field=f"{field}.role")
    issuing.may_define(where, says, by)


def delete(connection: Connection, name: str, because: str, now_s: float) -> None:
    """Delete a provider and end its sessions. Raises NotFound, or Conflict while projects have members of it.

    A later provider of that name would be believed about them.
    """
    gone = providers.remove(connection, name)
    prefix = f"{gone.spec.subjects}:{name}:"
    having = [
        row.name
        for row in projects.everything(connection)
        if any(each.subject.startswith(prefix) for each in row.resource.spec.members)
    ]
    if having:
        raise Conflict(f"projects have members of it: {', '.join(having[:10])}; `stoker members remove` them first")
    ended = sessions.remove_of(connection, provider=name)
    because = f"{because}; {ended} sessions end"
    journal.add(connection, journal.Entry(now_s, "DeleteIdentityProvider", because, subject=name))


def standing(
    rights: Rights, provider: IdentityProvider | None, subject: str, email: str, claims: dict[str, object]
) -> tuple[Grant, ...]:
    """Return what somebody may do now, whatever they might when their token or session began."""
    if provider is None:
        return ()
    domains = provider.spec.email_domains
    if domains and email.rpartition("@")[2] not in domains:
        return ()
    return rules.grants(subject, claims, provider.spec.grants, rights.members, rights.roles)


def routes(connection: Connection, rights: Rights, unsampled: Iterable[tuple[str, str]]) -> tuple[ProviderRoute, ...]:
    """Return providers as gateways are told of them: those whose keys are known."""
    published = providers.published(connection)
    return tuple(
        _route(each, published[each.metadata.name], rights, tuple(sorted(f"{a}/{b}" for a, b in unsampled)))
        for each in providers.everything(connection)
        if each.metadata.name in published and published[each.metadata.name].issuer == each.spec.issuer
    )


def _route(
    provider: IdentityProvider, published: Published, rights: Rights, unsampled: tuple[str, ...]
) -> ProviderRoute:
    spec, name = provider.spec, provider.metadata.name
    prefix = f"{spec.subjects}:{name}:"
    callers: dict[str, list[str]] = {}
    for project, members in sorted(rights.members.items()):
        for member in members:
            if member.subject.startswith(prefix) and _calls(member, project, rights.roles):
                callers.setdefault(member.subject, []).append(project)
    return ProviderRoute(
        name,
        spec.issuer,
        spec.audiences,
        spec.algorithms,
        spec.subjects,
        published.keys,
        keys_until_s=published.fetched_at_s // HOUR_S * HOUR_S + KEYS_KEPT_S,
        skew_s=parse_seconds(spec.skew),
        email_domains=spec.email_domains,
        email_assumed=spec.email_verified == "assumed",
        grants=tuple(filter(None, (_grant(each, rights) for each in spec.grants))),
        members={subject: tuple(dict.fromkeys(where)) for subject, where in callers.items()},
        limits=spec.limits,
        unsampled=unsampled,
    )


def _calls(member: Member, project: str, known: Roles) -> bool:
    return "endpoints:call" in (role(member.role, project, known) or ())


def _grant(grant: ClaimGrant, rights: Rights) -> GrantRoute | None:
    where = EVERYWHERE if grant.everywhere else grant.project
    if where != EVERYWHERE and where not in rights.members:
        return None
    says = role(grant.role, where, rights.roles) or frozenset()
    sees = allows(Grant(where, says), "metrics:read", EVERYWHERE)
    calls = "endpoints:call" in says
    return GrantRoute(grant.claim, grant.value, where if calls else "", sees=sees) if calls or sees else None


def encoded(claims: dict[str, object]) -> str:
    """Return claims as they are stored."""
    return msgspec.json.encode(claims).decode()
