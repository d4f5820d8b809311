"""`stoker rollback`: an endpoint returns to an earlier revision."""

import click

from stoker.cli.deploy import WAIT_S
from stoker.cli.following import newest
from stoker.cli.output import show
from stoker.cli.progress import Progress
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option
from stoker.cli.waiting import wait_ready
from stoker.client.rollouts import RolloutDetail
from stoker.types.statuses import EndpointView


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
    """Return an endpoint to an earlier revision. The present one serves until that one is ready.

    A rollout that runs is aborted, unless --to names a revision. No gate, budget or step is in the way back.
    """
    control = session.control()
    view = control.rollback(project, name, to)
    rollout = newest(control, project, name)
    if wait:
        with Progress(f"Rolling back {name}") as progress:
            view = wait_ready(
                control, project, name, generation=view.generation, timeout_s=timeout_s, progress=progress
            )
    serves = view.status.serving if wait else ""
    show(view, output, lambda: f"endpoint {project}/{name}: {_done(view, rollout, serves)}")


def _done(view: EndpointView, rollout: RolloutDetail | None, serves: str) -> str:
    """Return what was done: a rollout aborted, or one begun to the revision before."""
    if rollout is not None and (rollout.phase in ("returning", "rolled-back") or rollout.ordered == "abort"):
        verb = "serves" if serves == rollout.baseline else "takes the traffic back"
        return f"rollout {rollout.number} of {rollout.canary} is aborted; {rollout.baseline} {verb}"
    if rollout is not None and not rollout.is_ended:
        verb = "serves" if serves == rollout.canary else "takes the traffic as soon as it is ready, without steps"
        model = f" ({rollout.canary_model})" if rollout.canary_model else ""
        return f"{rollout.canary}{model} {verb}; it was {rollout.baseline}"
    return f"{'serves' if serves else 'goes back to'} {view.resource.spec.model}"
