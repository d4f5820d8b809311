"""What is wrong with one endpoint's fallback, breaker and backends, as far as its own manifest tells.

Whether the endpoints it names are there and fit, only control knows (core/chains.py).
"""

import msgspec

from stoker.core.circuit import OPEN_MAX_S
from stoker.protocol import rules
from stoker.types.resources import Backend, EndpointSpec
from stoker.types.units import parse_seconds

AFTER_S_MAX = 3600.0
# What belongs to replicas; an endpoint with backends has none.
_OF_REPLICAS = ("model", "engine", "options", "mapping", "env", "resources", "replicas", "batching")


def chain_problems(spec: EndpointSpec) -> list[tuple[str, str]]:
    """Return fields and what is wrong with them."""
    found = _backend_problems(spec) if spec.backends else []
    if not spec.backends and not spec.model:
        found.append(("spec.model", "missing; a registered version: NAME, NAME@2, NAME@sha256:… or NAME@ALIAS"))
    for number, name in enumerate(spec.fallback):
        if name in spec.fallback[:number]:
            found.append((f"spec.fallback[{number}]", f"{name} is there twice"))
    if not spec.fallback_on:
        found.append(("spec.fallback_on", "names no reason; leave `fallback` out to have none"))
    if not 0 <= parse_seconds(spec.fallback_after) <= AFTER_S_MAX:
        found.append(("spec.fallback_after", f"{spec.fallback_after!r} is not between 0 and one hour"))
    if not 1 <= parse_seconds(spec.breaker.window) <= AFTER_S_MAX:
        found.append(("spec.breaker.window", f"{spec.breaker.window!r} is not between one second and one hour"))
    if not 0.1 <= parse_seconds(spec.breaker.open_for) <= OPEN_MAX_S:
        found.append(("spec.breaker.open_for", f"{spec.breaker.open_for!r} is not between 100ms and {OPEN_MAX_S:g}s"))
    return found


def _backend_problems(spec: EndpointSpec) -> list[tuple[str, str]]:
    found = [
        (f"spec.{item.name}", "an endpoint with backends runs no model of its own; leave it out")
        for item in msgspec.structs.fields(EndpointSpec)
        if item.name in _OF_REPLICAS and not _is_default(item, getattr(spec, item.name))
    ]
    seen: set[str] = set()
    for number, backend in enumerate(spec.backends):
        where = f"spec.backends[{number}]"
        found.extend((f"{where}.{field}", message) for field, message in _one(backend))
        if backend.endpoint in seen and not backend.when:
            found.append((f"{where}.endpoint", f"{backend.endpoint} is there twice; give it one weight"))
        seen |= {backend.endpoint} if not backend.when else set()
    if not any(backend.weight and not backend.when for backend in spec.backends):
        found.append(("spec.backends", "every one has a rule; one without `when` must take what no rule does"))
    return found


def _one(backend: Backend) -> list[tuple[str, str]]:
    if not backend.when:
        return []
    wrong = rules.check(backend.when)
    found = [("when", f"{backend.when!r} is no rule: {wrong}")] if wrong else []
    if backend.weight != 1:
        found.append(("weight", "a backend with `when` takes all that its rule does; leave the weight out"))
    return found


def _is_default(item: msgspec.structs.FieldInfo, value: object) -> bool:
    default = item.default_factory() if item.default_factory is not msgspec.NODEFAULT else item.default
    return bool(value == default)
