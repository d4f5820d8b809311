"""`stoker policy test`: the cases of a file over its policies, or what they find in what is there now."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from stoker.cli import junit
from stoker.cli.exits import Exit
from stoker.cli.output import columns, items, show
from stoker.cli.session import Command, Session, output_option
from stoker.cli.values import file_bytes
from stoker.client.policies import look
from stoker.client.views import PolicyFinding
from stoker.core import policy
from stoker.types.errors import InvalidInput
from stoker.types.resources import Policy

if TYPE_CHECKING:
    from stoker.protocol.policytest import Suite


class Result(msgspec.Struct, frozen=True):
    """What became of one case."""

    name: str
    expected: str
    got: str
    ok: bool
    broken: tuple[str, ...] = ()  # POLICY/RULE
    because: tuple[str, ...] = ()  # of each


@click.command(
    cls=Command,
    example="""
    stoker policy test policies.yaml
    stoker policy test policies.yaml --junit report.xml -o json
    stoker policy test policies.yaml --against-live
    """,
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--junit", "report", type=click.Path(path_type=Path, dir_okay=False), help="Write JUnit XML for CI.")
@click.option("--against-live", is_flag=True, help="Say what they find in what is there now; nothing is changed.")
@output_option
@click.pass_obj
def command(session: Session, file: Path, report: Path | None, against_live: bool, output: str) -> int:
    """Run the cases in FILE over the policies in it. No platform is needed. Ends with 1 when one goes otherwise.

    FILE has documents of kind Policy, and of kind PolicyTest with `cases`: each a `name`, the `resource` as a manifest
    (and `version`, `old`, `operation` … where rules look at them), what to `expect`, and which `rule` does it.
    """
    from stoker.protocol import policytest  # PyYAML takes longer to import than most commands to run

    suite = policytest.load(file_bytes(file))
    _check(file, suite.policies)
    if against_live:
        return _live(session, suite.policies, report, output)
    if not suite.cases:
        raise InvalidInput(f"{file} has no case; add a document of kind PolicyTest, or say --against-live")
    results = _run(suite)
    show({"results": results}, output, lambda: _table(results))
    _report(report, [(one.name, "" if one.ok else f"expected {one.expected}, got {_said(one)}") for one in results])
    return Exit.OK if all(one.ok for one in results) else Exit.FAILED


def _check(file: Path, policies: Sequence[Policy]) -> None:
    """Raise InvalidInput with what is wrong with expressions."""
    from stoker.control import judge

    wrong = [
        f"  policy {each.metadata.name}: {field}: {message}"
        for each, flaws in zip(policies, judge.flaws(policies), strict=True)
        for field, message in flaws
    ]
    if wrong:
        raise InvalidInput("\n".join([f"{file}: expressions that are none, so no case was tried", *wrong]))


def _run(suite: "Suite") -> list[Result]:
    from stoker.control import judge
    from stoker.protocol import policytest

    results = []
    for case, verdicts in zip(suite.cases, judge.verdicts(suite.policies, suite.documents), strict=True):
        expected = f"{case.expect} ({case.rule})" if case.rule else case.expect
        found = policy.remarks(verdicts)
        results.append(
            Result(
                case.name,
                expected,
                policytest.outcome(verdicts),
                policytest.holds(case, verdicts),
                tuple(f"{each.policy}/{each.rule}" for each in found),
                tuple(each.message for each in found),
            )
        )
    return results


def _live(session: Session, policies: Sequence[Policy], report: Path | None, output: str) -> int:
    from stoker.protocol import manifest

    found = look(session.control(), manifest.to_yaml(list(policies)).encode())
    show(items(found), output, lambda: _findings(found))
    _report(report, [(f"{one.kind} {one.project}/{one.name}", _broken(one)) for one in found])
    return Exit.FAILED if any(one.verdict.counts and one.verdict.enforcement == "deny" for one in found) else Exit.OK


def _table(results: Sequence[Result]) -> str:
    rows = [
        (
            click.style("ok", fg="green") if one.ok else click.style("FAILED", fg="red", bold=True),
            one.name,
            one.expected,
            one.got,
            ", ".join(one.broken) or "-",
        )
        for one in results
    ]
    failed = sum(1 for one in results if not one.ok)
    lines = [columns(("", "CASE", "EXPECTED", "GOT", "BROKEN RULES"), rows)]
    for one in results:
        if not one.ok:
            lines.append(f"{click.style(one.name, fg='red')}: expected {one.expected}, got {one.got}")
            lines += [f"    {rule}: {why}" for rule, why in zip(one.broken, one.because, strict=True)]
    lines.append(f"{len(results)} cases, {failed} failed" if failed else f"{len(results)} cases, all as expected")
    return "\n".join(lines)


def _findings(found: Sequence[PolicyFinding]) -> str:
    colours = {"deny": "red", "warn": "yellow", "audit": None}
    rows = [
        (
            click.style(one.verdict.enforcement, fg=colours[one.verdict.enforcement]),
            f"{one.kind.lower()} {one.name if one.kind == 'Project' else f'{one.project}/{one.name}'}",
            f"{one.verdict.policy}/{one.verdict.rule}",
            one.verdict.message,
        )
        for one in found
    ]
    return columns(("WOULD", "WHAT", "RULE", "BECAUSE"), rows, empty="nothing that is there breaks a rule")


def _said(result: Result) -> str:
    broken = [f"{rule}: {why}" for rule, why in zip(result.broken, result.because, strict=True)]
    return f"{result.got}: {'; '.join(broken)}" if broken else result.got


def _broken(one: PolicyFinding) -> str:
    return f"{one.verdict.policy}/{one.verdict.rule}: {one.verdict.message}"


def _report(report: Path | None, results: Sequence[tuple[str, str]]) -> None:
    if report is not None:
        name = "stoker policy test"
        junit.write(report, junit.report(name, [junit.Case(name, what, failed=why) for what, why in results]))
