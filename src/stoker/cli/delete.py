"""`stoker delete`: the end of a resource."""

import time
from typing import Final

import click

from stoker.cli.kinds import Kind, split_reference, to_kind
from stoker.cli.progress import Progress
from stoker.cli.session import Command, Session, complete_endpoint, project_option, timeout_option
from stoker.client import access, alerts, budgets, policies, signed_in
from stoker.client.control import ControlClient
from stoker.types.errors import DeadlineExceeded, InvalidInput, NotFound

POLL_S: Final = 0.15


@click.command(
    cls=Command,
    example="""
    stoker delete endpoint digits --wait
    stoker delete model digits@1
    stoker delete project sandbox
    """,
)
@click.argument("kind", callback=to_kind)
@click.argument("name", shell_complete=complete_endpoint)
@click.option("--wait", is_flag=True, help="Return when an endpoint's last replica is gone.")
@timeout_option(120.0)
@project_option
@click.pass_obj
def command(session: Session, kind: Kind, name: str, wait: bool, timeout_s: float, project: str) -> None:
    """Delete a resource. An endpoint's replicas finish the requests they hold first."""
    control = session.control()
    match kind:
        case "endpoint":
            control.delete_endpoint(project, name)
            if wait:
                _wait_gone(control, project, name, timeout_s)
            click.echo(f"endpoint {project}/{name} {'is gone' if wait else 'is being deleted'}")
        case "model":
            model, reference = split_reference(name)
            if reference is None or not reference.isdigit():
                raise InvalidInput(f"say which version of {model}, by its number: {model}@1")
            control.delete_version(model, int(reference))
            click.echo(f"model {name} deleted")
        case "project":
            control.delete_project(name)
            click.echo(f"project {name} deleted")
        case "key":
            control.revoke_key(name)
            click.echo(f"key {name} revoked")
        case "notifier":
            alerts.delete_notifier(control, project, name)
            click.echo(f"notifier {project}/{name} deleted")
        case "policy":
            policies.delete(control, project, name)
            click.echo(f"policy {project}/{name} deleted; nothing is held to it any more")
        case "budget":
            budgets.delete(control, project, name)
            click.echo(f"budget {project}/{name} deleted; nothing is held to it any more")
        case "role":
            access.delete_role(control, project, name)
            click.echo(f"role {project}/{name} deleted; who has it can do nothing by it any more")
        case "provider":
            signed_in.delete_provider(control.connection, name)
            click.echo(f"identity provider {name} deleted; its sessions have ended")
        case "quota" | "node":
            raise click.UsageError(
                f"take the limit away: stoker quota set {project} {name}=none"
                if kind == "quota"
                else "a node goes when its agent stops; see `stoker down`"
            )


def _wait_gone(control: ControlClient, project: str, name: str, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    with Progress(f"Deleting {name}") as progress:
        while True:
            try:
                left = len(control.endpoint(project, name).replicas)
            except NotFound:
                return
            if time.monotonic() > deadline_s:
                raise DeadlineExceeded(f"{name} still has {left} replicas after {timeout_s:g} s; it goes on by itself")
            progress.step(f"{left} replicas finish what they hold")
            progress.update(0, 0)
            time.sleep(POLL_S)
