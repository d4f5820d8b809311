"""`stoker describe`: everything about one resource on a screen."""

import time
from collections.abc import Sequence

import click
import msgspec

from stoker.cli import budgets, gauges, tables
from stoker.cli.kinds import Kind, split_reference, to_kind
from stoker.cli.output import age, clock, columns, fields, show
from stoker.cli.rollout_page import brief
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option
from stoker.cli.shapes_page import shapes_table
from stoker.cli.slo import budget, percent, state
from stoker.cli.starts_page import starts_table
from stoker.client import policies
from stoker.client.views import EndpointDetail, JournalEntry, ReplicaView, SloView
from stoker.core import mapping
from stoker.types.engines import AUTO
from stoker.types.errors import NotFound
from stoker.types.models import ModelVersion
from stoker.types.placement import DEFAULT_POOL, PlacementSpec
from stoker.types.process import NodeStatus
from stoker.types.resources import EndpointSpec, Policy
from stoker.types.statuses import Condition
from stoker.types.units import format_bytes


@click.command(
    cls=Command,
    example="""
    stoker describe digits
    stoker describe model digits@1
    stoker describe node
    """,
)
@click.argument("words", nargs=-1, required=True, metavar="[KIND] NAME", shell_complete=complete_endpoint)
@output_option
@project_option
@click.pass_obj
def command(session: Session, words: tuple[str, ...], output: str, project: str) -> None:
    """Show everything about one resource. Without KIND an endpoint is meant."""
    kind, name = _target(words)
    control = session.control()
    if kind == "model":
        model, reference = split_reference(name)
        version = control.version(model, reference or str(max(one.number for one in control.versions(model))))
        show(version, output, lambda: _version(version))
    elif kind == "node":
        nodes = [node for node in control.nodes() if name in ("", node.node)]
        if not nodes:
            raise NotFound(f"there is no node {name!r}; `stoker get nodes` lists them")
        show(
            {"items": nodes},
            output,
            lambda: "\n\n".join(_node(node, gauges.gpus(control, node.node)) for node in nodes),
        )
    elif kind == "budget":
        (held,) = budgets.listed(session, name, project)
        show(held, output, lambda: budgets.page(held))
    elif kind == "policy":
        one = policies.find(control, project, name)
        if one is None:
            raise NotFound(f"there is no policy {name!r} in project {project}; `stoker get policies -A` lists all")
        show(one, output, lambda: _policy(one))
    else:
        detail = control.endpoint(project, name)
        show(
            detail,
            output,
            lambda: _endpoint(detail, control.slos(f"{project}/{name}"), gauges.engines(control, project, name)),
        )


def _target(words: tuple[str, ...]) -> tuple[Kind, str]:
    if words == ("node",) or words == ("nodes",):
        return "node", ""
    if len(words) == 1:
        return "endpoint", words[0]
    if len(words) > 2:
        raise click.UsageError(f"one NAME is expected, {len(words) - 1} were given")
    kind = to_kind(None, None, words[0])
    if kind not in ("endpoint", "model", "node", "policy", "budget"):
        raise click.UsageError(f"there is nothing more to say of a {kind}; see `stoker get {kind} {words[1]}`")
    return kind, words[1]


def _endpoint(detail: EndpointDetail, slos: Sequence[SloView], at_work: str) -> str:
    spec = detail.resource.spec
    head = fields(
        [
            ("endpoint", click.style(f"{detail.project}/{detail.name}", bold=True)),
            ("state", tables.state_words(detail)),
            *(_backends(spec) if spec.backends else [("model", spec.model)]),
            ("task", spec.task or ""),
            *([] if spec.backends else _replicas(detail)),
            ("rollout", _rollout(detail)),
            ("fallback", _fallback(spec)),
            ("options", ", ".join(f"{key}={value}" for key, value in spec.options.items())),
            ("generation", f"{detail.generation} ({detail.status.observed_generation} observed)"),
        ]
    )
    return "\n".join(
        [
            head,
            *_section("Mapping", _mapping(spec)),
            *_section("Conditions", _conditions(detail.status.conditions)),
            *_section("Objectives", _objectives(slos)),
            *_section("Replicas", tables.replicas_table(detail.replicas)),
            *_section("In the last minute", at_work),
            *_section("Engines", _engines(detail.replicas)),
            *_section("Starts", starts_table(detail.starts)),
            *_section("Warm-up by shape", shapes_table(detail.shapes)),
            *_section("Revisions", tables.revisions_table(detail.revisions, detail.status)),
            *_section("Journal", journal_lines(detail.journal)),
        ]
    )


def _objectives(slos: Sequence[SloView]) -> str:
    rows = [
        (one.name, percent(one.target), "-" if one.attained is None else percent(one.attained), budget(one), state(one))
        for one in slos
    ]
    return columns(("OBJECTIVE", "TARGET", "ATTAINED", "BUDGET LEFT", "STATE"), rows)


def _replicas(detail: EndpointDetail) -> list[tuple[str, str]]:
    spec = detail.resource.spec
    given = spec.resources
    memory = given.memory if isinstance(given.memory, str) else format_bytes(given.memory)
    noun = "core" if given.cpu == 1 else "cores"
    gpu = f", {given.gpu:g} GPU" if given.gpu else ""
    return [
        ("engine", f"auto, for {spec.goal}" if spec.engine == AUTO else spec.engine or ""),
        ("serving", detail.status.serving),
        ("replicas", f"{detail.status.replicas_ready} ready of {detail.status.replicas_wanted} wanted"),
        ("resources", f"{given.cpu:g} {noun}, {memory} memory{gpu}, each replica"),
        ("placement", _placement(spec.placement)),
    ]


def _placement(placement: PlacementSpec) -> str:
    """Return what is asked of the nodes, "" where nothing is."""
    words = [f"pool {placement.pool}"] if placement.pool != DEFAULT_POOL else []
    if placement.spread == "required":
        words.append("no two replicas on a node")
    if placement.apart:
        words.append(f"apart from {', '.join(placement.apart)}")
    if placement.priority != "standard":
        words.append(placement.priority)
    return "; ".join(words)


def _rollout(detail: EndpointDetail) -> str:
    one = detail.rollout
    if one is None:
        return ""
    more = click.style(f"`stoker rollouts show {detail.name}` says more", dim=True)
    return f"{one.number}: {brief(one)}, from {one.baseline} to {one.canary}; {more}"


def _backends(spec: EndpointSpec) -> list[tuple[str, str]]:
    said = [(one.endpoint, f"when {one.when}" if one.when else f"weight {one.weight}") for one in spec.backends]
    return [("backends" if number == 0 else "", f"{name}  {how}") for number, (name, how) in enumerate(said)]


def _fallback(spec: EndpointSpec) -> str:
    if not spec.fallback:
        return ""
    after = f", after {spec.fallback_after}" if spec.fallback_after else ""
    return f"{', then '.join(spec.fallback)} on {', '.join(spec.fallback_on)}{after}"


def _mapping(spec: EndpointSpec) -> str:
    """Return how what clients know becomes the version's, "" where they are the same."""
    return fields(mapping.lines(spec.mapping)) if spec.mapping is not None else ""


def _engines(replicas: Sequence[ReplicaView]) -> str:
    """Return how engines are set up, and what was measured to choose them; once for replicas that are the same."""
    parts = list(dict.fromkeys(one.engine for one in replicas if one.engine))
    for choice in dict.fromkeys(one.choice for one in replicas if one.choice is not None):
        rows = [
            (
                row.engine,
                row.version or "-",
                f"{row.first_token_s * 1000:.0f} ms" if not row.error else "-",
                f"{row.answer_s:.2f} s" if not row.error else "-",
                f"{row.tokens_per_s:.1f}" if not row.error else "-",
                f"{row.load_s:.1f} s" if not row.error else "-",
                click.style("taken", fg="green") if row.engine == choice.engine else row.error,
            )
            for row in choice.rows
        ]
        header = ("ENGINE", "VERSION", "FIRST TOKEN", "ANSWER ALONE", "TOKENS/S", "LOAD", "")
        parts.append(f"{choice.engine}: {choice.because}")
        if rows:
            parts.append(columns(header, rows, empty=""))
            work = choice.rows[0]
            parts.append(
                click.style(
                    f"measured {age(choice.measured_at_s)} ago: {work.answer_tokens} tokens after a prompt of "
                    f"{work.prompt_tokens}, alone and {work.slots} at once",
                    dim=True,
                )
            )
    return "\n".join(parts)


def _conditions(conditions: Sequence[Condition]) -> str:
    return "\n".join(
        f"{one.type}={click.style(str(one.status), fg='green' if one.status else 'yellow')} "
        f"{one.reason} {click.style(age(one.since_s), dim=True)}\n    {one.message}"
        for one in conditions
    )


def journal_lines(journal: Sequence[JournalEntry]) -> str:
    """Return decisions, oldest first, each with why."""
    return "\n".join(
        f"{click.style(clock(one.at_s), dim=True)}  {one.action}  {click.style(one.because, dim=True)}"
        for one in sorted(journal, key=lambda one: one.at_s)
    )


def _policy(policy: Policy) -> str:
    spec = policy.spec
    head = fields(
        [
            ("policy", click.style(f"{policy.metadata.project}/{policy.metadata.name}", bold=True)),
            ("", spec.description),
            ("state", "enabled" if spec.enabled else click.style("disabled", fg="yellow")),
            ("holds in", tables.policy_reach(policy)),
            ("looks at", f"{', '.join(spec.match.operations)} of {', '.join(spec.match.kinds)}"),
            ("labels", ", ".join(f"{name}={value}" for name, value in spec.match.labels.items())),
            ("no answer", "counts as broken" if spec.failure_policy == "fail" else "is only written down"),
        ]
    )
    rules = "\n".join(
        f"{click.style(rule.name, bold=True)} ({rule.enforcement})  {rule.message}\n"
        f"    {' '.join(rule.expression.split())}"
        for rule in spec.rules
    )
    variables = "\n".join(f"{each.name} = {' '.join(each.expression.split())}" for each in spec.variables)
    return "\n".join([head, *_section("Variables", variables), *_section("Rules", rules)])


def _version(version: ModelVersion) -> str:
    manifest = version.manifest
    head = fields(
        [
            ("model", click.style(version.ref, bold=True)),
            ("aliases", ", ".join(version.aliases)),
            ("format", manifest.format),
            ("tasks", ", ".join(manifest.tasks)),
            *tables.signature_lines(manifest.signature),
            ("size", format_bytes(version.size_bytes)),
            ("trained", clock(manifest.lineage.trained_at_s) if manifest.lineage.trained_at_s else ""),
            ("created", clock(version.created_at_s)),
            ("digest", version.digest),
            ("source", manifest.lineage.source),
            ("options", ", ".join(f"{key}={value}" for key, value in manifest.options.items())),
        ]
    )
    metadata = fields([(key, _short(value)) for key, value in manifest.metadata.items()])
    files = "\n".join(f"{one.path}  {click.style(format_bytes(one.size_bytes), dim=True)}" for one in manifest.files)
    return "\n".join([head, *_section("Read from the model", metadata), *_section("Files", files)])


def _node(node: NodeStatus, gpus: str) -> str:
    lines = "\n".join(
        f"{one.name}  {one.phase}  pid {one.pid}  {format_bytes(one.rss_bytes)}  restarts {one.restarts}"
        + (f"  {tables.last_line(one.last_error)}" if one.last_error else "")
        for one in node.processes
    )
    forks = "\n".join(
        f"{one.imports}  {one.phase}  pid {one.pid}  {format_bytes(one.rss_bytes)}  threads {one.threads}"
        f"  forked {one.forked}" + (f"  {tables.last_line(one.problem)}" if one.problem else "")
        for one in node.forks
    )
    ahead = "\n".join(
        f"{one.model}  {format_bytes(one.cached_bytes)} of {format_bytes(one.size_bytes)} in memory  {one.because}"
        for one in node.ahead
    )
    joined = "\n".join(f"{one.type}={one.status}  {one.reason}: {one.message}" for one in node.conditions)
    if node.conditions:
        ends = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(node.certificate_until_s))
        joined = f"on {node.host}, certificates until {ends}\n{joined}"
    sections = (
        ("Joined", joined),
        ("GPUs", gpus),
        ("Processes", lines),
        ("Fork servers", forks),
        ("Read ahead", ahead),
    )
    return "\n".join([tables.nodes_table([node]), *(line for each in sections for line in _section(*each))])


def _section(title: str, text: str) -> list[str]:
    return ["", click.style(title, bold=True), *(f"  {line}" for line in text.splitlines())] if text else []


def _short(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 200 else text[:199].replace("\n", " ") + "…"
