"""Tests of policies as text: policies, and cases that say what shall become of a change.

The file is YAML like a manifest: documents of kind Policy, and documents of kind PolicyTest with `cases`.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, inspect

from stoker.core import policy
from stoker.protocol import manifest, yamltree
from stoker.protocol.conform import line_of, misfits
from stoker.protocol.manifest import ManifestError, Problem
from stoker.protocol.policies import Model, plain
from stoker.protocol.yamltree import Tree
from stoker.types.errors import InvalidInput
from stoker.types.policies import (
    PLATFORM,
    Actor,
    Document,
    PolicyOperation,
    PoolFacts,
    ProjectFacts,
    SloFacts,
    Verdict,
    VersionFacts,
)
from stoker.types.resources import Endpoint, Policy

CASES_MAX: Final = 1_000
Expected = Literal["allow", "warn", "deny"]


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change, and what policies shall make of it."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    expect: Expected
    rule: Annotated[str, Meta(max_length=130, description="RULE or POLICY/RULE that must be broken")] = ""
    operation: PolicyOperation = "create"
    resource: Annotated[dict[str, Any] | None, Meta(description="a manifest; by default of an Endpoint")] = None
    old: Annotated[dict[str, Any] | None, Meta(description="what was there before")] = None
    actor: Actor = PLATFORM
    project: ProjectFacts = ProjectFacts()
    version: VersionFacts | None = None
    dossier: dict[str, Any] | None = None
    pool: PoolFacts = PoolFacts()


class PolicyTest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="PolicyTest"):
    """Cases that the file's policies are held to."""

    cases: Annotated[tuple[Case, ...], Meta(min_length=1, max_length=CASES_MAX)]
    apiVersion: Literal["stoker/v1"] = "stoker/v1"  # noqa: N815 - the wire name


class Suite(msgspec.Struct, frozen=True):
    """A file: its policies, its cases, and the document of each case."""

    policies: tuple[Policy, ...]
    cases: tuple[Case, ...]
    documents: tuple[Document, ...]


def load(text: str | bytes) -> Suite:
    """Return what is in a file of tests. Raises ManifestError with everything that is wrong with it."""
    trees, faults = yamltree.parse(text)
    problems = [Problem(*fault) for fault in faults]
    policies: list[Policy] = []
    cases: list[Case] = []
    documents: list[Document] = []
    for tree in trees:
        if manifest.kind_of(tree) == manifest.TESTS:
            wrong = [Problem(*fault) for fault in misfits(tree, inspect.type_info(PolicyTest))]
            problems += wrong
            if not wrong:
                test = msgspec.convert(yamltree.plain(tree), PolicyTest)
                cases += test.cases
                for at, case in enumerate(test.cases):
                    documents += _document(case, tree, f"cases[{at}]", problems)
            continue
        resource, found = manifest.read(tree)
        problems += found
        if isinstance(resource, Policy):
            policies.append(resource)
        elif resource is not None:
            problems.append(Problem(tree.line, "kind", "a file of tests has documents of kind Policy and PolicyTest"))
    if not policies and not problems:
        problems.append(Problem(1, "", "no policy in it"))
    if problems:
        raise ManifestError(sorted(problems, key=lambda problem: problem.line))
    return Suite(tuple(policies), tuple(cases), tuple(documents))


def outcome(verdicts: tuple[Verdict, ...]) -> Expected:
    """Return what becomes of a change."""
    if policy.denials(verdicts):
        return "deny"
    return "warn" if policy.warnings(verdicts) else "allow"


def holds(case: Case, verdicts: tuple[Verdict, ...]) -> bool:
    """Return whether a case went as it shall."""
    named = {name for each in policy.remarks(verdicts) for name in (each.rule, f"{each.policy}/{each.rule}")}
    return outcome(verdicts) == case.expect and (not case.rule or case.rule in named)


def _document(case: Case, tree: Tree, field: str, problems: list[Problem]) -> list[Document]:
    sides = {}
    for side, given in (("resource", case.resource), ("old", case.old)):
        try:
            sides[side] = None if given is None else _resource(given)
        except (InvalidInput, msgspec.ValidationError) as wrong:
            where = f"{field}.{side}"
            problems.append(Problem(line_of(tree, where), where, " ".join(str(wrong).split())))
    if len(sides) < 2:
        return []
    there = sides["resource"]
    pool = case.pool
    if pool.nodes and not pool.cores:
        nodes = pool.nodes
        pool = PoolFacts(nodes, sum(each.cores for each in nodes), sum(each.memory_bytes for each in nodes))
    slos = there.spec.slos if isinstance(there, Endpoint) else ()
    return [
        Document(
            case.operation,
            None if there is None else plain(there),
            None if sides["old"] is None else plain(sides["old"]),
            case.actor,
            case.project,
            case.version,
            case.dossier,
            pool,
            tuple(SloFacts(each.name, each.sli, each.target, each.tenant) for each in slos),
        )
    ]


def _resource(given: dict[str, Any]) -> Any:
    """Return a resource of which only what matters is written. Raises InvalidInput."""
    kind = given.get("kind", "Endpoint")
    metadata = {"name": "example"} | (given.get("metadata") or {})
    whole = {"apiVersion": "stoker/v1", "spec": {}, **given, "kind": kind, "metadata": metadata}
    if kind == "Model":
        del whole["apiVersion"]
        return msgspec.convert(whole, Model)
    if kind == "Endpoint" and not {"model", "backends"} & set(whole["spec"]):
        whole["spec"] = {"model": "example", **whole["spec"]}
    return manifest.load(msgspec.json.encode(whole))[0]
