"""`stoker plan`: how large an endpoint should be, from what came, what is promised and what replicas cost."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from stoker.cli.output import show
from stoker.cli.progress import Progress
from stoker.cli.session import Command, output_option
from stoker.cli.simulate import LOADS, Seconds, write
from stoker.types.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from stoker.sim.arrivals import Arrivals
    from stoker.sim.platform.plan import Engine
    from stoker.sim.sizing.prices import Pool
    from stoker.sim.sizing.trial import Kind
    from stoker.types.resources import Endpoint

_Function = TypeVar("_Function", bound=Callable[..., Any])
ENGINES: Final = ("places", "batches", "language")


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
    engine: str
    slo: str | None
    prices: Path | None
    cold_start_s: float
    cores: float | None
    may_sleep: bool
    replicas_max: int
    seed: int


@click.command(
    cls=Command,
    example="""
    stoker plan --load day --engine language --slo ttft_p95=2s
    stoker plan --trace yesterday.csv --engine engine.yaml --slo ttft_p95=500ms --prices prices.yaml --html plan.html
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
    default="places",
    metavar="FILE|NAME",
    help="How work takes time in a replica: a YAML file with places, batches or language as in a plan of `stoker "
    "simulate`, or one of these names for its usual numbers.  [default: places]",
)
@click.option(
    "--slo",
    metavar="TEXT",
    help="What is promised, such as ttft_p95=500ms,latency_p99=5s.  [default: the manifest's objectives]",
)
@_file("prices", "What replicas cost: YAML with pools, each with node_hour, core_hour, gpu_hour or replica_hour.")
@click.option("--cold-start", "cold_start_s", type=Seconds(), default=40.0, help="From order to ready.  [default: 40s]")
@click.option("--cores", type=click.FloatRange(0.01, 1024), help="Of a replica.  [default: the manifest's, or 1]")
@click.option("--sleep", "may_sleep", is_flag=True, help="No replica may run while nobody asks.")
@click.option("--max", "replicas_max", type=click.IntRange(1, 1000), default=64, show_default=True,
              help="Most replicas there may be.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same gives the same plan.")
@_file("html", "Write a page with pictures of the plan.")
@_file("svg", "Write the pictures alone.")
@output_option
def command(html: Path | None, svg: Path | None, output: str, **given: Any) -> None:
    """Find the cheapest range of replicas that keeps what is promised, what it costs, and what more load would do.

    The arrivals are replayed on virtual time against the functions that run live. A range is chosen on one course of
    the day and must hold on others, by more than chance.
    """
    asked = Asked(**given)
    from stoker.cli.plan_text import text
    from stoker.sim.sizing import chart, page
    from stoker.sim.sizing.search import Search

    recorded, title = _recorded(asked)
    manifest = _endpoint(asked)
    least = 0 if asked.may_sleep or (manifest is not None and manifest.spec.replicas.min == 0) else 1
    search = Search(_kind(asked, manifest), recorded, _pools(asked.prices), asked.replicas_max, asked.seed)
    with Progress("Planning") as progress:

        def told(what: str, done: float, total: float) -> None:
            progress.step(what)
            progress.update(done, total)

        answer = search.run(least=least, is_priced=asked.prices is not None, told=told)
    if html is not None:
        write(html, page.page(answer, title))
    if svg is not None:
        write(svg, chart.whole(answer, title))
    show(answer, output, lambda: text(answer))
    for file in (html, svg):
        if file is not None and output == "table":
            click.echo(f"picture: {file}")


def _recorded(asked: Asked) -> "tuple[Arrivals, str]":
    """Return what came, and what it is called."""
    from stoker.sim import arrivals, traces
    from stoker.sim.sizing.demand import sized

    if (asked.trace is None) == (asked.load is None):
        raise click.UsageError("say what comes: --trace FILE, recorded arrivals, or --load SHAPE to try it out")
    if asked.times != 1.0 and asked.trace is not None:
        raise click.UsageError("--times is for --load; a trace is as it was recorded")
    if asked.trace is not None:
        return sized(traces.read(asked.trace)), asked.trace.name
    return arrivals.make(str(asked.load), asked.seed, times=asked.times), str(asked.load)


def _endpoint(asked: Asked) -> "Endpoint | None":
    """Return the endpoint of the manifest. Raises NotFound, InvalidInput."""
    if asked.manifest is None:
        if asked.endpoint is not None:
            raise click.UsageError(f"say where {asked.endpoint} is described: --manifest FILE")
        return None
    from stoker.protocol import manifest
    from stoker.types.resources import Endpoint

    found = [each for each in manifest.load(_bytes(asked.manifest)) if isinstance(each, Endpoint)]
    names = [str(each.metadata.name) for each in found]
    if asked.endpoint is None and len(found) != 1:
        raise InvalidInput(f"{asked.manifest} has {len(found)} endpoints; say which one ({', '.join(names) or 'none'})")
    for each in found:
        if asked.endpoint in (None, each.metadata.name):
            return each
    raise NotFound(f"{asked.manifest} has no endpoint {asked.endpoint}; it has {', '.join(names) or 'none'}")


def _kind(asked: Asked, manifest: "Endpoint | None") -> "Kind":
    from stoker.core.scale.policy import policy_of
    from stoker.sim.sizing import slos
    from stoker.sim.sizing.trial import Kind
    from stoker.types.resources import EndpointSpec
    from stoker.types.units import parse_seconds

    spec = manifest.spec if manifest is not None else EndpointSpec()
    promised = slos.parse(asked.slo) if asked.slo is not None else slos.promised(spec.slos)
    if not promised:
        raise click.UsageError(
            "say what is promised: --slo ttft_p95=500ms, or a manifest with an objective of latency or ttft"
        )
    return Kind(
        _engine(asked.engine),
        promised,
        asked.cold_start_s,
        asked.cores if asked.cores is not None else spec.resources.cpu,
        msgspec.structs.replace(policy_of(spec, gateways=1), schedules=()),
        parse_seconds(spec.limits.timeout),
        spec.limits.queue_max,
    )


def _engine(said: str) -> "Engine":
    from stoker.protocol.manifest import load_struct
    from stoker.sim import document

    match said:
        case "places":
            return document.engine_of(document.Engine(places=document.Places()), said)
        case "batches":
            return document.engine_of(document.Engine(batches=document.Batches()), said)
        case "language":
            return document.engine_of(document.Engine(language=document.Language()), said)
    if not Path(said).exists() and Path(said).suffix not in (".yaml", ".yml", ".json"):
        raise InvalidInput(f"{said!r} is neither a file nor an engine; there are {', '.join(ENGINES)}")
    try:
        return document.engine_of(load_struct(_bytes(Path(said)), document.Engine), said)
    except ValueError as wrong:
        raise InvalidInput(f"{said}: {wrong}") from wrong


def _pools(file: Path | None) -> "tuple[Pool, ...]":
    from stoker.protocol.manifest import load_struct
    from stoker.sim.sizing import prices

    return (prices.UNPRICED,) if file is None else prices.checked(load_struct(_bytes(file), prices.PriceList))


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as missing:
        raise NotFound(f"there is no file {file}") from missing
    except OSError as refused:
        raise InvalidInput(f"{file} cannot be read: {refused.strerror}") from refused
