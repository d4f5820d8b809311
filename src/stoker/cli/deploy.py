"""`stoker deploy`: serve a model version under a name, without writing YAML."""

from dataclasses import dataclass
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
from stoker.cli.session import (
    Command,
    Session,
    checked_name,
    complete_endpoint,
    output_option,
    pairs,
    project_option,
    timeout_option,
)
from stoker.cli.wish import Fields, Wish, changed, contested, in_words, option, values
from stoker.client import endpoints
from stoker.client.connection import ManifestRefused, PolicyRefused
from stoker.client.control import ControlClient
from stoker.client.endpoints import EndpointWritten
from stoker.client.releases import ReleaseClient
from stoker.client.views import ApplyResult, EndpointDetail
from stoker.types.errors import Conflict, NotFound, PreconditionFailed, StokerError
from stoker.types.ids import DEFAULT_PROJECT
from stoker.types.rollouts import Strategy

WAIT_S: Final = 300.0
TRIES_MAX: Final = 20  # each after somebody else's change came in between


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
@timeout_option(WAIT_S)
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
    detail = apply_endpoint(control, project, name, Wish(**given), over_budget=over_budget)
    result = detail.applied
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
) -> EndpointWritten:
    """Create an endpoint, or change what is wished of it, and nothing that others change meanwhile.

    over_budget: also where the policy of an error budget freezes rollouts.

    Raises:
        UsageError: there is no such endpoint, and nothing says what it serves.
        Conflict: others changed the same fields meanwhile, or deleted it, or change it without end.
        ManifestRefused, PolicyRefused: in the words of the command line.
    """
    mine, before = wish.fields(), _look(control, project, name)
    if before.generation == 0 and wish.model is None:
        raise click.UsageError(f"there is no endpoint {name} yet; say what it serves with --model")
    for _ in range(TRIES_MAX):
        manifest = changed({"apiVersion": "stoker/v1", "kind": "Endpoint", **before.values}, mine)
        manifest["metadata"] = {"name": name, "project": project, **manifest.get("metadata", {})}
        try:
            return endpoints.put(
                control, project, name, msgspec.json.encode(manifest), tag=before.tag, over_budget=over_budget
            )
        except PreconditionFailed:
            now = _look(control, project, name)
            _check_unchanged(f"{project}/{name}", mine, before, now)
            before = now
        except (ManifestRefused, PolicyRefused) as wrong:
            raise in_words(wrong, mine, project, name) from wrong
    raise Conflict(
        f"endpoint {project}/{name} was changed by others {TRIES_MAX} times while this change was written; nothing of "
        "it was, run it again"
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """An endpoint as it was read; of one that is not there the generation is 0."""

    values: dict[str, Any]
    tag: str
    generation: int


def _look(control: ControlClient, project: str, name: str) -> _Seen:
    try:
        detail, tag = endpoints.read(control, project, name)
    except NotFound:
        return _Seen({}, endpoints.NEW, 0)
    return _Seen(values(detail.resource), tag, detail.generation)


def _check_unchanged(where: str, mine: Fields, before: _Seen, now: _Seen) -> None:
    """Raise Conflict unless what others did since `before` leaves the change as it was meant."""
    if now.generation == 0 or (now.generation == before.generation and now.values == before.values):
        raise Conflict(
            f"endpoint {where} was deleted while this change was written; nothing of it was. Run it again, with "
            "--model, to have it again"
        )
    others = contested(mine, before.values, now.values)
    if not others:
        return
    made = "made" if before.generation == 0 else "changed"
    asked = " ".join(dict.fromkeys(option(path, mine[path]) for path in others))
    there = ", ".join(dict.fromkeys(_is(path, value) for path, value in others.items()))
    raise Conflict(
        f"somebody else {made} endpoint {where} while this change was written: {there}, and you asked for {asked}. "
        f"Nothing was changed by you; look at it with `stoker describe {where.partition('/')[2]}`, and run it again if "
        "yours is right"
    )


def _is(path: tuple[str, ...], value: object) -> str:
    """Return what a field is now: its option, or that it is not set."""
    return f"{'.'.join(path)} is not set any more" if value is None else f"it has {option(path, value)}"


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
