"""`stoker get`: resources of one kind, or one of them."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from stoker.cli import budgets, providers, quotas, tables
from stoker.cli.kinds import Kind, split_reference, to_kind
from stoker.cli.output import items, show
from stoker.cli.session import Command, Session, project_option
from stoker.client import access, alerts, policies
from stoker.client.control import ControlClient
from stoker.types.errors import NotFound
from stoker.types.statuses import EndpointView

_NAME_OF: Final = {"project": "name", "node": "node", "key": "id"}


@click.command(
    cls=Command,
    example="""
    stoker get endpoints
    stoker get endpoint digits -o manifest > digits.yaml
    stoker get models -o json
    """,
)
@click.argument("kind", callback=to_kind, default="endpoint")
@click.argument("name", required=False)
@click.option("-A", "--all-projects", is_flag=True, help="Endpoints, policies, budgets and quotas of every project.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml", "manifest"]),
    default="table",
    help="How to print; manifest: as YAML that `stoker apply -f -` takes (endpoints, policies).",
)
@project_option
@click.pass_obj
def command(session: Session, kind: Kind, name: str | None, all_projects: bool, output: str, project: str) -> None:
    """List resources, or get one.

    KIND is endpoint, model, project, node, key, notifier, policy, budget, quota, role or provider.
    """
    control = session.control()
    if kind == "endpoint":
        _endpoints(control, name, None if all_projects else project, output)
        return
    if kind == "policy":
        _policies(control, name, None if all_projects else project, output)
        return
    if kind == "budget":
        held = budgets.listed(session, name, None if all_projects else project)
        show(items(held), output, lambda: budgets.table(held))
        return
    if kind == "quota":
        found = quotas.listed(session, name, None if all_projects else project)
        show(items(found), output, lambda: quotas.table(found))
        return
    if output == "manifest":
        raise click.UsageError("-o manifest is for endpoints and policies; use -o yaml")
    _others(control, kind, name, output)


def _endpoints(control: ControlClient, name: str | None, project: str | None, output: str) -> None:
    views: Sequence[EndpointView]
    if name is not None and project is not None:
        views = (control.endpoint(project, name),)
    else:
        views = [one for one in control.endpoints(project) if name in (None, one.name)]
    if output == "manifest":
        show_manifests(views)
        return
    value: Any = views[0] if name is not None and len(views) == 1 else items(views)
    show(value, output, lambda: tables.endpoints_table(views))


def _others(control: ControlClient, kind: Kind, name: str | None, output: str) -> None:
    match kind:
        case "model":
            _models(control, name, output)
        case "project":
            _listed(control.projects(), tables.projects_table, {"project": name}, output)
        case "node":
            _listed(control.nodes(), tables.nodes_table, {"node": name}, output)
        case "notifier":
            _notifiers(control, name, output)
        case "role":
            _roles(control, name, output)
        case "provider":
            providers.listed(control, name, output)
        case _:
            _listed(control.keys(), tables.keys_table, {"key": name}, output)


def _listed(
    found: Sequence[Any], table: Callable[[Sequence[Any]], str], asked: dict[str, str | None], output: str
) -> None:
    """Print everything found, or the one that is `asked` for by its kind and name."""
    ((kind, name),) = asked.items()
    if name is None:
        show(items(found), output, lambda: table(found))
        return
    one = [value for value in found if name == getattr(value, _NAME_OF[kind])]
    if not one:
        raise NotFound(f"there is no {kind} {name!r}; `stoker get {kind}s` lists them")
    show(one[0], output, lambda: table(one))


def _notifiers(control: ControlClient, name: str | None, output: str) -> None:
    found = [one for one in alerts.notifiers(control) if name in (None, one.metadata.name)]
    if name is not None and not found:
        raise NotFound(f"there is no notifier {name!r}; `stoker get notifiers` lists them")
    show(items(found), output, lambda: tables.notifiers_table(found))


def _roles(control: ControlClient, name: str | None, output: str) -> None:
    found = [one for one in access.roles(control) if name in (None, one.metadata.name)]
    if name is not None and not found:
        raise NotFound(f"there is no role {name!r} of your own; `stoker members roles` lists all there are")
    show(items(found), output, lambda: tables.roles_table(found, with_usual=name is None))


def _policies(control: ControlClient, name: str | None, project: str | None, output: str) -> None:
    """Print the policies of a project, and those of others that hold in every one."""
    found = [
        one
        for one in policies.everything(control)
        if name in (None, one.metadata.name) and (project in (None, one.metadata.project) or one.spec.all_projects)
    ]
    if name is not None and not found:
        raise NotFound(f"there is no policy {name!r}; `stoker get policies -A` lists all of them")
    if output == "manifest":
        from stoker.protocol import manifest  # PyYAML takes longer to import than most commands to run

        click.echo(manifest.to_yaml(list(found), defaults=False), nl=False)
        return
    show(items(found), output, lambda: tables.policies_table(found))


def _models(control: ControlClient, name: str | None, output: str) -> None:
    model, reference = split_reference(name or "")
    if reference is not None:
        one = control.version(model, reference)
        show(one, output, lambda: tables.versions_table([one]))
        return
    found = control.versions(model) if model else control.models()
    show(items(found), output, lambda: tables.versions_table(found))


def show_manifests(views: Sequence[EndpointView]) -> None:
    """Print endpoints as a person would write them: defaults left out, ready to be applied again."""
    from stoker.protocol import manifest  # PyYAML takes longer to import than most commands to run

    click.echo(manifest.to_yaml([view.resource for view in views], defaults=False), nl=False)
