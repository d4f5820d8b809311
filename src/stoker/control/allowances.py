"""Holds projects to their quotas when something is applied: what they ask for before and after, in one transaction."""

from collections.abc import Iterable, Mapping

from stoker.core import allowance
from stoker.core.allowance import Taken
from stoker.store import endpoints, projects
from stoker.store.engine import Connection
from stoker.types.quotas import ProjectQuota, Use
from stoker.types.resources import Endpoint, Resource


def taken(connection: Connection, resources: Iterable[Resource]) -> dict[str, Taken]:
    """Return what each project of the endpoints among `resources` asks for now."""
    names = dict.fromkeys(each.metadata.project for each in resources if isinstance(each, Endpoint))
    return {name: _taken(connection, name) for name in names}


def uses(connection: Connection, name: str) -> tuple[Use, ...]:
    """Return how much of its quota a project asks for."""
    return allowance.uses(_quota(connection, name), _taken(connection, name))


def judged(
    connection: Connection, before: Mapping[str, Taken], given: Iterable[Endpoint]
) -> tuple[list[tuple[Endpoint, str, str]], dict[tuple[str, str], tuple[str, ...]]]:
    """Return which of the endpoints that were just stored are over their project's quota, with field and reason; and
    warnings, by project and name, of those whose project nears it."""
    refused: list[tuple[Endpoint, str, str]] = []
    warnings: dict[tuple[str, str], tuple[str, ...]] = {}
    of_project: dict[str, list[Endpoint]] = {}
    for each in given:
        of_project.setdefault(each.metadata.project, []).append(each)
    for name, mine in of_project.items():
        quota, after = _quota(connection, name), _taken(connection, name)
        for field, why in allowance.over(quota, before[name], after):
            refused += [(each, field, f"over the quota of project {name!r}: {why}") for each in mine]
        told = tuple(allowance.near(quota, before[name], after))
        warnings |= {(name, each.metadata.name): told for each in mine if told}
    return refused, warnings


def _taken(connection: Connection, project: str) -> Taken:
    states = endpoints.everything(connection, project)
    return allowance.taken(each.resource.spec for each in states if not each.is_deleting)


def _quota(connection: Connection, project: str) -> ProjectQuota:
    found = projects.find(connection, project)
    return found.spec.quota if found is not None else ProjectQuota()
