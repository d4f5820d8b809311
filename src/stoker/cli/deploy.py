"""`stoker deploy`: serve a model version under a name, without writing YAML."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

import click
import msgspec

from stoker.cli import following
from stoker.cli.apply import taken_back_lines, warning_lines
from stoker.cli.exits import Exit
from stoker.cli.following import Followed, Follower
from stoker.cli.following import newest as newest_rollout
from stoker.cli.output import show
from stoker.cli.progress import Progress
from stoker.cli.release import Passing
from stoker.cli.session import Command, Session, checked_name, complete_endpoint, output_option, pairs, project_option
from stoker.cli.values import typed
from stoker.client.control import ControlClient
from stoker.client.releases import ReleaseClient
from stoker.client.views import ApplyResult, EndpointDetail
from stoker.types.errors import NotFound, StokerError
from stoker.types.ids import DEFAULT_PROJECT
from stoker.types.rollouts import Strategy

WAIT_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of an endpoint; None and empty keep what is there, or the default."""

    model: str | None = None
    task: str | None = None
    engine: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    cpu: float | None = None
    memory: str | None = None
    gpu: float | None = None
    replicas: int | None = None
    strategy: Strategy | None = None
    steps: tuple[int, ...] = ()
    dwell: str | None = None
    requests_min: int | None = None
    labels: dict[str, str] = field(default_factory=dict)


def _percents(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in value.split(",")) if value else ()
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of percent, such as 5,25,50") from None


@click.command(
    cls=Command,
    example="""
    stoker deploy digits --model digits@1 --wait
    stoker deploy digits --replicas 2 --cpu 0.5
    stoker deploy digits --model digits@2 --strategy canary --steps 5,25,50 --wait --timeout 3600
    stoker deploy assistant --model smol --option context=4096 --memory 2Gi --wait
    """,
)
@click.argument("name", callback=checked_name, shell_complete=complete_endpoint)
@click.option("--model", help="NAME, NAME@2, NAME@ALIAS or NAME@sha256:…; needed for a new endpoint.")
@click.option("--task", type=click.Choice(["predict", "embed", "chat"]), help="By default what the model says.")
@click.option("--engine", help="By default the engine of the model's format.")
@click.option("--option", "options", multiple=True, callback=pairs, metavar="KEY=VALUE", help="Engine option.")
@click.option("--env", multiple=True, callback=pairs, metavar="KEY=VALUE", help="Environment of the replicas.")
@click.option("--cpu", type=click.FloatRange(min=0, min_open=True), help="Cores of one replica.")
@click.option("--memory", help="Memory of one replica, such as 512Mi or 2Gi.")
@click.option("--gpu", type=click.FloatRange(min=0), help="GPUs of one replica: 0.5 is half of one, 2 are whole ones.")
@click.option("--replicas", type=click.IntRange(min=0), help="How many replicas run.")
@click.option(
    "--strategy", type=click.Choice(get_args(Strategy)), help="How the new revision gets the traffic, from now on."
)
@click.option("--steps", callback=_percents, metavar="5,25,50", help="Percent of the traffic of a canary's steps.")
@click.option("--dwell", help="The least time of a step, such as 60s.")
@click.option("--requests-min", type=click.IntRange(min=1), help="Requests that a step needs before the next.")
@click.option("--label", "labels", multiple=True, callback=pairs, metavar="KEY=VALUE", help="Label of the endpoint.")
@click.option("--over-budget", is_flag=True, help="Roll out though an error budget's policy freezes rollouts.")
@click.option(
    "--wait/--no-wait", default=False, help="Return when it serves or was rolled back, showing how far it is."
)
@click.option(
    "--junit", type=click.Path(dir_okay=False, path_type=Path), help="With --wait: a test report of the rollout."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=WAIT_S,
    help=f"Seconds --wait waits.  [default: {WAIT_S:g}]",
)
@output_option
@project_option
@click.pass_obj
def command(
    session: Session,
    /,
    name: str,
    over_budget: bool,
    wait: bool,
    timeout_s: float,
    junit: Path | None,
    output: str,
    project: str,
    **given: Any,
) -> int:
    """Serve a model version under a name.

    An endpoint that is there keeps every setting that is not named here; the change becomes a new revision, and the
    old one serves until the new one is ready and has passed its gates. With --wait these are shown as they are decided,
    and a rollout is followed to its end: 0 when it was promoted, 11 when it was rolled back, 4 when it was refused, 12
    when it waits for somebody, 6 after --timeout.
    """
    if junit is not None and not wait:
        raise click.UsageError("--junit tells how a rollout ended; it needs --wait")
    control = session.control()
    last = newest_rollout(control, project, name)
    result = apply_endpoint(control, project, name, Wish(**given), over_budget=over_budget)
    detail = control.endpoint(project, name)
    if not wait:
        show(detail, output, lambda: _people(result, detail))
        return Exit.OK
    follower = Follower(control, project, name, last.number if last is not None else 0, given["model"] or "")
    followed = _followed(session, follower, detail, timeout_s, junit)
    show(followed.detail, output, lambda: _ended(result, followed))
    return followed.exit


def _followed(
    session: Session, follower: Follower, detail: EndpointDetail, timeout_s: float, junit: Path | None
) -> Followed:
    """Return how the change ended, with a report of it in `junit`, also where it came to no end. Raises as `follow`."""
    passing = Passing(ReleaseClient(session.control().connection), follower.project, follower.name)
    try:
        with Progress(f"Deploying {follower.name}") as progress:
            followed = follower.follow(detail.generation, timeout_s, progress, passing.look)
    except StokerError as problem:
        if junit is not None:
            following.junit_failure(detail, problem, junit)
        raise
    except KeyboardInterrupt:
        click.echo(following.goes_on(detail), err=True)
        raise
    if junit is not None:
        following.junit_report(followed, junit)
    return followed


def apply_endpoint(
    control: ControlClient, project: str, name: str, wish: Wish, *, over_budget: bool = False
) -> ApplyResult:
    """Create an endpoint, or change what is wished of it; return what that did.

    over_budget: also where the policy of an error budget freezes rollouts.
    """
    try:
        resource = control.endpoint(project, name).resource
        spec: dict[str, Any] = msgspec.to_builtins(resource.spec)
        labels = {**resource.metadata.labels, **wish.labels}
    except NotFound:
        if wish.model is None:
            raise click.UsageError(f"there is no endpoint {name} yet; say what it serves with --model") from None
        spec, labels = {}, wish.labels
    said = {"model": wish.model, "task": wish.task, "engine": wish.engine}
    spec.update({key: value for key, value in said.items() if value is not None})
    _merge(spec, "options", {key: typed(text) for key, text in wish.options.items()})
    _merge(spec, "env", wish.env)
    _merge(spec, "resources", {"cpu": wish.cpu, "memory": wish.memory, "gpu": wish.gpu})
    rollout: dict[str, Any] = {"strategy": wish.strategy, "steps": wish.steps or None, "dwell": wish.dwell}
    _merge(spec, "rollout", {**rollout, "requests_min": wish.requests_min})
    if wish.replicas is not None:
        spec["replicas"] = {"min": wish.replicas, "max": wish.replicas}
    manifest = {
        "apiVersion": "stoker/v1",
        "kind": "Endpoint",
        "metadata": {"name": name, "project": project, "labels": labels},
        "spec": {key: value for key, value in spec.items() if value is not None},
    }
    return control.apply(msgspec.json.encode(manifest), over_budget=over_budget)[0]


def _merge(spec: dict[str, Any], key: str, new: dict[str, Any]) -> None:
    said = {name: value for name, value in new.items() if value is not None}
    if said:
        spec[key] = {**spec.get(key, {}), **said}


def _people(result: ApplyResult, detail: EndpointDetail) -> str:
    line = f"endpoint {detail.project}/{detail.name} {result.action}"
    if result.action != "unchanged":
        where = "" if detail.project == DEFAULT_PROJECT else f" -p {detail.project}"
        line = f"{line}; watch it with `stoker describe {detail.name}{where}`"
    return "\n".join([line, *warning_lines(result), *taken_back_lines(result)])


def _ended(result: ApplyResult, followed: Followed) -> str:
    detail, rollout = followed.detail, followed.rollout
    warned = warning_lines(result)
    line = f"endpoint {detail.project}/{detail.name} {result.action}"
    if followed.replaced:
        return "\n".join([line, *warned, click.style(following.replaced(followed), fg="red")])
    if rollout is not None and (followed.exit != Exit.OK or rollout.strategy != "direct"):
        back = result.taken_back
        hint = f"  `stoker rollouts retry {detail.name}` tries it again" if back is not None and not back.begins else ""
        return "\n".join(filter(None, [line, *warned, following.outcome(rollout), hint]))
    return "\n".join([f"{line}, serving {click.style(detail.status.serving, fg='green')}", *warned])
