"""`stoker deploy`: serve a model version under a name, without writing YAML."""

from dataclasses import dataclass, field
from typing import Any, Final

import click
import msgspec

from stoker.cli.output import show
from stoker.cli.progress import Progress
from stoker.cli.session import Command, Session, checked_name, complete_endpoint, output_option, pairs, project_option
from stoker.cli.values import typed
from stoker.cli.waiting import wait_ready
from stoker.client.control import ControlClient
from stoker.client.views import ApplyResult, EndpointDetail
from stoker.types.errors import NotFound

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
    replicas: int | None = None


@click.command(
    cls=Command,
    example="""
    stoker deploy digits --model digits@1 --wait
    stoker deploy digits --replicas 2 --cpu 0.5
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
@click.option("--replicas", type=click.IntRange(min=0), help="How many replicas run.")
@click.option("--over-budget", is_flag=True, help="Roll out though an error budget's policy freezes rollouts.")
@click.option("--wait/--no-wait", default=False, help="Return when it serves, showing the load.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), default=WAIT_S, help="Seconds --wait waits.")
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
    output: str,
    project: str,
    **given: Any,
) -> None:
    """Serve a model version under a name.

    An endpoint that is there keeps every setting that is not named here; the change becomes a new revision, and the
    old one serves until the new one is ready.
    """
    control = session.control()
    result = apply_endpoint(control, project, name, Wish(**given), over_budget=over_budget)
    detail = control.endpoint(project, name)
    if wait:
        with Progress(f"Deploying {name}") as progress:
            detail = wait_ready(
                control, project, name, generation=detail.generation, timeout_s=timeout_s, progress=progress
            )
    show(detail, output, lambda: _people(result, detail, wait))


def apply_endpoint(
    control: ControlClient, project: str, name: str, wish: Wish, *, over_budget: bool = False
) -> ApplyResult:
    """Create an endpoint, or change what is wished of it; return what that did.

    over_budget: also where the policy of an error budget freezes rollouts.
    """
    try:
        spec: dict[str, Any] = msgspec.to_builtins(control.endpoint(project, name).resource.spec)
    except NotFound:
        if wish.model is None:
            raise click.UsageError(f"there is no endpoint {name} yet; say what it serves with --model") from None
        spec = {}
    said = {"model": wish.model, "task": wish.task, "engine": wish.engine}
    spec.update({key: value for key, value in said.items() if value is not None})
    _merge(spec, "options", {key: typed(text) for key, text in wish.options.items()})
    _merge(spec, "env", wish.env)
    _merge(spec, "resources", {"cpu": wish.cpu, "memory": wish.memory})
    if wish.replicas is not None:
        spec["replicas"] = {"min": wish.replicas, "max": max(1, wish.replicas)}
    manifest = {
        "apiVersion": "stoker/v1",
        "kind": "Endpoint",
        "metadata": {"name": name, "project": project},
        "spec": {key: value for key, value in spec.items() if value is not None},
    }
    return control.apply(msgspec.json.encode(manifest), over_budget=over_budget)[0]


def _merge(spec: dict[str, Any], key: str, new: dict[str, Any]) -> None:
    said = {name: value for name, value in new.items() if value is not None}
    if said:
        spec[key] = {**spec.get(key, {}), **said}


def _people(result: ApplyResult, detail: EndpointDetail, waited: bool) -> str:
    line = f"endpoint {detail.project}/{detail.name} {result.action}"
    if waited:
        return f"{line}, serving {click.style(detail.status.serving, fg='green')}"
    return f"{line}; watch it with `stoker describe {detail.name}`" if result.action != "unchanged" else line
