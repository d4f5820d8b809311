"""`stoker gameday`: break something on purpose, and see how soon it is found, explained and healed."""

import math
import signal
import time
from pathlib import Path
from typing import Final

import click
import msgspec

from stoker.cli.output import clock, columns, fields, items, show
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option, write_example
from stoker.cli.values import content
from stoker.client.control import ControlClient
from stoker.client.gameday import Plan, Report, Run
from stoker.client.load import Ask, example
from stoker.client.views import EndpointDetail
from stoker.core.gameday import BY_NAME, SCENARIOS, Scenario, obstacle
from stoker.types.errors import Conflict, InvalidInput, NotFound
from stoker.types.faults import FAULT_MAX_S
from stoker.types.models import DEFAULT_ENGINE
from stoker.types.resources import Task
from stoker.types.units import parse_seconds

REPLICAS_MAX: Final = 64  # that control lets one fault be put into
REPORTS_MAX: Final = 100  # the newest are kept
RATES: Final[dict[Task, float]] = {"predict": 20.0, "embed": 10.0, "chat": 1.0}  # of probes, a second
LONG_TIMES: Final = 40
STRANGE_ROWS: Final = 64  # of one request, where a model takes several
STRANGE: Final = 100  # fits every number type, and lies outside of what most models were made for
_EXAMPLE: Final = """
stoker gameday list
stoker gameday run replica-hang --endpoint digits --duration 2m
stoker gameday report
stoker gameday show 20261128-031500-replica-hang
"""


class GamedayGroup(click.Group):
    """The group with its examples."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        write_example(formatter, _EXAMPLE)


def _seconds(ctx: click.Context, parameter: click.Parameter, value: str) -> float:
    try:
        return parse_seconds(value)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong)) from wrong


@click.group(cls=GamedayGroup, no_args_is_help=True)
def command() -> None:
    """Break something on purpose and score what happens: how soon it is found, explained and healed."""


@command.command(name="list", cls=Command, example="stoker gameday list")
@output_option
def list_scenarios(output: str) -> None:
    """List the scenarios."""
    rows = [(each.name, each.does, ", ".join(each.expects), ", ".join(each.tasks)) for each in SCENARIOS]
    show(items(SCENARIOS), output, lambda: columns(("SCENARIO", "WHAT IS DONE", "RIGHT CAUSES", "TASKS"), rows))


@command.command(
    cls=Command,
    example="""
    stoker gameday run replica-kill --endpoint digits
    stoker gameday run replica-hang --endpoint digits --duration 2m --baseline 2m --yes -o json
    """,
)
@click.argument("scenario", metavar="SCENARIO", type=click.Choice(list(BY_NAME)))
@click.option("--endpoint", "-e", "name", required=True, shell_complete=complete_endpoint, help="Where.")
@click.option("--duration", default="60s", callback=_seconds, help="How long the fault lasts; 600s at most.")
@click.option("--baseline", default="60s", callback=_seconds, help="How long is looked before, to know what is normal.")
@click.option("--patience", default="120s", callback=_seconds, help="How long recovery is waited for afterwards.")
@click.option(
    "--rps", type=click.FloatRange(0.5, 200), help="Probes a second.  [default: predict 20, embed 10, chat 1]"
)
@click.option("--data", help="The whole request that probes send, as JSON or @FILE; by default one is made up.")
@click.option("--replica", help="Which replica; by default the first that is ready.")
@click.option("--force", is_flag=True, help="Also while an incident is open.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@output_option
@project_option
@click.pass_obj
def run(session: Session, /, scenario: str, name: str, yes: bool, output: str, project: str, **given: object) -> None:
    """Run SCENARIO, one of `stoker gameday list`, at an endpoint that is marked for it (`gameday: allowed`)."""
    plan = _plan(session, BY_NAME[scenario], project, name, given)
    if not yes:
        click.confirm(
            f"{plan.scenario.does} at {project}/{name}, whose callers may notice. Go on?", abort=True, err=True
        )
    doing = _prepared(session, plan, given)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: nothing is left behind
    because = "it was interrupted"
    try:
        report = doing.go()
        because = "it is over"
    finally:
        doing.close(because)
    _keep(session.folder.gamedays, report)
    show(report, output, lambda: page(report))


@command.command(name="show", cls=Command, example="stoker gameday show 20261128-031500-replica-hang")
@click.argument("report")
@output_option
@click.pass_obj
def show_one(session: Session, report: str, output: str) -> None:
    """Show the score card of one run, by its id or the beginning of it."""
    paths = [path for path in _paths(session.folder.gamedays) if path.stem.startswith(report)]
    found = _read(paths[0]) if paths else None
    if found is None:
        raise NotFound(f"no report {report!r}; `stoker gameday report` lists them")
    show(found, output, lambda: page(found))


@command.command(name="report", cls=Command, example="stoker gameday report -o json")
@output_option
@click.pass_obj
def list_reports(session: Session, output: str) -> None:
    """List the runs that were kept, newest first."""
    found = [one for path in _paths(session.folder.gamedays) if (one := _read(path)) is not None]
    rows = [
        (
            one.id,
            f"{one.project}/{one.endpoint}",
            one.card.outcome,
            _after(one.card.detected_after_s),
            str(one.card.rank or "-"),
            _after(one.card.recovered_after_s),
            f"{one.card.failed}/{one.card.requests}",
            f"{one.score:.2f}",
        )
        for one in found
    ]
    head = ("RUN", "ENDPOINT", "OUTCOME", "DETECTED", "RANK", "GOOD AGAIN", "FAILED", "SCORE")
    show(items(found), output, lambda: columns(head, rows, empty="no runs were kept"))


def page(report: Report) -> str:
    """Return the score card for people."""
    card, marks, scenario = report.card, report.marks, BY_NAME.get(report.scenario)
    told = f"after {_after(card.detected_after_s)} by {marks.detected_by}" if marks.detected_by else "nobody was told"
    causes = ", ".join(marks.causes) or "no cause was named"
    expected = " or ".join(scenario.expects) if scenario is not None else "the right one"
    rank = f"{expected} is number {card.rank}" if card.rank else f"{expected} is not among them"
    diagnosed = f"{_figure(card.diagnosis)}  {causes}; {rank}"
    if scenario is not None and not scenario.expects:
        diagnosed = f"{_figure(card.diagnosis)}  {causes}; no cause that is known is right"
    if card.diagnosis is None:
        diagnosed = "  -   nothing to explain"
    if card.outcome == "absorbed":
        told = "callers saw nothing, so nobody is to be told"
    good = "never" if card.recovered_after_s is None else f"after {_after(card.recovered_after_s)}"
    if card.remediation is None:
        good = "nothing to heal"
    return fields(
        [
            ("run", click.style(report.id, bold=True)),
            ("endpoint", f"{report.project}/{report.endpoint}"),
            ("began", clock(report.began_s)),
            (
                "what",
                f"{scenario.does if scenario is not None else report.scenario} {', '.join(report.replicas)}".strip(),
            ),
            ("outcome", click.style(card.outcome, fg="red" if card.outcome in ("not healed", "missed") else "green")),
            ("detected", f"{_figure(card.detection)}  {told}"),
            ("diagnosed", diagnosed),
            ("good again", f"{_figure(card.remediation)}  {good}"),
            ("protected", f"{_figure(card.protection)}  {card.failed} of {card.requests} requests failed until then"),
            ("newest failure", report.problem),
            ("score", click.style(f"{report.score:.2f}", bold=True)),
        ]
    )


def _plan(session: Session, scenario: Scenario, project: str, name: str, given: dict[str, object]) -> Plan:
    """Return what is to be done. Raises Conflict or InvalidInput for what cannot be, before anything is."""
    control = session.control()
    found = control.endpoint(project, name)
    if found.resource.spec.gameday != "allowed":
        raise Conflict(
            f"{project}/{name} is not marked for game days; put `gameday: allowed` into its spec and apply it",
            field="spec.gameday",
        )
    for one in control.incidents(only_open=True):  # control refuses too, but only after the baseline
        if (one.project, one.endpoint) == (project, name) and not given["force"]:
            raise Conflict(
                f"incident {one.number} is open at {project}/{name}; wait until it is over, or insist with --force"
            )
    duration_s = float(str(given["duration"]))
    if not 0 < duration_s <= FAULT_MAX_S:
        raise InvalidInput(f"a duration of {duration_s:g} s; up to {FAULT_MAX_S:g} s are allowed", field="duration")
    ready = sorted(each.replica for each in found.replicas if each.phase == "ready")
    task, engine = _nature(control, found)
    why = obstacle(scenario, task, engine, len(ready))
    if why:
        raise Conflict(why)
    if scenario.is_silent:
        if not given["data"]:
            raise InvalidInput("give ordinary rows with --data @FILE: those that are made up drift too", field="data")
        drift = control.drift(project, name)
        if drift.is_drifted or not drift.is_watched:
            what = "has drifted already" if drift.is_drifted else "has nothing to drift from"
            raise Conflict(
                f"{project}/{name} {what}; `stoker drift {name}` says more, `stoker drift learn` begins anew"
            )
    replicas = _hurt(scenario, name, ready, str(given["replica"] or ""))
    rate = given["rps"]
    return Plan(
        project=project,
        endpoint=name,
        scenario=scenario,
        replicas=replicas,
        rate=float(str(rate)) if rate else RATES[task],
        baseline_s=float(str(given["baseline"])),
        duration_s=duration_s,
        patience_s=float(str(given["patience"])),
        force=bool(given["force"]),
    )


def _hurt(scenario: Scenario, name: str, ready: list[str], wanted: str) -> tuple[str, ...]:
    """Return the replicas that a fault is put into. Raises InvalidInput or NotFound."""
    if scenario.fault is None:
        return ()
    if scenario.is_everywhere:
        if wanted:
            raise InvalidInput(f"{scenario.name} is done to every replica; leave --replica out", field="replica")
        ready = ready[:REPLICAS_MAX]
    else:
        ready = [wanted] if wanted in ready else [] if wanted else ready[:1]
    if not ready:
        raise NotFound(f"no replica {wanted or 'at all'} of {name} is ready".replace("  ", " "))
    return tuple(ready)


def _prepared(session: Session, plan: Plan, given: dict[str, object]) -> Run:
    control, data = session.control(), session.data(plan.project)
    task, _ = _nature(control, control.endpoint(plan.project, plan.endpoint))
    ask = (
        example(plan.endpoint, task, data.metadata(plan.endpoint) if task == "predict" and not given["data"] else None)
        if not given["data"]
        else _given(plan.endpoint, task, str(given["data"]))
    )
    loaded = ask
    if plan.scenario.load == "long_prompts":
        loaded = example(plan.endpoint, task, None, length=LONG_TIMES)
    elif plan.scenario.load == "drifted_inputs":
        loaded = example(plan.endpoint, task, data.metadata(plan.endpoint), rows=STRANGE_ROWS, value=STRANGE)
    began_s = time.monotonic()

    def say(what: str) -> None:
        click.echo(click.style(f"{time.monotonic() - began_s:7.1f} s  ", dim=True) + what, err=True)

    return Run(control, data.connection, plan, ask, loaded, say)


def _given(endpoint: str, task: Task, text: str) -> Ask:
    path = {"chat": "/v1/chat/completions", "embed": "/v1/embeddings"}.get(task, f"/v2/models/{endpoint}/infer")
    return Ask(path, content(text), {"Content-Type": "application/json"})


def _nature(control: ControlClient, found: EndpointDetail) -> tuple[Task, str]:
    """Return the endpoint's task and the engine that serves it, by its spec or its model's version."""
    serving = next((each for each in found.revisions if each.serving), None)
    if serving is None:
        raise Conflict(f"{found.name} serves nothing yet, so there is nothing to break")
    spec = found.resource.spec
    model, _, number = serving.model.partition("@")
    manifest = control.version(model, number).manifest
    first: Task = next((each for each in RATES if each in manifest.tasks[:1]), "predict")
    return spec.task or first, spec.engine or DEFAULT_ENGINE[manifest.format]


def _keep(folder: Path, report: Report) -> None:
    """Write a report, whole or not at all; the oldest over REPORTS_MAX go."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    half = folder / f"{report.id}.tmp"
    half.write_bytes(msgspec.json.encode(report))
    half.replace(folder / f"{report.id}.json")
    for path in _paths(folder)[REPORTS_MAX:]:
        path.unlink(missing_ok=True)


def _paths(folder: Path) -> list[Path]:
    """Return the reports' files, newest first."""
    return sorted(folder.glob("*.json"), reverse=True)


def _read(path: Path) -> Report | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except (OSError, msgspec.MsgspecError):  # of another version, or torn
        return None


def _after(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"


def _figure(score: float | None) -> str:
    return "  - " if score is None or math.isnan(score) else f"{score:.2f}"
