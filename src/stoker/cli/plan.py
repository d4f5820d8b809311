"""`stoker plan`: how large an endpoint should be, from what came, what is promised and what replicas cost."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from stoker.cli.output import show
from stoker.cli.progress import Progress
from stoker.cli.session import Command, Session, output_option, project_option
from stoker.cli.simulate import LOADS, Seconds, write

if TYPE_CHECKING:
    from stoker.cli.plan_load import Sent
    from stoker.cli.plan_platform import Known
    from stoker.sim.arrivals import Arrivals
    from stoker.sim.sizing.demand import Demand
    from stoker.sim.sizing.trial import Kind
    from stoker.sim.sizing.validation import Validation
    from stoker.types.resources import EndpointSpec

_Function = TypeVar("_Function", bound=Callable[..., Any])
LOAD_MAX_S: Final = 600.0


class Moment(click.ParamType[float]):
    """A moment as `mon 08:00`, with a zone where it is not UTC, or as a date."""

    name = "moment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it in unix time."""
        from stoker.sim.calendar import moment

        try:
            return moment(str(value))
        except ValueError as wrong:
            self.fail(str(wrong), param, ctx)


def _file(name: str, words: str) -> Callable[[_Function], _Function]:
    return click.option(
        f"--{name}", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", default=None, help=words
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """The options, as they are said in the help."""

    endpoint: str | None
    trace: Path | None
    load: str | None
    times: float
    manifest: Path | None
    engine: str | None
    slo: str | None
    prices: Path | None
    cold_start_s: float | None
    cores: float | None
    may_sleep: bool
    replicas_max: int
    seed: int
    project: str
    settings: tuple[str, ...]
    begins_s: float | None
    is_validated: bool
    is_recorded: bool
    lasts_s: float
    rate: float | None
    is_agreed: bool


@click.command(
    cls=Command,
    example="""
    stoker plan chat --slo ttft_p95=500ms --prices prices.yaml --html plan.html
    stoker plan chat --set replicas.max=6 --set scaling.utilization=0.7
    stoker plan chat --set 'scaling.schedules=[{begin: "07:45", end: "18:00", zone: Europe/Berlin, min: 4}]'
    stoker plan chat --validate --for 4m --rate 0.5
    stoker plan --load day --engine language --slo ttft_p95=2s
    stoker plan --trace yesterday.csv --engine engine.yaml --slo ttft_p95=500ms --prices prices.yaml
    stoker plan chat --manifest endpoints.yaml --trace yesterday.csv --engine engine.yaml --cold-start 2m
    """,
)
@click.argument("endpoint", required=False)
@_file(
    "trace",
    "Recorded arrivals: CSV with TIMESTAMP, ContextTokens, GeneratedTokens, or JSONL with timestamp (ms), "
    "input_length, output_length.",
)
@click.option("--load", type=click.Choice(LOADS), help="A shape of arrivals instead, to try it out.")
@click.option("--times", type=click.FloatRange(0.01, 1000), default=1.0, show_default=True,
              help="So many times the load's rate.")  # fmt: skip
@_file("manifest", "Where the endpoint's objectives, scaling, limits and cores are; ENDPOINT, if it has several.")
@click.option(
    "--engine",
    metavar="FILE|NAME",
    help="How work takes time in a replica: a YAML file with places, batches or language as in a plan of `stoker "
    "simulate`, or one of these names for its usual numbers.  [default: as measured]",
)
@click.option(
    "--slo",
    metavar="TEXT",
    help="What is promised, such as ttft_p95=500ms,latency_p99=5s.  [default: the manifest's objectives]",
)
@_file("prices", "What replicas cost: YAML with pools, each with node_hour, core_hour, gpu_hour or replica_hour.")
@click.option(
    "--cold-start", "cold_start_s", type=Seconds(), help="From order to ready.  [default: as measured, or 40s]"
)
@click.option("--cores", type=click.FloatRange(0.01, 1024), help="Of a replica.  [default: the manifest's, or 1]")
@click.option("--sleep", "may_sleep", is_flag=True, help="No replica may run while nobody asks.")
@click.option("--max", "replicas_max", type=click.IntRange(1, 1000), default=64, show_default=True,
              help="Most replicas there may be.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same gives the same plan.")
@_file("html", "Write a page with pictures of the plan.")
@_file("svg", "Write the pictures alone.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="PATH=VALUE",
    help="What if: compare the endpoint as it is with one of which this is changed, such as replicas.max=6.",
)
@click.option(
    "--begins",
    "begins_s",
    type=Moment(),
    help="With --set, for schedules: when what came began, such as 'mon 08:00 Europe/Berlin'.  [default: as recorded]",
)
@click.option(
    "--validate",
    "is_validated",
    is_flag=True,
    help="Send a short load, and say how far the simulation of the endpoint as it is was from what became of it.",
)
@click.option("--for", "lasts_s", type=Seconds(), default="60s", show_default=True,
              help="How long --validate sends (of a --trace, its beginning); 10m at most.")  # fmt: skip
@click.option(
    "--rate",
    type=click.FloatRange(0.01, 200),
    help="Requests a second of --validate.  [default: of the endpoint's busiest minute, or what keeps it half busy]",
)
@click.option("--recorded", "is_recorded", is_flag=True,
              help="With --validate: send nothing; take what came in the last day.")  # fmt: skip
@click.option("--yes", "-y", "is_agreed", is_flag=True, help="Do not ask before load is sent.")
@project_option
@output_option
@click.pass_obj
def command(session: Session, /, html: Path | None, svg: Path | None, output: str, **given: Any) -> None:
    """Find the cheapest range of replicas that keeps what is promised, what it costs, and what more load would do.

    The arrivals are replayed on virtual time against the functions that run live. A range is chosen on one course of
    the day and must hold on others, by more than chance.
    """
    asked = Asked(**given)
    from stoker.cli import plan_files
    from stoker.cli.plan_text import text
    from stoker.sim.sizing import chart, page
    from stoker.sim.sizing.search import Search

    if not asked.is_validated and (asked.is_recorded or asked.rate is not None):
        raise click.UsageError("--recorded and --rate are of --validate")
    if asked.begins_s is not None and not asked.settings:
        raise click.UsageError("--begins is of --set: a range is looked for without schedules")
    if asked.is_validated and not asked.is_recorded:
        _validate_by_load(asked, session, output)
        return
    known = _known(asked, session)
    spec = known.spec if known is not None else plan_files.spec(asked.manifest, asked.endpoint)
    recorded, title = _recorded(asked, known)
    if asked.settings:
        if html is not None or svg is not None:
            raise click.UsageError("--set compares two ways in numbers; pictures are of a plan")
        _what_if(asked, spec, known, recorded, output)
        return
    if asked.is_validated:
        _validate(asked, known, output)
        return
    least = 0 if asked.may_sleep or spec.replicas.min == 0 else 1
    search = Search(_kind(asked, spec, known), recorded, plan_files.pools(asked.prices), asked.replicas_max, asked.seed)
    with Progress("Planning") as progress:

        def told(what: str, done: float, total: float) -> None:
            progress.step(what)
            progress.update(done, total)

        answer = search.run(least=least, is_priced=asked.prices is not None, told=told)
    if html is not None:
        write(html, page.page(answer, title))
    if svg is not None:
        write(svg, chart.whole(answer, title))
    show(answer, output, lambda: text(answer, (*(known.said if known is not None else ()), *_left_out(spec))))
    for file in (html, svg):
        if file is not None and output == "table":
            click.echo(f"picture: {file}")


def _what_if(asked: Asked, spec: "EndpointSpec", known: "Known | None", recorded: "Arrivals", output: str) -> None:
    """Compare the endpoint with one of which `asked.settings` are changed."""
    from stoker.cli import plan_change, plan_files
    from stoker.sim.sizing.change import compared

    kind, pools = _kind(asked, spec, known, recorded), plan_files.pools(asked.prices)
    if len(pools) > 1:
        raise click.UsageError("--set compares on one pool: give a price list with the one that the endpoint runs on")
    then = plan_change.changed(spec, asked.settings)
    ways = (kind, plan_change.range_of(spec)), (_kind(asked, then, known, recorded), plan_change.range_of(then))
    with Progress("Comparing") as progress:

        def told(what: str, done: float, total: float) -> None:
            progress.step(what)
            progress.update(done, total)

        found = compared(*ways, pools[0], recorded, asked.seed, told)
    show(found, output, lambda: plan_change.text(found, kind.slos, asked.prices is not None))


def _validate(asked: Asked, known: "Known | None", output: str) -> None:
    """Compare the simulation of the endpoint as it is with what its platform measured."""
    from stoker.sim.sizing.demand import sampled
    from stoker.sim.sizing.trial import states

    if known is None or asked.trace is not None or asked.load is not None:
        raise click.UsageError("--validate is for an ENDPOINT of a platform that runs, and what came to it")
    kind = _kind(asked, known.spec, known, known.recorded)
    demand = sampled(known.recorded, states=states((kind,), known.recorded))
    _show_validation(_compared(kind, known.spec, demand, known.measured, asked.seed), output)


def _validate_by_load(asked: Asked, session: Session, output: str) -> None:
    """Send a short load, and compare the simulation of the endpoint as it is with what became of it."""
    from stoker.cli import plan_load
    from stoker.sim.sizing.demand import between

    if asked.endpoint is None or any((asked.load, asked.manifest, asked.settings)):
        raise click.UsageError("--validate is for an ENDPOINT of a platform that runs, as it is")
    if asked.trace is not None and asked.rate is not None:
        raise click.UsageError("one of --trace and --rate, not both: a trace has its own")
    if not 0 < asked.lasts_s <= LOAD_MAX_S:
        raise click.UsageError(f"--for {asked.lasts_s:g}s: a load lasts up to {LOAD_MAX_S:g}s")
    trace = _recorded(asked, None)[0] if asked.trace is not None else None
    if trace is not None:
        trace = between(trace, 0.0, min(asked.lasts_s, trace.duration_s))
    wanted = plan_load.Wanted(
        asked.project, asked.endpoint, asked.lasts_s, asked.rate, asked.seed, asked.is_agreed, trace
    )
    _show_validation(_judged(asked, plan_load.sent(session, wanted)), output)


def _judged(asked: Asked, sent: "Sent") -> "Validation":
    """Compare a load with the simulation of it: by the engine as the load paced it, and as the day before knew it."""
    from stoker.cli import plan_files
    from stoker.cli.plan_change import range_of
    from stoker.sim.sizing import traced, validation

    spec, arrivals = sent.known.spec, sent.arrivals
    counted = range_of(spec)
    with Progress("Validating") as progress:

        def told(what: str, done: float, total: float) -> None:
            progress.step(what)
            progress.update(done, total)

        known = sent.scaled(_kind(replace(asked, engine=None), spec, sent.known))
        kinds = traced.fitted(known, counted, arrivals, sent.traces)
        if asked.cold_start_s is None:
            kinds = traced.started(kinds, sent.known.starts)
        said = "fitted to this load, each half of its stretches judged by the other"
        if asked.engine is not None:
            kinds, said = (
                tuple(replace(each, engine=plan_files.engine(asked.engine)) for each in kinds),
                f"as {asked.engine} says",
            )
        lines = validation.judged(kinds, counted, arrivals, sent.measured, asked.seed, told)
        by_day: tuple[validation.Checked, ...] = ()
        if asked.engine is None and sent.before is not None:
            day = sent.scaled(_kind(asked, spec, sent.before))
            by_day = validation.judged((day,), counted, sent.prompts, sent.measured, asked.seed, told)
    found = validation.Validation(len(arrivals), arrivals.duration_s, lines, engine=said, by_day=by_day)
    return sent.told(found)


def _compared(
    kind: "Kind", spec: "EndpointSpec", demand: "Demand", measured: dict[str, float], seed: int
) -> "Validation":
    from stoker.cli.plan_change import range_of
    from stoker.sim.sizing.validation import validated

    with Progress("Validating") as progress:

        def told(what: str, done: float, total: float) -> None:
            progress.step(what)
            progress.update(done, total)

        return validated(kind, range_of(spec), demand, measured, seed, told)


def _show_validation(found: "Validation", output: str) -> None:
    from stoker.cli import plan_validate

    show(found, output, lambda: plan_validate.text(found))


def _known(asked: Asked, session: Session) -> "Known | None":
    """Return what the platform knows of the endpoint, unless a manifest describes it."""
    if asked.endpoint is None or asked.manifest is not None:
        return None
    from stoker.cli.plan_platform import ask, lately

    control = session.control()
    found = control.endpoint(asked.project, asked.endpoint)
    known = ask(control.query, found.resource.spec, asked.project, asked.endpoint, asked.seed)
    return replace(known, starts=lately(found))


def _recorded(asked: Asked, known: "Known | None") -> "tuple[Arrivals, str]":
    """Return what came, and what it is called."""
    from stoker.sim import arrivals, traces
    from stoker.sim.sizing.demand import sized

    if asked.trace is not None and asked.load is not None:
        raise click.UsageError("one of --trace and --load, not both")
    if asked.times != 1.0 and asked.load is None:
        raise click.UsageError("--times is for --load; a trace is as it was recorded")
    if asked.trace is not None:
        return sized(traces.read(asked.trace)), asked.trace.name
    if asked.load is not None:
        return arrivals.make(asked.load, asked.seed, times=asked.times), asked.load
    if known is not None:
        return known.recorded, f"{asked.endpoint}, its last day"
    raise click.UsageError(
        "say what comes: an ENDPOINT of a platform that runs, --trace FILE, or --load SHAPE to try it out"
    )


def _left_out(spec: "EndpointSpec") -> tuple[str, ...]:
    """Return what of an endpoint a search for a range does not look at, in words."""
    words = "its schedules are left out: the range is what holds without them; --set says what a schedule does"
    return (words,) if spec.scaling.schedules else ()


def _kind(asked: Asked, spec: "EndpointSpec", known: "Known | None", recorded: "Arrivals | None" = None) -> "Kind":
    """Return what is simulated. recorded: what comes, where schedules are followed, which need to know when."""
    from stoker.cli import plan_files
    from stoker.core.scale.policy import policy_of
    from stoker.sim.platform.plan import Started
    from stoker.sim.sizing import slos
    from stoker.sim.sizing.trial import COLD_START_S, Kind
    from stoker.types.units import parse_seconds

    promised = slos.parse(asked.slo) if asked.slo is not None else slos.promised(spec.slos)
    if asked.is_validated and not promised:  # nothing is judged by it
        promised = (slos.Slo("latency", 0.95, parse_seconds(spec.limits.timeout)),)
    if not promised:
        raise click.UsageError(
            "say what is promised: --slo ttft_p95=500ms, or an endpoint with an objective of latency or ttft"
        )
    cold_start_s, starts = asked.cold_start_s, tuple[Started, ...]()
    if cold_start_s is None:
        starts = tuple(Started(each.whole_s) for each in known.starts) if known is not None else ()
        cold_start_s = (known.cold_start_s if known is not None else None) or COLD_START_S
    measured = known if asked.engine is None else None
    schedules = spec.scaling.schedules if recorded is not None else ()
    began_s = asked.begins_s if asked.begins_s is not None or recorded is None else recorded.began_s
    if schedules and began_s is None:
        raise click.UsageError("schedules need to know when what comes began: say --begins 'mon 08:00'")
    return Kind(
        measured.engine if measured is not None else plan_files.engine(asked.engine or plan_files.ENGINES[0]),
        promised,
        cold_start_s,
        asked.cores if asked.cores is not None else spec.resources.cpu,
        policy_of(spec, gateways=1),
        parse_seconds(spec.limits.timeout),
        spec.limits.queue_max,
        measured.around_s if measured is not None else (),
        starts=starts,
        began_s=began_s or 0.0,
        schedules=schedules,
    )
