"""`stoker rollback`: an endpoint returns to an earlier revision."""

import click

from stoker.cli.deploy import WAIT_S
from stoker.cli.output import show
from stoker.cli.progress import Progress
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option
from stoker.cli.waiting import wait_ready


@click.command(
    cls=Command,
    example="""
    stoker rollback digits
    stoker rollback digits --to 3 --wait
    """,
)
@click.argument("name", shell_complete=complete_endpoint)
@click.option("--to", type=click.IntRange(min=1), help="Number of the revision; by default the one before.")
@click.option("--wait/--no-wait", default=False, help="Return when it serves.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), default=WAIT_S, help="Seconds --wait waits.")
@output_option
@project_option
@click.pass_obj
def command(
    session: Session, name: str, to: int | None, wait: bool, timeout_s: float, output: str, project: str
) -> None:
    """Return an endpoint to an earlier revision. The present one serves until that one is ready."""
    control = session.control()
    view = control.rollback(project, name, to)
    if wait:
        with Progress(f"Rolling back {name}") as progress:
            view = wait_ready(
                control, project, name, generation=view.generation, timeout_s=timeout_s, progress=progress
            )
    verb = "serves" if wait else "goes back to"
    show(view, output, lambda: f"endpoint {project}/{name} {verb} {view.resource.spec.model}")
