"""`stoker rollback`: an endpoint returns to an earlier revision; without control, the gateways do it themselves."""

import asyncio
from pathlib import Path
from typing import Final

import click
import msgspec

from stoker.cli.deploy import WAIT_S
from stoker.cli.following import newest
from stoker.cli.output import show
from stoker.cli.progress import Progress
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option, timeout_option
from stoker.cli.waiting import wait_ready
from stoker.client.rollouts import RolloutDetail
from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import connect
from stoker.types.errors import Conflict, DeadlineExceeded, NotReachable, ReplicaLost, StokerError
from stoker.types.rollouts import GoBack, Reverted
from stoker.types.statuses import EndpointView

ASK_TIMEOUT_S: Final = 5.0
TAKEN_BACK: Final = ("rolled-back", "refused")  # phases
# Who goes back is in a hurry: a control that takes longer is as good as none. If it does it later too, nothing is lost.
PATIENCE_S: Final = 5.0


@click.command(
    cls=Command,
    example="""
    stoker rollback digits
    stoker rollback digits --to 3 --wait
    stoker rollback digits --by-gateways
    """,
)
@click.argument("name", shell_complete=complete_endpoint)
@click.option("--to", type=click.IntRange(min=1), help="Number of the revision; by default the one before.")
@click.option("--wait/--no-wait", default=False, help="Return when it serves.")
@timeout_option(WAIT_S)
@click.option(
    "--by-gateways",
    is_flag=True,
    help="Do not ask control: tell the gateways of this machine. Done by itself when control cannot be reached.",
)
@output_option
@project_option
@click.pass_obj
def command(
    session: Session,
    name: str,
    to: int | None,
    wait: bool,
    timeout_s: float,
    by_gateways: bool,
    output: str,
    project: str,
) -> None:
    """Return an endpoint to an earlier revision. The present one serves until that one is ready.

    A rollout that runs is aborted, unless --to names a revision. No gate, budget or step is in the way back.

    When control cannot be reached, the gateways of this machine give all traffic to the revision before at once, if its
    replicas still run, and until control says something new.
    """
    if by_gateways:
        _without_control(session, GoBack(project, name, "stoker rollback --by-gateways", _revision(project, name, to)))
        return
    try:
        control = session.control(PATIENCE_S)
        view = control.rollback(project, name, to)
    except (NotReachable, DeadlineExceeded) as dead:
        click.echo(f"control cannot be reached ({dead.message}); telling the gateways themselves", err=True)
        told = GoBack(
            project, name, "stoker rollback, while control could not be reached", _revision(project, name, to)
        )
        _without_control(session, told)
        return
    rollout = newest(control, project, name)
    if wait:
        with Progress(f"Rolling back {name}") as progress:
            view = wait_ready(
                control,
                project,
                name,
                generation=view.generation,
                timeout_s=timeout_s,
                progress=progress,
                revision=rollout.baseline if rollout is not None and _is_aborted(rollout, view) else "",
            )
    serves = view.status.serving if wait else ""
    show(view, output, lambda: f"endpoint {project}/{name}: {_done(view, rollout, serves, to)}")


def _done(view: EndpointView, rollout: RolloutDetail | None, serves: str, to: int | None) -> str:
    """Return what was done: a rollout aborted, or one begun to the revision before, or to the one that was named."""
    if rollout is not None and _is_aborted(rollout, view):
        verb = "serves" if serves == rollout.baseline else "takes the traffic back"
        return f"rollout {rollout.number} of {rollout.canary} is aborted; {rollout.baseline} {verb}"
    if rollout is not None and not rollout.is_ended:
        verb = "serves" if serves == rollout.canary else "takes the traffic as soon as it is ready, without steps"
        model = f" ({rollout.canary_model})" if rollout.canary_model else ""
        return f"{rollout.canary}{model} {verb}; it was {rollout.baseline}"
    model, serving = view.resource.spec.model, view.status.serving
    is_back = rollout is not None and rollout.phase in TAKEN_BACK and rollout.baseline == serving
    if is_back or (serving and serving == _revision(view.project, view.name, to)):
        return f"it asks for {model} again, which {serving} serves"
    return f"{'serves' if serves else 'goes back to'} {model}"


def _is_aborted(rollout: RolloutDetail, view: EndpointView) -> bool:
    """Whether its baseline gets the traffic back, now or at control's next turn; not where that was over before.

    Who aborts changes no spec. Where a rollout had been rolled back, the spec asks for its baseline again.
    """
    asks_again = view.resource.spec.model == rollout.baseline_model != rollout.canary_model
    if rollout.phase == "rolled-back" and asks_again:
        return False
    return rollout.phase in ("returning", "rolled-back") or rollout.ordered == "abort"


def _revision(project: str, name: str, to: int | None) -> str:
    return f"{project}.{name}-{to}" if to is not None else ""


def _without_control(session: Session, told: GoBack) -> None:
    """Tell every gateway, and say what each did. Raises what the first said when none did it, Conflict when some."""
    sockets = sorted(session.folder.run.glob("gateway-*.sock"))
    if not sockets:
        raise NotReachable(f"no gateway runs in {session.folder.root} either")
    answers = asyncio.run(_tell_all(sockets, told))
    problems = [each for each in answers if isinstance(each, StokerError)]
    for socket, answer in zip(sockets, answers, strict=True):
        said = answer.message if isinstance(answer, StokerError) else f"all traffic goes to {answer.to}"
        click.echo(f"{socket.stem}: {said}")
    if len(problems) == len(answers):
        raise problems[0]
    click.echo("It holds until control says something new of this endpoint. Start control, and roll back there too.")
    if problems:
        raise Conflict(f"{len(problems)} of {len(answers)} gateways did not go back; see above")


async def _tell_all(sockets: list[Path], told: GoBack) -> list[Reverted | StokerError]:
    return list(await asyncio.gather(*(_tell(f"unix:{socket}", told) for socket in sockets)))


async def _tell(address: str, told: GoBack) -> Reverted | StokerError:
    body = msgspec.msgpack.encode(told)
    link = None
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            link = await connect(address)
            call = link.call(RequestHead(method="revert", body_bytes=len(body)), body, kind=Kind.CALL)
            return msgspec.json.decode((await call.answer())[1], type=Reverted)
    except ReplicaLost as gone:
        return NotReachable(gone.message)
    except StokerError as problem:
        return problem
    except TimeoutError:
        return NotReachable(f"does not answer in {ASK_TIMEOUT_S:g} s")
    finally:
        if link is not None:
            link.close()
