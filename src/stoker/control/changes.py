"""What a request changed, as policies are asked about it: one `Change` a resource, with what was there before."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from stoker.client.views import ApplyResult
from stoker.protocol.policies import Model
from stoker.store import budgets, endpoints, notifiers, projects, revisions
from stoker.store.engine import Connection
from stoker.types.ids import ProjectName
from stoker.types.models import ModelVersion
from stoker.types.policies import PolicyOperation
from stoker.types.resources import (
    Budget,
    Endpoint,
    IdentityProvider,
    Metadata,
    Notifier,
    Policy,
    Project,
    Resource,
    Role,
)

Judged = Endpoint | Project | Notifier | Budget | Model


class Change(msgspec.Struct, frozen=True):
    """What is done to one thing. `version`: the one that is pushed, or that an alias will mean, or a release."""

    operation: PolicyOperation
    resource: Judged | None
    old: Judged | None = None
    version: ModelVersion | None = None
    dossier: dict[str, Any] | None = None  # of a release

    @property
    def kind(self) -> str:
        """Its kind."""
        return type(self._there).__name__

    @property
    def name(self) -> str:
        """Its name."""
        return self._there.metadata.name

    @property
    def project(self) -> str:
        """The project it is in; a project is in itself."""
        there = self._there
        return there.metadata.name if isinstance(there, Project) else str(there.metadata.project)

    @property
    def named(self) -> str:
        """`endpoint shop/digits`."""
        where = self.name if self.kind == "Project" else f"{self.project}/{self.name}"
        return f"{self.kind.lower()} {where}"

    @property
    def _there(self) -> Judged:
        there = self.resource if self.resource is not None else self.old
        assert there is not None, "a change of something"
        return there


def applied(
    connection: Connection, resources: Sequence[Resource], apply: Callable[[], list[ApplyResult]]
) -> tuple[list[ApplyResult], list[Change]]:
    """Return what `apply` returns of `resources`, and what it changed; what is the platform's is held to none."""
    judged = [each for each in resources if not isinstance(each, (Policy, Role, IdentityProvider))]
    before = [_stored(connection, each) for each in judged]
    results = apply()
    done = {(each.kind, each.project, each.name): each.action for each in results}
    changes = []
    for each, old in zip(judged, before, strict=True):
        there = Change("update", each, old)
        action = done[there.kind, there.project, there.name]
        if action == "created":
            changes.append(Change("create", each))
        elif action == "updated":
            changes.append(there)
    return results, changes


def of_model(operation: PolicyOperation, version: ModelVersion, project: str, alias: str = "") -> Change:
    """Return the push of a version, or an alias that will mean it."""
    resource = Model(Metadata(version.name, ProjectName(project)), {"alias": alias, "number": version.number})
    return Change(operation, resource, None, version)


def followers(connection: Connection, version: ModelVersion, alias: str) -> list[Change]:
    """Return the endpoints that will serve `version` once `alias` means it, but those that go back to it.

    An endpoint that keeps a revision of it has served it: going back is not for policies to prevent.
    """
    found = []
    for state in endpoints.everything(connection):
        if state.is_deleting or state.resource.spec.model != f"{version.name}@{alias}":
            continue
        kept = revisions.everything(connection, state.project, state.name)
        if not any(each.config.digest == version.digest for each in kept):
            found.append(Change("update", state.resource, state.resource, version))
    return found


def _stored(
    connection: Connection, resource: Endpoint | Project | Notifier | Budget
) -> Endpoint | Project | Notifier | Budget | None:
    name = resource.metadata.name
    if isinstance(resource, Project):
        return projects.find(connection, name)
    if isinstance(resource, Notifier):
        return notifiers.find(connection, resource.metadata.project, name)
    if isinstance(resource, Budget):
        kept = budgets.find(connection, resource.metadata.project, name)
        return None if kept is None else kept.resource
    state = endpoints.find(connection, resource.metadata.project, name)
    return None if state is None else state.resource
