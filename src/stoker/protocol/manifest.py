"""Manifests: YAML or JSON text to resources and back, with every error at once, each with its line and field.

Also what changed between two resources, field by field, and the JSON Schema that editors use.
"""

import re
from typing import Any, TypeVar, assert_never

import msgspec
from msgspec import inspect

from stoker.core.access import ROLES
from stoker.core.refs import parse_ref
from stoker.core.secrets import literals, named
from stoker.protocol import yamltree
from stoker.protocol.budgets import budget_problems
from stoker.protocol.chained import chain_problems
from stoker.protocol.conform import line_of, misfits, shown, suggestion
from stoker.protocol.drift import drift_problems
from stoker.protocol.feedback import feedback_problems
from stoker.protocol.handed import VALUES_MAX
from stoker.protocol.identity import identity_problems
from stoker.protocol.placing import placement_problems
from stoker.protocol.policies import problems as policy_problems
from stoker.protocol.promised import notifier_problems, objective_problems
from stoker.protocol.quotas import quota_problems
from stoker.protocol.rollouts import rollout_problems
from stoker.protocol.samples import sample_problems
from stoker.protocol.scaling import scaling_problems
from stoker.protocol.yamltree import Branch, Leaf, Row, Tree
from stoker.types.errors import InvalidInput
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
from stoker.types.units import parse_bytes, parse_seconds

KINDS: dict[
    str,
    type[Endpoint] | type[Project] | type[Notifier] | type[Policy] | type[Role] | type[Budget] | type[IdentityProvider],
] = {
    "Endpoint": Endpoint,
    "Project": Project,
    "Notifier": Notifier,
    "Policy": Policy,
    "Role": Role,
    "Budget": Budget,
    "IdentityProvider": IdentityProvider,
}
TESTS = "PolicyTest"
TIMEOUT_S_MAX = 86_400.0
MEMORY_BYTES_MIN = 2**20
CACHE_TTL_S_MAX = 30 * 86_400.0
CACHE_BYTES_MIN = 64 * 2**10
CACHE_BYTES_MAX = 64 * 2**30
LABELS_MAX = 64
VALUE_CHARACTERS_MAX = 32_768

_SIZES = ("spec.resources.memory", "spec.limits.max_body", "spec.cache.max_bytes", "spec.batching.max_bytes")
_TIMES = (
    "spec.limits.timeout",
    "spec.cache.ttl",
    "spec.fallback_after",
    "spec.breaker.window",
    "spec.breaker.open_for",
    "spec.drift.every",
    "spec.drift.window",
    "spec.drift.trigger.cooldown",
    "spec.feedback.keep",
    "spec.scaling.drain",
    "spec.scaling.down_window",
    "spec.scaling.idle_timeout",
    "spec.skew",
    "spec.session.lifetime",
    "spec.session.idle",
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_MESSAGES_SHOWN_MAX = 20

T = TypeVar("T")


class Problem(msgspec.Struct, frozen=True):
    """One thing wrong with a manifest. `line` counts from 1; 0 is not in this text. `field`: `spec.replicas.max`."""

    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"{f'line {self.line}: ' if self.line else ''}{self.field + ': ' if self.field else ''}{self.message}"


class Change(msgspec.Struct, frozen=True):
    """One field that differs. `old` or `new` is None where the field is not set at all."""

    path: str
    old: Any
    new: Any


class ManifestError(InvalidInput):
    """A manifest with everything that is wrong with it in `problems`."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in problems[:_MESSAGES_SHOWN_MAX]]
        if len(problems) > len(lines):
            lines.append(f"… and {len(problems) - len(lines)} more")
        super().__init__("\n".join(lines), field=problems[0].field or None)


def load(text: str | bytes) -> list[Resource]:
    """Return the resources of a manifest, in order; documents may be lists of resources.

    Tests of policies may lie beside them (protocol/policytest.py) and are passed over.
    Raises ManifestError with every problem of every document.
    """
    documents, faults = yamltree.parse(text)
    problems = [Problem(*fault) for fault in faults]
    resources: list[Resource] = []
    seen: dict[tuple[str, str, str], int] = {}
    for tree in _flattened(documents):
        if kind_of(tree) == TESTS:
            continue
        found = _problems_of_tree(tree)
        problems.extend(found)
        if found or faults:
            continue
        resource = _resource(tree)
        resources.append(resource)
        name = identity(resource)
        if name in seen:
            problems.append(
                Problem(tree.line, "metadata.name", f"{name[2]} is given twice, first at line {seen[name]}")
            )
        seen.setdefault(name, tree.line)
    if not resources and not problems:  # `[]` is a document, of none
        problems.append(Problem(1, "", "no resource in it; a manifest has apiVersion, kind, metadata and spec"))
    if problems:
        raise ManifestError(sorted(problems, key=lambda problem: problem.line)[: yamltree.PROBLEMS_MAX])
    return resources


def kind_of(tree: Tree) -> object:
    """Return what a document says its kind is; None where it says nothing."""
    leaf = tree.items.get("kind", (0, None))[1] if isinstance(tree, Branch) else None
    return leaf.value if isinstance(leaf, Leaf) else None


def read(tree: Tree) -> tuple[Resource | None, list[Problem]]:
    """Return the resource that one document is, or everything that is wrong with it."""
    problems = _problems_of_tree(tree)
    return (None if problems else _resource(tree)), problems


def load_struct(text: str | bytes, kind: type[T]) -> T:
    """Return the one document of `text` as the struct `kind`, read as strictly as a manifest. Raises ManifestError."""
    documents, faults = yamltree.parse(text)
    problems = [Problem(*fault) for fault in faults]
    if not problems and len(documents) != 1:
        problems.append(Problem(1, "", f"expected one document, got {len(documents)}"))
    for tree in documents[:1]:
        problems.extend(Problem(*fault) for fault in misfits(tree, inspect.type_info(kind)))
    if problems:
        raise ManifestError(problems)
    try:
        return msgspec.convert(yamltree.plain(documents[0]), kind)
    except msgspec.ValidationError as wrong:
        raise ManifestError([_misfit(documents[0], wrong)]) from wrong


def line_of_field(text: str | bytes, wanted: tuple[str, str, str], field: str) -> int:
    """Return the line in `text` of a field of the resource `wanted` (see `identity`); 0 when it is not in there."""
    for tree in _flattened(yamltree.parse(text)[0]):
        if kind_of(tree) != TESTS and identity(_resource(tree)) == wanted:
            return line_of(tree, field)
    return 0


def identity(resource: Resource) -> tuple[str, str, str]:
    """Return (kind, project, name): what makes two manifests mean the same resource. A project's own project is ""."""
    match resource:
        case Project() | IdentityProvider():
            return type(resource).__name__, "", resource.metadata.name
        case Endpoint() | Notifier() | Policy() | Role() | Budget():
            return type(resource).__name__, resource.metadata.project, resource.metadata.name
        case _:
            assert_never(resource)


def check(resource: Resource) -> list[Problem]:
    """Return what is wrong with a resource beyond the types of its fields; lines are 0."""
    found = []
    for label, value in resource.metadata.labels.items():
        if len(label) > 63 or len(value) > 256:
            found.append(("metadata.labels", f"{shown(label)}: names are up to 63 characters, values up to 256"))
    if len(resource.metadata.labels) > LABELS_MAX:
        found.append(("metadata.labels", f"more than {LABELS_MAX} labels"))
    if isinstance(resource, Endpoint):
        found.extend(_endpoint_problems(resource.spec))
        found.extend(placement_problems(resource))
    if isinstance(resource, Notifier):
        found.extend(notifier_problems(resource.spec))
    if isinstance(resource, Policy):
        found.extend(policy_problems(resource.spec))
    if isinstance(resource, Role) and resource.metadata.name in ROLES:
        found.append(("metadata.name", f"{resource.metadata.name!r} is a role that every project has; choose another"))
    if isinstance(resource, Project):
        found.extend((f"spec.quota.{field}", wrong) for field, wrong in quota_problems(resource.spec.quota))
    if isinstance(resource, Budget):
        found.extend(budget_problems(resource.spec))
    if isinstance(resource, IdentityProvider):
        found.extend(identity_problems(resource.spec))
    return [Problem(0, field, message) for field, message in found]


def dump(resource: Resource, *, defaults: bool = True) -> dict[str, Any]:
    """Return a resource as plain values in the order people write them; `defaults` keeps what was not set too."""
    kind = identity(resource)[0]
    values = msgspec.to_builtins(resource)
    if not defaults:
        values = _without_defaults(resource, values)
    return {"apiVersion": resource.apiVersion, "kind": kind} | {
        name: value for name, value in values.items() if name not in ("apiVersion", "kind")
    }


def to_yaml(resources: list[Resource], *, defaults: bool = True) -> str:
    """Return resources as YAML documents that `load` reads back to the same resources."""
    return yamltree.to_text([dump(resource, defaults=defaults) for resource in resources])


def diff(old: Resource | None, new: Resource | None) -> list[Change]:
    """Return the fields that differ, by path; `512Mi` and `536870912` are the same. None: the resource is not there."""
    before = _flat(dump(old)) if old is not None else {}
    after = _flat(dump(new)) if new is not None else {}
    return [
        Change(path, before.get(path), after.get(path))
        for path in dict.fromkeys([*before, *after])
        if before.get(path) != after.get(path) and not _same_amount(path, before.get(path), after.get(path))
    ]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of one resource, for completion and errors while typing."""
    made = msgspec.json.schema(Resource)
    schema: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made))  # some defaults are tuples
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "stoker/v1 resources"} | schema


def _resource(tree: Tree) -> Resource:
    made: Resource = msgspec.convert(yamltree.plain(tree), Resource)
    return made


def _flattened(documents: list[Tree]) -> list[Tree]:
    trees: list[Tree] = []
    for document in documents:
        trees.extend(document.items if isinstance(document, Row) else [document])
    return trees


def _problems_of_tree(tree: Tree) -> list[Problem]:
    if not isinstance(tree, Branch):
        return [Problem(tree.line, "", "expected a resource: a map with apiVersion, kind, metadata and spec")]
    line, kind = tree.items.get("kind", (tree.line, Leaf(tree.line, None)))
    name = kind.value if isinstance(kind, Leaf) else None
    if not isinstance(name, str):
        return [Problem(line, "kind", f"missing; known: {', '.join(KINDS)}")]
    if name not in KINDS:
        return [Problem(line, "kind", f"{shown(name)} is not a kind" + suggestion(name, list(KINDS)))]
    problems = [Problem(*fault) for fault in misfits(tree, inspect.type_info(KINDS[name]))]
    if problems:
        return problems
    try:
        resource = _resource(tree)
    except msgspec.ValidationError as wrong:
        return [_misfit(tree, wrong)]
    return [Problem(line_of(tree, found.field), found.field, found.message) for found in check(resource)]


def _misfit(tree: Tree, wrong: msgspec.ValidationError) -> Problem:
    """Return what msgspec alone holds, such as how many entries a map may have."""
    message, _, path = str(wrong).partition(" - at `$")
    field = path.rstrip("`").lstrip(".")
    return Problem(line_of(tree, field), field, message)


def _endpoint_problems(spec: EndpointSpec) -> list[tuple[str, str]]:
    found = [
        *chain_problems(spec),
        *sample_problems(spec.samples),
        *objective_problems(
            spec.slos,
            is_drift_watched=spec.drift is not None,
            is_feedback_kept=spec.feedback is not None,
            has_model=not spec.backends,
        ),
        *drift_problems(spec.drift),
        *feedback_problems(spec),
        *rollout_problems(spec.rollout),
        *scaling_problems(spec),
        *literals(spec.options, spec.env),
    ]
    try:
        if not spec.backends and spec.model:
            parse_ref(spec.model)
    except ValueError as error:
        found.append(("spec.model", f"{error}; write NAME, NAME@2, NAME@sha256:… or NAME@ALIAS"))
    if parse_bytes(spec.resources.memory) < MEMORY_BYTES_MIN:
        found.append(("spec.resources.memory", f"{shown(spec.resources.memory)} is less than 1Mi"))
    if parse_bytes(spec.batching.max_bytes) < 1:
        found.append(("spec.batching.max_bytes", "nothing would fit"))
    if parse_bytes(spec.limits.max_body) < 1:
        found.append(("spec.limits.max_body", "nothing would fit"))
    if not 0 < parse_seconds(spec.limits.timeout) <= TIMEOUT_S_MAX:
        found.append(("spec.limits.timeout", f"{shown(spec.limits.timeout)} is not between 0 and one day"))
    if spec.cache is not None and not 0 < parse_seconds(spec.cache.ttl) <= CACHE_TTL_S_MAX:
        found.append(("spec.cache.ttl", f"{shown(spec.cache.ttl)} is not between 0 and 30 days"))
    if spec.cache is not None and not CACHE_BYTES_MIN <= parse_bytes(spec.cache.max_bytes) <= CACHE_BYTES_MAX:
        found.append(("spec.cache.max_bytes", f"{shown(spec.cache.max_bytes)} is not between 64Ki and 64Gi"))
    if len(named(spec.options, spec.env)) > VALUES_MAX:
        found.append(("spec.env", f"more than {VALUES_MAX} secrets are named"))
    for name, value in spec.env.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value or len(value) > VALUE_CHARACTERS_MAX:
            found.append((f"spec.env.{name}", f"{shown(name)} cannot be a variable of the environment"))
        elif name.startswith("STOKER_"):
            found.append((f"spec.env.{name}", "names that begin with STOKER_ belong to the platform"))
    return found


def _without_defaults(value: Any, plain: Any) -> Any:
    if not isinstance(value, msgspec.Struct):
        return plain
    fields = {item.encode_name: item for item in msgspec.structs.fields(value)}
    kept = {}
    for name, inner in plain.items():
        item = fields.get(name)
        if item is None:
            continue
        actual = getattr(value, item.name)
        default = item.default_factory() if item.default_factory is not msgspec.NODEFAULT else item.default
        if actual != default:
            kept[name] = _without_defaults(actual, inner)
    return kept


def _flat(values: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(values, dict) or (path and not values):
        return {path: values} if values != {} else {}
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{path}.{name}" if path else str(name))
    return flat


def _same_amount(path: str, old: Any, new: Any) -> bool:
    if old is None or new is None:
        return False
    if path in _SIZES:
        return parse_bytes(old) == parse_bytes(new)
    return path in _TIMES and parse_seconds(old) == parse_seconds(new)
