"""`stoker simulate`: scaling policies side by side on the same simulated load, or a whole platform from a plan."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from stoker.cli.output import columns, show
from stoker.cli.progress import Progress
from stoker.cli.session import Command
from stoker.types.errors import InvalidInput
from stoker.types.units import parse_seconds

if TYPE_CHECKING:
    from stoker.sim.compare import Draw, Figure, Row
    from stoker.sim.endpoint import Terms
    from stoker.sim.policies import Make
    from stoker.sim.service import Service

    Source = tuple[Draw, Service]  # of a seed, its arrivals; what a request takes

OURS: Final = "stoker"
POLICIES: Final = "stoker,kpa,ray,hpa"
LOADS: Final = ("step", "spike", "sine", "gamma", "edge", "poisson", "day", "bursts")
HEADINGS: Final = ("POLICY", "LATE", "REPLICA-HOURS", "WAIT P50", "P95", "P99", "CHANGES/H")
COLOURS: Final = {"better": "green", "trade": "yellow", "same": None, "worse": "red"}


class Seconds(click.ParamType[float]):
    """A time as `40`, `40s`, `250ms` or `1h`."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it in seconds."""
        try:
            return parse_seconds(value if isinstance(value, float | int) else str(value))
        except ValueError as wrong:
            self.fail(str(wrong), param, ctx)


@dataclass(frozen=True, slots=True)
class Asked:
    """The options, as they are said in the help."""

    names: str
    cold_start_s: float
    least: int
    most: int
    places: int
    service_s: float
    late_s: float
    times: float
    seeds: int
    seed: int
    chart: Path | None
    output: str

    @property
    def numbers(self) -> list[int]:
        """The seeds."""
        return list(range(self.seed, self.seed + self.seeds))


class Comparison(msgspec.Struct, frozen=True):
    """What `-o json` prints. verdicts: how ours stands against each of the others (see sim/compare.py)."""

    load: str
    seeds: list[int]
    late_s: float
    cold_start_s: float
    rows: "list[Row]"
    verdicts: dict[str, str]


@click.command(
    cls=Command,
    example="""
    stoker simulate --load spike
    stoker simulate --load step --cold-start 2m --policy stoker,kpa,ray,hpa,fixed-6 --chart spike.html
    stoker simulate --trace azure_llm_2023_code.csv --seeds 5 -o json
    stoker simulate --plan platform.yaml --policy stoker,hpa
    """,
)
@click.option("--load", type=click.Choice(LOADS), help="The shape of arrivals, an hour of it.  [default: spike]")
@click.option(
    "--trace",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Recorded arrivals instead: CSV with TIMESTAMP, ContextTokens, GeneratedTokens, or JSONL with timestamp (ms), "
    "input_length, output_length.",
)
@click.option(
    "--plan",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A whole platform instead: endpoints, gateways, nodes, what breaks and what is rolled out (YAML).",
)
@click.option(
    "--policy",
    "names",
    default="",
    help="What is compared: stoker, kpa, kpa-300, ray, hpa, apa, and fixed-N for N replicas; of a plan, for every "
    "endpoint instead of its own.  [default: stoker,kpa,ray,hpa]",
)
@click.option("--cold-start", "cold_start_s", type=Seconds(), default=40.0, help="From order to ready.  [default: 40s]")
@click.option("--min", "least", type=click.IntRange(0), default=1, show_default=True, help="Fewest replicas.")
@click.option("--max", "most", type=click.IntRange(1), default=20, show_default=True, help="Most replicas.")
@click.option("--places", type=click.IntRange(1), default=4, show_default=True, help="Requests in a replica at once.")
@click.option(
    "--service",
    "service_s",
    type=Seconds(),
    default=0.4,
    help="Mean time of a request in a replica; a trace's come from its tokens.  [default: 400ms]",
)
@click.option("--late", "late_s", type=Seconds(), default=1.0, help="Who waits longer is late.  [default: 1s]")
@click.option(
    "--times", type=click.FloatRange(0.01, 1000), default=1.0, show_default=True, help="So many times the load's rate."
)
@click.option("--seeds", type=click.IntRange(1, 1000), default=3, show_default=True, help="How many runs of each.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The first of them. A trace begins elsewhere with each seed; with 0 as it was recorded.",
)
@click.option(
    "--chart",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a page with a picture of the first run.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    help="How to print: for people, or for programs.",
)
def command(load: str | None, trace: Path | None, plan: Path | None, **given: Any) -> None:
    """Compare scaling policies on simulated load: late requests, replica-hours, waiting, changes.

    Time is virtual: an hour takes a second. The policy called stoker is the function that runs live; the others are
    Knative's, Ray Serve's and Kubernetes' published algorithms. All of them see the same requests.

    Of a plan, who asks while a schedule lets no replica be (max 0) is refused at once, as live, and counted as closed,
    not as late.
    """
    asked = Asked(**given)
    if sum(each is not None for each in (load, trace, plan)) > 1:
        raise click.UsageError("only one of --load, --trace and --plan")
    if asked.least > asked.most:
        raise click.UsageError(f"--min {asked.least} is more than --max {asked.most}")
    if plan is not None:
        from stoker.cli.simulate_plan import run

        run(plan, asked.names, asked.late_s, asked.chart, asked.output)
        return
    from stoker.sim.endpoint import Terms
    from stoker.sim.policies import named

    terms = Terms(asked.places, asked.cold_start_s, asked.least, asked.most)
    policies = {name.strip(): named(name.strip()) for name in (asked.names or POLICIES).split(",")}
    title = trace.name if trace is not None else load or "spike"
    source = _source(title, trace, asked)
    rows = _rows(policies, source, terms, asked)
    found = Comparison(title, asked.numbers, asked.late_s, asked.cold_start_s, rows, _verdicts(rows))
    if asked.chart is not None:
        _draw(asked.chart, found, policies, source, terms)
    show(found, asked.output, lambda: _text(found))
    if asked.chart is not None and asked.output == "table":
        click.echo(f"picture: {asked.chart}")


def _source(title: str, trace: Path | None, asked: Asked) -> "Source":
    """Return how the arrivals of a seed are drawn, and what each request takes."""
    from stoker.sim import arrivals, traces
    from stoker.sim.service import ByTokens, Drawn

    if trace is None:
        return (lambda number: arrivals.make(title, number, times=asked.times)), Drawn(asked.service_s)
    if asked.times != 1.0:
        raise click.UsageError("--times is for --load; a trace is as it was recorded")
    recorded = traces.read(trace)
    return (lambda number: arrivals.rotated(recorded, number)), ByTokens()


def _rows(policies: "dict[str, Make]", source: "Source", terms: "Terms", asked: Asked) -> "list[Row]":
    from stoker.sim.compare import compare

    draw, service = source
    with Progress("Simulating") as progress:

        def told(what: str, done: int, total: int) -> None:
            progress.step(what)
            progress.update(done, total)

        return compare(policies, draw, service, terms, asked.numbers, asked.late_s, told)


def _verdicts(rows: "list[Row]") -> dict[str, str]:
    from stoker.sim.compare import verdict

    ours = next((row for row in rows if row.policy == OURS), None)
    return {row.policy: verdict(ours, row) for row in rows if row is not ours} if ours is not None else {}


def _text(found: Comparison) -> str:
    header = (*HEADINGS, *(("STOKER IS",) if found.verdicts else ()))
    rows = []
    for row in found.rows:
        verdict = found.verdicts.get(row.policy, "")
        shown = (click.style(verdict, fg=COLOURS[verdict]) if verdict else "",) if found.verdicts else ()
        rows.append((*_cells(row), *shown))
    count = found.rows[0].requests.mean
    runs = f"{len(found.seeds)} runs" if len(found.seeds) > 1 else "one run"
    noun = "request" if count == 1 else "requests"
    words = f"{found.load}: {runs} of {count:,.0f} {noun}, {found.cold_start_s:g} s from order to ready"
    lines = [
        columns(header, rows),
        click.style(f"{words}; late: waited over {found.late_s:g} s; ±: 95 % interval", dim=True),
    ]
    if unfinished := [row.policy for row in found.rows if row.unfinished]:
        lines.append(click.style(f"never served some requests: {', '.join(unfinished)}", fg="red"))
    return "\n".join(lines)


def _cells(row: "Row") -> tuple[str, ...]:
    return (
        row.policy,
        _around(row.late_ratio, 100.0, 1, " %"),
        _around(row.replica_hours, 1.0, 2),
        f"{row.wait_p50_s.mean:.2f} s",
        f"{row.wait_p95_s.mean:.1f} s",
        f"{row.wait_p99_s.mean:.1f} s",
        f"{row.changes_per_hour.mean:.0f}",
    )


def _around(one: "Figure", times: float, digits: int, unit: str = "") -> str:
    half = one.high - one.mean
    interval = f" ± {half * times:.{digits}f}" if half else ""
    return f"{one.mean * times:.{digits}f}{interval}{unit}"


def _draw(file: Path, found: Comparison, policies: "dict[str, Make]", source: "Source", terms: "Terms") -> None:
    from stoker.sim.compare import once
    from stoker.sim.picture import Track, page

    draw, service = source
    seed = found.seeds[0]
    came = draw(seed)
    tracks = [Track(name, once(make, came, service, terms, seed).timeline) for name, make in policies.items()]
    table = [HEADINGS, *(_cells(row) for row in found.rows)]
    what = f"seed {seed}; {found.cold_start_s:g} s from order to ready; the table: {len(found.seeds)} runs"
    write(file, page(f"Scaling under {found.load}", what, tracks, table))


def write(file: Path, text: str) -> None:
    """Write a page. Raises InvalidInput when that cannot be."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as refused:
        raise InvalidInput(f"{file} cannot be written: {refused.strerror}") from refused
