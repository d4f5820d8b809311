"""Holds projects, and the platform, to their quotas: what there is and is asked for, before and after, in the
transaction of the change. So two changes at once are one after the other, and the second sees the first.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from stoker.control.periods import bounds
from stoker.core import allowance
from stoker.core.allowance import Taken
from stoker.protocol.budgets import zone
from stoker.store import costs, endpoints, keys, models, projects, settings
from stoker.store.engine import Connection
from stoker.types.errors import OverQuota
from stoker.types.quotas import ProjectQuota, Use
from stoker.types.resources import Endpoint, Resource
from stoker.types.units import parse_bytes

WHOLE: Final = ""  # the platform, where a project is named
QUOTA: Final = "platform_quota"
HOUR_MS: Final = 3_600_000
Samples = Callable[[str], int]  # bytes of samples that are kept of a project, or of all


def no_samples(_project: str) -> int:
    """Return that none are kept."""
    return 0


def of_platform(connection: Connection) -> ProjectQuota:
    """Return what bounds all projects together."""
    text = settings.get(connection, QUOTA)
    return ProjectQuota() if text is None else msgspec.json.decode(text, type=ProjectQuota)


def set_platform(connection: Connection, quota: ProjectQuota) -> None:
    """Bound all projects together."""
    settings.put(connection, QUOTA, msgspec.json.encode(quota).decode())


def quota_of(connection: Connection, project: str) -> ProjectQuota:
    """Return what bounds a project; WHOLE: all of them."""
    if project == WHOLE:
        return of_platform(connection)
    found = projects.find(connection, project)
    return found.spec.quota if found is not None else ProjectQuota()


# ---- what is applied


def taken(connection: Connection, resources: Iterable[Resource]) -> dict[str, Taken]:
    """Return what each project of the endpoints among `resources` asks for now, and all of them together."""
    names = dict.fromkeys(each.metadata.project for each in resources if isinstance(each, Endpoint))
    return {name: _asked(connection, name) for name in (*names, WHOLE)} if names else {}


def judged(
    connection: Connection, before: Mapping[str, Taken], given: Iterable[Endpoint]
) -> tuple[list[tuple[Endpoint, str, str]], dict[tuple[str, str], tuple[str, ...]]]:
    """Return which of the endpoints that were just stored are over a quota, with field and reason; and warnings, by
    project and name, of those whose project, or the platform, nears it."""
    refused: list[tuple[Endpoint, str, str]] = []
    warnings: dict[tuple[str, str], tuple[str, ...]] = {}
    of_project: dict[str, list[Endpoint]] = {}
    for each in given:
        of_project.setdefault(each.metadata.project, []).append(each)
    if of_project:
        of_project[WHOLE] = [each for mine in of_project.values() for each in mine]
    for name, mine in of_project.items():
        quota, after = quota_of(connection, name), _asked(connection, name)
        over = list(allowance.over(quota, before[name], after, "its" if name else "all"))
        told = [] if over else list(allowance.near(quota, before[name], after, "the project's" if name else "all of"))
        if quota.on_limit == "warn":
            told += [f"over the quota of {_whose(name)}: {why}" for _, why in over]
        else:
            refused += [
                (each, field, f"over the quota of {_whose(name)}: {why}") for field, why in over for each in mine
            ]
        for each in mine if told else ():
            where = (each.metadata.project, each.metadata.name)
            warnings[where] = (*warnings.get(where, ()), *told)
    return refused, warnings


# ---- what is made


def admit_key(connection: Connection, project: str, now_s: float) -> None:
    """Raise OverQuota unless one more key fits into the quotas of its project and of the platform."""
    for name in (project, WHOLE):
        quota = quota_of(connection, name)
        if quota.keys is not None and quota.on_limit == "refuse":
            count = keys.count(connection, name, now_s)
            if allowance.is_over(quota.keys, count, 1):
                raise OverQuota(
                    f"over the quota of {_whose(name)}: it has {count} keys, the quota is {quota.keys}; revoke one "
                    "first, or have the quota raised",
                    field="project",
                )


def room(connection: Connection, project: str, samples: Samples) -> tuple[int | None, frozenset[str]]:
    """Return how many bytes may still be stored for `project` (None: any), and the files that are counted already."""
    least: int | None = None
    counted: frozenset[str] = frozenset()
    for name in dict.fromkeys((project, WHOLE)):
        quota = quota_of(connection, name)
        if quota.storage is None or quota.on_limit == "warn":
            continue
        files = models.files(connection, name or None)
        left = parse_bytes(quota.storage) - sum(files.values()) - samples(name)
        if least is None or left < least:
            least, counted = left, frozenset(files)
    return least, counted


def admit_stored(connection: Connection, project: str, before: int | None, samples: Samples) -> None:
    """Raise OverQuota where a version that was just stored is over a quota. before: what had room then; None: any.

    One that added nothing may stay, however full it is.
    """
    if before is None:
        return
    left, _ = room(connection, project, samples)
    if left is not None and left < 0 and left < before:
        raise over_storage(before - left, before)


def over_storage(size: int, left: int) -> OverQuota:
    """Return the refusal of `size` bytes more where `left` are left."""
    wanted, has = allowance.said("storage", size), allowance.said("storage", max(left, 0))
    return OverQuota(
        f"over the quota of storage: {wanted} more are asked for, {has} are left; delete versions that nothing uses "
        "(`stoker get models`), or have the quota raised",
        field="files",
    )


# ---- GPU-hours


def spent(connection: Connection, now_s: float) -> dict[str, str]:
    """Return the projects whose GPU-hours of this period are used up, or the platform's, and why, as people read it."""
    found: dict[str, str] = {}
    for name, quota in {**projects.quotas(connection), WHOLE: of_platform(connection)}.items():
        if quota.gpu_hours is None or quota.on_limit == "warn":
            continue
        used, _ = gpu_hours(connection, name, quota, now_s)
        if used >= quota.gpu_hours:
            why = f"{_whose(name)} has used {used:.1f} of {quota.gpu_hours:g} GPU-hours of this {quota.gpu_period}"
            for each in projects.names(connection) if name == WHOLE else [name]:
                found.setdefault(each, why)
    return found


def gpu_hours(connection: Connection, project: str, quota: ProjectQuota, now_s: float) -> tuple[float, float]:
    """Return the GPU-hours that a project's replicas held in this period, and when the next one begins."""
    period = bounds(quota.gpu_period, zone(quota.timezone), now_s)
    return costs.gpu_ms(connection, period.start_s, project or None) / HOUR_MS, period.end_s


# ---- how quotas stand


def uses(connection: Connection, name: str, samples: Samples = no_samples, now_s: float = 0.0) -> tuple[Use, ...]:
    """Return how much of its quota a project, or the platform, has and asks for."""
    quota = quota_of(connection, name)
    now_s = now_s or time.time()
    now, resets_at_s = _asked(connection, name), 0.0
    if quota.keys is not None:
        now = msgspec.structs.replace(now, keys=keys.count(connection, name, now_s))
    if quota.storage is not None:
        stored = sum(models.files(connection, name or None).values()) + samples(name)
        now = msgspec.structs.replace(now, storage=stored)
    if quota.gpu_hours is not None:
        used, resets_at_s = gpu_hours(connection, name, quota, now_s)
        now = msgspec.structs.replace(now, gpu_hours=round(used, 3))
    return allowance.uses(quota, now, resets_at_s)


def _asked(connection: Connection, project: str) -> Taken:
    states = endpoints.everything(connection, project or None)
    return allowance.taken(each.resource.spec for each in states if not each.is_deleting)


def _whose(name: str) -> str:
    return f"project {name!r}" if name else "the platform"
