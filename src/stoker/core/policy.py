"""What admission policies say of a change: which look at it, what each rule finds, and whether it may be made.

Every rule is asked, whatever the others found, so that the order of policies and rules changes nothing but the order of
the verdicts. Expressions come compiled, through `Program`; what one gives that is no truth is a failure of its rule.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import msgspec

from stoker.types.policies import MESSAGE_MAX, Document, PolicyRule, Verdict
from stoker.types.resources import Policy


class Program(Protocol):
    """A compiled expression."""

    def value(self, values: Mapping[str, Any]) -> Any:
        """Return its value over the named `values`. Raises ValueError when it has none."""
        ...


class Compiled(msgspec.Struct, frozen=True):
    """A policy with the program of each of its expressions, by their text."""

    policy: Policy
    programs: Mapping[str, Program]


def verdicts(policies: Iterable[Compiled], document: Document) -> tuple[Verdict, ...]:
    """Return what every rule says that looks at the change `document`, in the order of the policies."""
    return tuple(
        verdict
        for compiled in policies
        if looks_at(compiled.policy, document)
        for verdict in of_policy(compiled, document)
    )


def looks_at(policy: Policy, document: Document) -> bool:
    """Return whether a policy is asked about a change."""
    match = policy.spec.match
    if not policy.spec.enabled or document.operation not in match.operations or kind(document) not in match.kinds:
        return False
    if policy.spec.all_projects:
        names = match.projects
        is_there = not names or any(_fits(document.project.name, name) for name in names)
    else:
        is_there = policy.metadata.project == document.project.name
    # As in Kubernetes, before or after: a label taken away in the same change does not take the policy with it.
    sides = (document.resource, document.old)
    return is_there and (not match.labels or any(_labelled(side, match.labels) for side in sides))


def kind(document: Document) -> str:
    """Return the kind of what is changed."""
    there = document.resource if document.resource is not None else document.old
    return str((there or {}).get("kind", ""))


def of_policy(compiled: Compiled, document: Document) -> Iterator[Verdict]:
    """Yield what each rule of one policy says, in their order, one verdict a rule."""
    values: dict[str, Any] = msgspec.to_builtins(document)
    known: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    for variable in compiled.policy.spec.variables:
        try:
            known[variable.name] = compiled.programs[variable.expression].value(values | {"variables": known})
        except ValueError as wrong:
            unknown[variable.name] = str(wrong)
    values["variables"] = known
    for rule in compiled.policy.spec.rules:
        yield _verdict(compiled, rule, values, unknown)


def denials(found: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """Return the verdicts for which a change is refused; none: it may be made."""
    return tuple(verdict for verdict in found if _is_broken(verdict) and verdict.enforcement == "deny")


def warnings(found: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """Return the verdicts that whoever asked is told of."""
    return tuple(verdict for verdict in found if _is_broken(verdict) and verdict.enforcement == "warn")


def remarks(found: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """Return every verdict that the journal has: all but those that passed."""
    return tuple(verdict for verdict in found if verdict.outcome != "passed")


def said(verdict: Verdict) -> str:
    """Return a verdict as a sentence: which rule of which policy, and what is wrong."""
    return f"policy {verdict.policy}, rule {verdict.rule}: {verdict.message}"


def failed(policy: Policy, rule: PolicyRule, why: str) -> Verdict:
    """Return the verdict of a rule that gave no answer."""
    return Verdict(
        policy.metadata.name,
        rule.name,
        rule.enforcement,
        "failed",
        f"it gave no answer ({_short(why)})",
        rule.field,
        policy.metadata.project,
        counts=policy.spec.failure_policy == "fail",
    )


def _verdict(compiled: Compiled, rule: PolicyRule, values: Mapping[str, Any], unknown: Mapping[str, str]) -> Verdict:
    policy = compiled.policy
    try:
        holds = compiled.programs[rule.expression].value(values)
    except ValueError as wrong:
        missing = [
            f"variables.{name}: {why}" for name, why in unknown.items() if f"variables.{name}" in rule.expression
        ]
        return failed(policy, rule, missing[0] if missing else str(wrong))
    if not isinstance(holds, bool):
        return failed(policy, rule, f"it gives {type(holds).__name__}, not true or false")
    named = Verdict(
        policy.metadata.name, rule.name, rule.enforcement, field=rule.field, project=policy.metadata.project
    )
    if holds:
        return named
    return msgspec.structs.replace(named, outcome="violated", message=_message(compiled, rule, values))


def _message(compiled: Compiled, rule: PolicyRule, values: Mapping[str, Any]) -> str:
    if rule.message_expression:
        try:
            made = compiled.programs[rule.message_expression].value(values)
        except ValueError:
            made = None
        if isinstance(made, str) and made.strip():
            return _short(made)
    return rule.message or f"this does not hold: {_short(rule.expression)}"


def _is_broken(verdict: Verdict) -> bool:
    return verdict.outcome != "passed" and verdict.counts


def _labelled(side: Mapping[str, Any] | None, wanted: Mapping[str, str]) -> bool:
    labels = ((side or {}).get("metadata") or {}).get("labels") or {}
    return all(name in labels and _fits(labels[name], value) for name, value in wanted.items())


def _fits(text: str, wanted: str) -> bool:
    return text.startswith(wanted[:-1]) if wanted.endswith("*") else text == wanted


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MESSAGE_MAX else line[: MESSAGE_MAX - 1] + "…"
