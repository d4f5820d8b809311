"""Admission policies as text: what is wrong with one, its expressions compiled, and the document that they see.

What names and functions an expression uses is checked in every branch. Its types are checked by running it over
examples, so only where those take it: CEL's own check of types needs declarations that the package does not have.
"""

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import inspect

from stoker.core.policy import Compiled
from stoker.protocol.conform import suggestion
from stoker.protocol.rules import FUNCTIONS, Expression, MissingKey
from stoker.types.budgets import BudgetSpec
from stoker.types.policies import (
    Actor,
    Document,
    FileFacts,
    JudgedKind,
    NodeFacts,
    PolicyMatch,
    PolicySpec,
    PoolFacts,
    ProjectFacts,
    SloFacts,
    VersionFacts,
)
from stoker.types.resources import (
    Budget,
    Cache,
    Endpoint,
    EndpointSpec,
    Feedback,
    Metadata,
    Notifier,
    Policy,
    Project,
    Samples,
    Traces,
)
from stoker.types.units import parse_bytes, parse_seconds

VARIABLES: Final = "variables"
_KINDS: Final[dict[JudgedKind, type[msgspec.Struct]]] = {
    "Endpoint": Endpoint,
    "Project": Project,
    "Notifier": Notifier,
    "Budget": Budget,
}
_UNITS: Final = {"bytes": parse_bytes, "seconds": parse_seconds}
# Of how an expression fails over an example: that it could never do otherwise.
_NEVER: Final = ("No such overload", "Unsupported operation", "Undefined")


class Model(msgspec.Struct, frozen=True, tag_field="kind", tag="Model"):
    """A model, as rules see it where a version is pushed or an alias moves."""

    metadata: Metadata
    spec: dict[str, Any] = {}  # alias, number


def problems(spec: PolicySpec) -> list[tuple[str, str]]:
    """Return fields and what is wrong with them, without looking into expressions."""
    found = []
    for what, names in (
        ("rules", [rule.name for rule in spec.rules]),
        ("variables", [variable.name for variable in spec.variables]),
    ):
        found += [
            (f"spec.{what}[{at}].name", f"{name} is there twice") for at, name in enumerate(names) if name in names[:at]
        ]
    if spec.match.projects and not spec.all_projects:
        found.append(("spec.match.projects", "it holds in its own project only; say all_projects: true"))
    return found


def expressions(spec: PolicySpec) -> list[tuple[str, str]]:
    """Return the fields with an expression, and its text, in the order in which they are looked at."""
    found = [(f"spec.variables[{at}].expression", each.expression) for at, each in enumerate(spec.variables)]
    for at, rule in enumerate(spec.rules):
        found.append((f"spec.rules[{at}].expression", rule.expression))
        if rule.message_expression:
            found.append((f"spec.rules[{at}].message_expression", rule.message_expression))
    return found


def flaws(spec: PolicySpec) -> Iterator[str]:
    """Yield what is wrong with each of `expressions`, "" where nothing is. Runs them: not in a process that matters."""
    samples = [dict(values) for values in _samples(spec.match)]
    for number, (field, text) in enumerate(expressions(spec)):
        names = [variable.name for variable in spec.variables[:number]]
        wanted = str if field.endswith("message_expression") else object if "variables[" in field else bool
        yield _flaw(text, spec.match, names, samples, wanted)
        if number < len(spec.variables):
            _add(samples, spec.variables[number].name, text)


def compiled(policy: Policy) -> Compiled:
    """Return a policy to be asked. An expression that cannot be read fails when it is asked."""
    return Compiled(policy, {text: _program(text) for _, text in expressions(policy.spec)})


def plain(resource: Any) -> dict[str, Any]:
    """Return a resource as rules see it: every default written out, sizes in bytes and times in seconds as numbers."""
    found: dict[str, Any] = _counted(msgspec.to_builtins(resource), type(resource))
    return found


class _Unreadable:
    """Stands where an expression cannot be compiled."""

    def __init__(self, why: str) -> None:
        self._why = why

    def value(self, values: Mapping[str, Any]) -> Any:
        """See core.policy.Program."""
        raise ValueError(self._why)


def _program(text: str) -> Expression | _Unreadable:
    try:
        return Expression(text)
    except ValueError as wrong:
        return _Unreadable(str(wrong))


def _flaw(text: str, match: PolicyMatch, variables: list[str], samples: list[dict[str, Any]], wanted: type) -> str:
    try:
        expression = Expression(text)
    except ValueError as wrong:
        return str(wrong)
    known = [*Document.__struct_fields__, VARIABLES]
    for name in sorted(expression.names - set(known)):
        return f"unknown name {name!r}{suggestion(name, known)}"
    for name in sorted(expression.functions - FUNCTIONS):
        return f"unknown function {name}(){suggestion(name, sorted(FUNCTIONS))}"
    for name, *_ in expression.paths(VARIABLES):
        if name not in variables:
            return f"unknown variable {name!r}; known here: {', '.join(variables) or 'none'}"
    for root in Document.__struct_fields__:
        for path in expression.paths(root):
            if missing := _missing(root, path, match):
                return missing
    return _tried(expression, samples, wanted)


def _tried(expression: Expression, samples: list[dict[str, Any]], wanted: type) -> str:
    """Return what is wrong by what it gives over examples: never a value, or one that is not `wanted`."""
    failures = []
    for sample in samples:
        try:
            value = expression.value(sample)
        except MissingKey:
            continue  # a label or key that this example lacks
        except ValueError as wrong:
            failures.append(str(wrong))
            continue
        if not isinstance(value, wanted):
            word = "true or false" if wanted is bool else "a text"
            return f"it gives {type(value).__name__}, not {word}"
    is_certain = len(failures) == len(samples) and failures[0].startswith(_NEVER)
    return failures[0] if is_certain else ""


def _add(samples: list[dict[str, Any]], name: str, text: str) -> None:
    program = _program(text)
    for sample in samples:
        known = sample.setdefault(VARIABLES, {})
        try:
            known[name] = program.value(sample)
        except ValueError:
            continue


def _missing(root: str, path: list[str], match: PolicyMatch) -> str:
    """Return that `root` has no such field, "" where it has, or may have."""
    if root in ("resource", "old"):
        kinds: list[Any] = [Model if kind == "Model" else _KINDS[kind] for kind in match.kinds]
    else:
        kinds = [next(each.type for each in msgspec.structs.fields(Document) if each.name == root)]
    said = root
    for name in path:
        structs = [struct for kind in kinds for struct in _structs(kind)]
        if not structs:
            return ""  # a map, a list or a plain value: its keys or methods
        fields = {each.encode_name: each.type for struct in structs for each in msgspec.structs.fields(struct)}
        if name not in fields and not (name == "kind" and said == root):
            return f"{said} has no field {name!r}{suggestion(name, sorted(fields))}"
        kinds = [each.type for struct in structs for each in msgspec.structs.fields(struct) if each.encode_name == name]
        said = f"{said}.{name}"
    return ""


def _structs(kind: Any) -> list[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _structs(typing.get_args(kind)[0])
    if origin in (typing.Union, types.UnionType):
        return [struct for each in typing.get_args(kind) for struct in _structs(each)]
    return []


def _counted(value: Any, kind: Any) -> Any:
    """Return `value` with each size and time in it as a number, by what the fields of `kind` say they are."""
    return _by_type(value, inspect.type_info(kind))


def _by_type(value: Any, kind: inspect.Type) -> Any:
    match kind:
        case inspect.Metadata(type=inner, extra=extra):
            unit = _UNITS.get((extra or {}).get("unit", ""))
            return unit(value) if unit is not None and value is not None else _by_type(value, inner)
        case inspect.StructType(fields=fields) if isinstance(value, dict):
            of = {each.encode_name: each.type for each in fields}
            return {name: _by_type(inner, of[name]) if name in of else inner for name, inner in value.items()}
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item) if isinstance(value, list | tuple):
            return [_by_type(each, item) for each in value]
        case inspect.UnionType(types=kinds) if value is not None:
            for each in kinds:
                if not isinstance(each, inspect.NoneType):
                    value = _by_type(value, each)
            return value
        case inspect.DictType(value_type=inner) if isinstance(value, dict):
            return {name: _by_type(each, inner) for name, each in value.items()}
    return value


def _samples(match: PolicyMatch) -> Iterator[dict[str, Any]]:
    """Yield a document of each kind and operation that a policy looks at."""
    full = EndpointSpec(
        "m@1", "predict", "onnx", cache=Cache(), samples=Samples(), traces=Traces(0.1), feedback=Feedback()
    )
    made: dict[JudgedKind, Any] = {
        "Endpoint": Endpoint(Metadata("e", labels=_LABELS), full),
        "Project": msgspec.convert({"kind": "Project", "metadata": {"name": "p", "labels": _LABELS}}, Project),
        "Notifier": msgspec.convert(
            {"kind": "Notifier", "metadata": {"name": "n", "labels": _LABELS}, "spec": {"type": "slack"}}, Notifier
        ),
        "Budget": Budget(Metadata("b", labels=_LABELS), BudgetSpec("100")),
        "Model": Model(Metadata("m"), {"alias": "prod", "number": 1}),
    }
    for kind in match.kinds:
        resource = plain(made[kind])
        for operation in match.operations:
            yield msgspec.to_builtins(
                Document(
                    operation,
                    None if operation == "delete" else resource,
                    None if operation in ("create", "push") else resource,
                    Actor("0a1b2c3d", "default", is_admin=True),
                    ProjectFacts("default", _LABELS),
                    _VERSION,
                    {} if operation == "release" else None,
                    PoolFacts((NodeFacts("n", 2.0, 2**32),), 2.0, 2**32),
                    (SloFacts("availability", "availability", 0.999),),
                )
            )


_LABELS: Final = {"env": "production", "owner": "team", "runbook": "https://runbooks.example.com/e"}
_VERSION: Final = VersionFacts(
    ref="m@1",
    name="m",
    number=1,
    digest="sha256:" + "0" * 64,
    format="onnx",
    size_bytes=1,
    files=(FileFacts("m.onnx", 1),),
    lineage=dict.fromkeys(("parent", "run", "code", "source", "pushed_by", "pushed_from"), "")
    | {"data": [], "trained_at_s": 0.0},
)
