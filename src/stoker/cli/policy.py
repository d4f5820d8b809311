"""`stoker policy`: admission policies that come with stoker, enabling them, and tests of policies."""

from typing import Final

import click
import msgspec

from stoker.cli import policytest, tables
from stoker.cli.output import items, show
from stoker.cli.session import Command, Session, output_option, project_option, write_example
from stoker.client import policies
from stoker.client.control import ControlClient
from stoker.types.errors import NotFound
from stoker.types.policies import Enforcement
from stoker.types.resources import Policy

_EXAMPLE: Final = """
stoker policy starter
stoker policy enable owner-and-runbook --enforcement warn
stoker policy test policies.yaml --junit report.xml
stoker policy test policies.yaml --against-live
stoker policy disable owner-and-runbook
"""


class PolicyGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


@click.group(cls=PolicyGroup)
def command() -> None:
    """Say what changes are held to, and test it."""


@command.command(cls=Command, example="stoker policy starter signed-only no-pickle > policies.yaml")
@click.argument("names", nargs=-1)
def starter(names: tuple[str, ...]) -> None:
    """Print the policies that come with stoker. All, or those NAMED, as manifests; none is in force by itself."""
    click.echo("\n---\n".join(_starter(name)[1] for name in names or _starters()))


@command.command(
    cls=Command,
    example="""
    stoker policy enable signed-only -p shop
    stoker policy enable within-pool --all-projects --enforcement warn
    """,
)
@click.argument("name")
@click.option("--all-projects", is_flag=True, help="It holds in every project, not only in this one.")
@click.option(
    "--enforcement",
    type=click.Choice(["deny", "warn", "audit"]),
    help="What every rule of it does.",
)
@project_option
@click.pass_obj
def enable(session: Session, name: str, all_projects: bool, enforcement: Enforcement | None, project: str) -> None:
    """Hold changes to a policy. One that is there, or one that comes with stoker."""
    control = session.control()
    found = policies.find(control, project, name) or _starter(name)[0]
    spec = msgspec.structs.replace(found.spec, enabled=True, all_projects=all_projects or found.spec.all_projects)
    if enforcement is not None:
        rules = tuple(msgspec.structs.replace(rule, enforcement=enforcement) for rule in spec.rules)
        spec = msgspec.structs.replace(spec, rules=rules)
    metadata = msgspec.structs.replace(found.metadata, project=project)
    _apply(control, msgspec.structs.replace(found, metadata=metadata, spec=spec))


@command.command(cls=Command, example="stoker policy disable signed-only -p shop")
@click.argument("name")
@project_option
@click.pass_obj
def disable(session: Session, name: str, project: str) -> None:
    """Hold nothing to a policy any more, and keep it. The journal says who did this."""
    control = session.control()
    found = policies.find(control, project, name)
    if found is None:
        raise NotFound(f"there is no policy {name!r} in project {project}; `stoker get policies -A` lists all")
    _apply(control, msgspec.structs.replace(found, spec=msgspec.structs.replace(found.spec, enabled=False)))


@command.command("list", cls=Command, example="stoker policy list")
@output_option
@click.pass_obj
def list_policies(session: Session, output: str) -> None:
    """List the policies of every project."""
    found = policies.everything(session.control())
    show(items(found), output, lambda: tables.policies_table(found))


command.add_command(policytest.command, "test")


def _apply(control: ControlClient, policy: Policy) -> None:
    from stoker.protocol import manifest

    control.apply(msgspec.json.encode(manifest.dump(policy)))
    name = f"{policy.metadata.project}/{policy.metadata.name}"
    if not policy.spec.enabled:
        click.echo(f"policy {name} is disabled; nothing is held to it any more")
        return
    rules = ", ".join(f"{rule.name} ({rule.enforcement})" for rule in policy.spec.rules)
    click.echo(f"policy {name} is {click.style('enabled', fg='green')} in {tables.policy_reach(policy)}: {rules}")


def _starters() -> dict[str, tuple[Policy, str]]:
    from stoker.protocol.starter import starter as known  # PyYAML takes longer to import than most commands to run

    return known()


def _starter(name: str) -> tuple[Policy, str]:
    known = _starters()
    if name not in known:
        raise NotFound(f"there is no policy {name!r}; those that come with stoker are {', '.join(known)}")
    return known[name]
