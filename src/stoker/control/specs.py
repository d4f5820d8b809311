"""What people ask for, written down: apply, rollback, delete. The loop acts on it; nothing here starts anything."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, assert_never

import msgspec

from stoker.client.views import ApplyResult, FieldChange
from stoker.control import allowances, chains, issuing, steering
from stoker.control.identity import providing
from stoker.control.issuing import PLATFORM, Asker
from stoker.control.secrets import refused_names
from stoker.core import place, slo
from stoker.core.capacity import Capacity
from stoker.core.refs import parse_ref
from stoker.core.revisions import ServingConfig, Unservable, serving_config
from stoker.core.secrets import Rules
from stoker.core.shortage import NoRoom
from stoker.core.snapshot import EndpointKey
from stoker.core.world import demand
from stoker.observe.notify import apprise
from stoker.protocol import manifest
from stoker.store import budgets, endpoints, journal, keys, models, notifiers, policies, projects, roles
from stoker.store.engine import Connection
from stoker.types.access import EVERYWHERE, Member
from stoker.types.errors import Conflict, InvalidInput, NotFound, OverQuota
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.resources import (
    Budget,
    Endpoint,
    EndpointSpec,
    IdentityProvider,
    Notifier,
    Policy,
    Project,
    Resource,
    Role,
)
from stoker.types.slos import Objective

# What of a spec makes a new revision (core/revisions.py).
ROLLS: Final = (
    "spec.model", "spec.task", "spec.engine", "spec.goal", "spec.options", "spec.mapping", "spec.env", "spec.resources",
    "spec.sandbox", "spec.batching", "spec.limits.max_body", "spec.limits.concurrency", "spec.backends",
    "spec.placement.pool",
)  # fmt: skip
# What of a project bounds its owner too: it is changed by who holds projects:write everywhere.
PLATFORMS: Final = ("spec.quota", "spec.secrets")
# What of a spec decides whether its objectives are ever measured.
PROMISED: Final = ("spec.slos", "spec.model", "spec.task")
# What of a spec decides whether a node can take a replica.
PLACED: Final = ("spec.model", "spec.resources", "spec.placement", "spec.replicas.max")


# Tenants with objectives of their own, counted once an endpoint: each takes two counters and up to three histograms in
# every gateway, and a metric has at most 1,000 series there (telemetry/metrics.py).
PROMISED_TENANTS_MAX: Final = 500


Small = Notifier | Policy | Role | Budget | IdentityProvider


class Wrong(msgspec.Struct, frozen=True):
    """One thing that cannot hold, and about which resource."""

    kind: str
    project: str
    name: str
    field: str
    message: str


class Refusal(InvalidInput):
    """A well-formed manifest that cannot hold; `problems` has each with its field."""

    def __init__(self, problems: Sequence[Wrong]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{each.field}: {each.message}" for each in problems), field=problems[0].field)


def apply(
    connection: Connection,
    resources: Iterable[Resource],
    now_s: float,
    frozen: Mapping[EndpointKey, str] | None = None,
    *,
    insists: bool = False,
    by: Asker = PLATFORM,
    nodes: Sequence[Capacity] = (),
    rules: Rules | None = None,
) -> list[ApplyResult]:
    """Store every resource, or none. Projects go first, so that a manifest may bring its own; then roles, policies.

    frozen: why endpoints (project, name) may get no new revision; all else of them may change. Who `insists` may, and
        the journal says so.
    by: who asks; members and roles may be given no more than they have.
    nodes: those that report; an endpoint that changes and fits none of them, however empty, is refused.
    rules: which secrets projects may name; None: any.
    Raises Refusal with everything that cannot hold.
    """
    ordered = sorted(resources, key=lambda each: [not isinstance(each, kind) for kind in (Project, Role, Policy)])
    were = {each.metadata.name: _members(connection, each) for each in ordered if isinstance(each, Project)}
    before = allowances.taken(connection, ordered)
    results: list[ApplyResult] = []
    problems: list[Wrong] = []
    for each in ordered:
        if isinstance(each, Project):
            results.append(_apply_project(connection, each, now_s, by))
            continue
        try:
            if not isinstance(each, Endpoint):
                results.append(_apply_small(connection, each, now_s, by))
            else:
                key = (ProjectName(each.metadata.project), EndpointName(each.metadata.name))
                why = (frozen or {}).get(key, "")
                results.append(_apply_endpoint(connection, each, now_s, why, insists=insists, nodes=nodes))
        except (InvalidInput, NotFound, Conflict) as wrong:
            problems.append(_wrong(each, wrong.field or "spec", wrong.message, is_alone=len(ordered) == 1))
    given = {(each.metadata.project, each.metadata.name): each for each in ordered if isinstance(each, Endpoint)}
    problems.extend(_misnamed(connection, ordered, rules))
    if not problems:
        problems.extend(_too_many_tenants(connection, given.values()))
        refused, warnings = allowances.judged(connection, before, given.values())
        problems.extend(_wrong(each, field, message, is_alone=len(given) == 1) for each, field, message in refused)
        results = [
            msgspec.structs.replace(each, warnings=told) if each.kind == "Endpoint" and told else each
            for each in results
            for told in (warnings.get((each.project, each.name), ()),)
        ]
        for project in dict.fromkeys(project for project, _ in given):
            problems.extend(
                Wrong("Endpoint", project, flaw.endpoint, flaw.field, f"{flaw.endpoint}: {flaw.message}")
                for flaw in chains.flaws(connection, project)
            )
    if problems:
        raise Refusal(problems)
    for name, members in were.items():
        _settle_members(connection, name, members, by, now_s)
    return results


def _misnamed(connection: Connection, ordered: Sequence[Resource], rules: Rules | None) -> Iterable[Wrong]:
    """Return what names a secret that its project may not name."""
    for each, field, message in refused_names(connection, ordered, rules):
        yield _wrong(each, field, message, is_alone=len(ordered) == 1)


def _apply_small(connection: Connection, resource: Small, now_s: float, by: Asker) -> ApplyResult:
    match resource:
        case Notifier():
            return _apply_notifier(connection, resource, now_s)
        case Policy():
            return _apply_policy(connection, resource, now_s, by)
        case Role():
            return _apply_role(connection, resource, now_s, by)
        case Budget():
            return _apply_budget(connection, resource, now_s, by)
        case IdentityProvider():
            old, changes = providing.apply(connection, resource, by, now_s)
            return ApplyResult(
                kind="IdentityProvider", name=resource.metadata.name, action=_verb(old, changes), diff=_shown(changes)
            )
        case _:
            assert_never(resource)


def _members(connection: Connection, project: Project) -> tuple[Member, ...]:
    found = projects.find(connection, project.metadata.name)
    return found.spec.members if found is not None else ()


def _settle_members(connection: Connection, name: str, before: Sequence[Member], by: Asker, now_s: float) -> None:
    """End the keys of who is no member any more. Raises InvalidInput, Forbidden: nobody gives more than they have."""
    found = projects.find(connection, name)
    now = found.spec.members if found is not None else ()
    issuing.may_name(now, before, name, roles.known(connection), by)
    staying = {each.subject for each in now}
    for subject in dict.fromkeys(each.subject for each in before if each.subject not in staying):
        issuing.expel(connection, subject, name, by.because, now_s)


def _too_many_tenants(connection: Connection, given: Iterable[Endpoint]) -> list[Wrong]:
    """Return what is wrong with the endpoints that promise tenants something, if too many are promised something."""
    promising = [each for each in given if _tenants(each.spec.slos)]
    if not promising:
        return []
    every = [state.resource.spec.slos for state in endpoints.everything(connection) if not state.is_deleting]
    count = sum(map(_tenants, every))
    if count <= PROMISED_TENANTS_MAX:
        return []
    message = (
        f"{count} tenants of endpoints would have objectives of their own; at most {PROMISED_TENANTS_MAX} are counted: "
        "promise it to the endpoint, or to fewer tenants"
    )
    return [_wrong(each, "spec.slos", message, is_alone=len(promising) == 1) for each in promising]


def _tenants(slos: Sequence[Objective]) -> int:
    """Return how many tenants of an endpoint may have objectives of their own."""
    return len({each.tenant for each in slos if each.tenant}) + max(
        (each.each_max for each in slos if each.each == "tenant"), default=0
    )


def delete(connection: Connection, project: str, name: str, now_s: float) -> None:
    """Ask for the end of an endpoint. Raises NotFound, or Conflict while another endpoint falls back to it."""
    users = chains.users(connection, project, name)
    if users:
        raise Conflict(f"endpoint {name!r} serves for {', '.join(users)}; take it out of there, or delete that first")
    endpoints.mark_deleting(connection, project, name)
    journal.add(connection, journal.Entry(now_s, "DeleteEndpoint", "asked to", project, name))


def _apply_project(connection: Connection, project: Project, now_s: float, by: Asker) -> ApplyResult:
    name = project.metadata.name
    old = projects.find(connection, name)
    changes = manifest.diff(old, project)
    for change in changes:
        if old is not None and change.path.startswith(PLATFORMS):
            issuing.require_platform(by, change.path)
    if changes:
        projects.put(connection, project, now_s)
        because = "asked to" if old is None else f"changed: {', '.join(change.path for change in changes)}"
        journal.add(connection, journal.Entry(now_s, "ApplyProject", because, name))
    return ApplyResult(kind="Project", name=name, action=_verb(old, changes), project=name, diff=_shown(changes))


def _apply_endpoint(
    connection: Connection,
    endpoint: Endpoint,
    now_s: float,
    frozen: str,
    *,
    insists: bool,
    nodes: Sequence[Capacity],
) -> ApplyResult:
    project, name = endpoint.metadata.project, endpoint.metadata.name
    if projects.find(connection, project) is None:
        raise NotFound(f"no project {project!r}; apply a Project of that name first", field="metadata.project")
    pinned, config = (0, None) if endpoint.spec.backends else _pin(connection, endpoint.spec, project)
    stored = endpoints.find(connection, project, name)
    old = stored.resource if stored is not None else None
    changes = list(manifest.diff(old, endpoint))
    if stored is not None and stored.pinned != pinned and not changes:
        model = parse_ref(endpoint.spec.model).name
        changes.append(manifest.Change("spec.model", f"{model}@{stored.pinned}", f"{model}@{pinned}"))
    rolls = [change.path for change in changes if change.path.startswith(ROLLS)]
    is_frozen = bool(frozen and old is not None and rolls)
    if is_frozen and not insists:
        raise Conflict(
            f"rollouts are frozen: {frozen}; `stoker rollback` still works, and `stoker deploy` and `stoker apply` "
            "insist with --over-budget",
            field=rolls[0],
        )
    revived = stored is not None and stored.is_deleting
    if config is not None and endpoint.spec.resources.gpu > 0:
        grows = old is None or revived or bool(rolls) or endpoint.spec.replicas.max > old.spec.replicas.max
        spent = allowances.spent(connection, now_s) if grows else {}
        if project in spent:
            raise OverQuota(
                f"{spent[project]}; what runs goes on and `stoker rollback` still works, but nothing grows or is "
                "rolled out on GPUs until it begins anew or the quota is raised",
                field=rolls[0] if rolls else "spec.resources.gpu",
            )
    if config is not None and (old is None or revived or any(change.path.startswith(PLACED) for change in changes)):
        _check_room(endpoint, config, nodes)
    if config is not None and (old is None or revived or any(change.path.startswith(PROMISED) for change in changes)):
        _check_measured(endpoint.spec.slos, config)
    if changes or revived:
        stored = endpoints.put(connection, endpoint, pinned, now_s)
        because = "asked to" if old is None else f"changed: {', '.join(change.path for change in changes)}"
        if is_frozen:
            because = f"{because}; over the freeze of rollouts: {frozen}"
        journal.add(connection, journal.Entry(now_s, "ApplyEndpoint", because, project, name))
    action = "created" if revived else _verb(old, changes)
    back = steering.taken_back(connection, stored) if stored is not None else None
    return ApplyResult(
        kind="Endpoint", name=name, action=action, project=project, diff=_shown(changes), taken_back=back
    )


def _apply_notifier(connection: Connection, notifier: Notifier, now_s: float) -> ApplyResult:
    project, name = notifier.metadata.project, notifier.metadata.name
    if notifier.spec.type == "apprise" and not apprise.is_installed():
        raise InvalidInput(apprise.MISSING, field="spec.type")
    old = notifiers.find(connection, project, name)
    changes = manifest.diff(old, notifier)
    if changes:
        notifiers.put(connection, notifier, now_s)
        because = "asked to" if old is None else f"changed: {', '.join(change.path for change in changes)}"
        journal.add(connection, journal.Entry(now_s, "ApplyNotifier", because, project, subject=name))
    return ApplyResult(kind="Notifier", name=name, action=_verb(old, changes), project=project, diff=_shown(changes))


def _apply_role(connection: Connection, role: Role, now_s: float, by: Asker) -> ApplyResult:
    project, name = role.metadata.project, role.metadata.name
    old = roles.find(connection, project, name)
    changes = manifest.diff(old, role)
    if changes:
        where = EVERYWHERE if role.spec.all_projects or (old is not None and old.spec.all_projects) else project
        issuing.may_define(where, frozenset(role.spec.permissions), by)
        roles.put(connection, role, now_s)
        because = by.because if old is None else f"{by.because}, changed: {', '.join(each.path for each in changes)}"
        journal.add(connection, journal.Entry(now_s, "ApplyRole", because, project, subject=name))
    return ApplyResult(kind="Role", name=name, action=_verb(old, changes), project=project, diff=_shown(changes))


def _apply_policy(connection: Connection, policy: Policy, now_s: float, by: Asker) -> ApplyResult:
    project, name = policy.metadata.project, policy.metadata.name
    old = policies.find(connection, project, name)
    changes = manifest.diff(old, policy)
    if changes:
        policies.put(connection, policy, now_s)
        was = old is not None and old.spec.enabled
        action = "EnablePolicy" if policy.spec.enabled and not was else "ApplyPolicy"
        action = "DisablePolicy" if was and not policy.spec.enabled else action
        paths = "" if old is None else f", changed: {', '.join(change.path for change in changes)}"
        journal.add(connection, journal.Entry(now_s, action, f"{by.because}{paths}", project, subject=name))
    return ApplyResult(kind="Policy", name=name, action=_verb(old, changes), project=project, diff=_shown(changes))


def _apply_budget(connection: Connection, budget: Budget, now_s: float, by: Asker) -> ApplyResult:
    project, name, spec = budget.metadata.project, budget.metadata.name, budget.spec
    if spec.scope == "key":
        key = keys.find(connection, spec.key)
        if key is None or key.project != project:
            raise InvalidInput(
                f"project {project!r} has no key {spec.key!r}; `stoker keys` lists them", field="spec.key"
            )
    kept = budgets.find(connection, project, name)
    changes = manifest.diff(None if kept is None else kept.resource, budget)
    scopes = {spec.scope, kept.resource.spec.scope if kept is not None else spec.scope}
    if changes and scopes & {"project", "platform"}:
        issuing.require_platform(by, "spec.scope")  # it bounds the project's owner too
    if changes:
        budgets.put(connection, budget, now_s)
        because = "asked to" if kept is None else f"changed: {', '.join(change.path for change in changes)}"
        journal.add(connection, journal.Entry(now_s, "ApplyBudget", because, project, subject=name))
    verb = _verb(kept, changes)
    return ApplyResult(kind="Budget", name=name, action=verb, project=project, diff=_shown(changes))


def _check_room(endpoint: Endpoint, config: ServingConfig, nodes: Sequence[Capacity]) -> None:
    """Raise InvalidInput where no node could take a replica if it ran nothing else."""
    found = place.choose(demand(config, endpoint, ""), nodes, ())
    if isinstance(found, NoRoom) and found.is_never and endpoint.spec.replicas.max:
        field = "spec.placement.pool" if all(node.pool != config.pool for node in nodes) else "spec.resources"
        raise InvalidInput(f"no node can ever take a replica: {found.message}", field=field)


def _check_measured(promised: Sequence[Objective], config: ServingConfig) -> None:
    """Raise InvalidInput for an objective that nothing of what is served would ever be judged by."""
    for number, objective in enumerate(promised):
        if why := slo.unmeasured(objective, config.task):
            raise InvalidInput(f"{objective.name} is {why}", field=f"spec.slos[{number}].sli")


def _pin(connection: Connection, spec: EndpointSpec, project: str) -> tuple[int, ServingConfig]:
    """Return the number of the version that a bare model name means now, 0 for other references; and what runs.

    Raises InvalidInput when there is no such version, or it cannot be served as the spec says.
    """
    try:
        ref = parse_ref(spec.model)
        if models.owner(connection, ref.name) not in (None, models.SHARED, project):
            raise NotFound(models.unknown(ref.name))  # another project's
        version = models.get(connection, ref)
    except (ValueError, NotFound) as wrong:
        raise InvalidInput(str(wrong), field="spec.model") from wrong
    config = serving_config(spec, version)
    if isinstance(config, Unservable):
        raise InvalidInput(config.message, field=config.field)
    return version.number if ref.is_newest else 0, config


def _wrong(resource: Endpoint | Small, field: str, message: str, *, is_alone: bool) -> Wrong:
    name = resource.metadata.name
    project = "" if isinstance(resource, IdentityProvider) else resource.metadata.project
    return Wrong(type(resource).__name__, project, name, field, message if is_alone else f"{name}: {message}")


def _verb(old: object, changes: Sequence[manifest.Change]) -> str:
    if old is None:
        return "created"
    return "updated" if changes else "unchanged"


def _shown(changes: Iterable[manifest.Change]) -> tuple[FieldChange, ...]:
    return tuple(FieldChange(change.path, change.old, change.new) for change in changes)
