"""Whether endpoints that name each other make sense together: names that exist, one task, no cycles, bounded depth."""

from collections.abc import Iterator, Mapping

import msgspec

from stoker.core.fallback import DEPTH_MAX
from stoker.types.resources import EndpointSpec

_KNOWN_SHOWN_MAX = 10


class Link(msgspec.Struct, frozen=True):
    """One endpoint that another names, and where: `spec.fallback[0]`, `spec.backends[1].endpoint`."""

    target: str
    field: str


class Flaw(msgspec.Struct, frozen=True):
    """What is wrong with one link, for a person."""

    endpoint: str
    field: str
    message: str


def links(spec: EndpointSpec) -> Iterator[Link]:
    """Yield whom an endpoint names."""
    for number, backend in enumerate(spec.backends):
        yield Link(backend.endpoint, f"spec.backends[{number}].endpoint")
    for number, name in enumerate(spec.fallback):
        yield Link(name, f"spec.fallback[{number}]")


def flaws(specs: Mapping[str, EndpointSpec], models: Mapping[str, str]) -> list[Flaw]:
    """Return what is wrong between the endpoints of one project, by name. `models`: the task of each with a model."""
    found = []
    for name, spec in specs.items():
        for link in links(spec):
            message = _flaw(name, link, specs, models)
            if message:
                found.append(Flaw(name, link.field, message))
    return found


def task(name: str, specs: Mapping[str, EndpointSpec], models: Mapping[str, str]) -> str:
    """Return what callers do with an endpoint: what it says, what its model does, or what its backends do; "" unknown.

    Ends for specs with cycles too.
    """
    seen: set[str] = set()
    while name in specs and name not in seen:
        seen.add(name)
        spec = specs[name]
        if not spec.backends:
            return models.get(name, "")
        if spec.task is not None:
            return spec.task
        name = spec.backends[0].endpoint
    return ""


def users(name: str, specs: Mapping[str, EndpointSpec]) -> list[str]:
    """Return the endpoints that name `name`."""
    return [user for user, spec in specs.items() if any(link.target == name for link in links(spec))]


def _flaw(name: str, link: Link, specs: Mapping[str, EndpointSpec], models: Mapping[str, str]) -> str:
    target = link.target
    if target == name:
        return f"{name} names itself"
    if target not in specs:
        known = ", ".join(sorted(set(specs) - {name})[:_KNOWN_SHOWN_MAX])
        return f"there is no endpoint {target!r} in the project" + (f"; known: {known}" if known else "")
    path = _path(target, name, specs)
    if path:
        return f"a cycle: {' → '.join([name, *path])}"
    depth = 1 + _depth(target, specs)
    if depth > DEPTH_MAX and not _leads_to_cycle(target, specs):
        return f"a chain of {depth} endpoints behind {name}; at most {DEPTH_MAX} are followed"
    mine, theirs = task(name, specs, models), task(target, specs, models)
    if mine and theirs and mine != theirs:
        return f"{target} serves {theirs}, {name} serves {mine}"
    return ""


def _path(start: str, end: str, specs: Mapping[str, EndpointSpec]) -> list[str]:
    """Return a path of names from `start` to `end`, both included; empty when there is none."""
    came_from: dict[str, str] = {start: ""}
    open_names = [start]
    while open_names:
        here = open_names.pop()
        if here == end:
            path = [here]
            while came_from[path[0]]:
                path.insert(0, came_from[path[0]])
            return path
        for link in links(specs[here]) if here in specs else ():
            if link.target not in came_from:
                came_from[link.target] = here
                open_names.append(link.target)
    return []


def _leads_to_cycle(name: str, specs: Mapping[str, EndpointSpec]) -> bool:
    """Return whether a cycle can be reached from `name`; its own links tell of it."""
    reached, open_names = {name}, [name]
    while open_names:
        here = open_names.pop()
        for link in links(specs[here]) if here in specs else ():
            if _path(link.target, here, specs):
                return True
            if link.target not in reached:
                reached.add(link.target)
                open_names.append(link.target)
    return False


def _depth(name: str, specs: Mapping[str, EndpointSpec]) -> int:
    """Return how many endpoints follow `name` at most; counts no further than DEPTH_MAX, so that cycles end."""
    layer, depth = {name}, 0
    while depth <= DEPTH_MAX:
        layer = {link.target for each in layer if each in specs for link in links(specs[each])}
        if not layer:
            break
        depth += 1
    return depth
