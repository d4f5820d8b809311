"""`stoker plan --validate`: a short load to an endpoint as it is, said before it is sent, and what its client saw."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

import click
import msgspec
import numpy as np

from stoker.cli.plan_platform import Known, ask, lately, unfitted
from stoker.cli.plan_traces import Marked
from stoker.cli.progress import Progress
from stoker.cli.session import Session
from stoker.client import prompts
from stoker.client.control import ControlClient
from stoker.client.data import DataClient
from stoker.client.openloop import Due, OpenLoop, Seen, exchange
from stoker.client.scaling import ScalingView, scaling
from stoker.core.scale.memory import Memory
from stoker.core.scale.policy import is_scaled
from stoker.sim.arrivals import Arrivals, of
from stoker.sim.sizing.demand import sampled
from stoker.sim.sizing.traced import Traced
from stoker.sim.sizing.trial import Kind
from stoker.sim.sizing.validation import Measured, Validation, load
from stoker.sim.sizing.words import hours
from stoker.types.errors import Conflict, InvalidInput, Unauthenticated, Unavailable
from stoker.types.resources import EndpointSpec, Task
from stoker.types.starts import Took
from stoker.types.units import parse_seconds

RATE_MAX: Final = 200.0  # a second, of one client; above it the client itself is what is measured
PROBED_MAX: Final = 50.0  # where nothing is known of the endpoint's own traffic
REQUESTS_MAX: Final = 20_000
ANSWERED_MIN: Final = 10
PROBES: Final = 3  # the first, which may warm something up, does not count
HALF: Final = 0.5  # busy
LATELY_S: Final = 300
REPLICAS_EVERY_S: Final = 5.0  # as control looks at all processes
LOOKED_S: Final = 5.0  # in which control looks at what scales, twice
SAY_EVERY_S: Final = 0.2
GRACE_S: Final = 5.0  # beyond the endpoint's own timeout
MADE_UP: Final[dict[Task, str]] = {"predict": "one made-up row", "embed": "one sentence", "chat": "one chat"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for. rate: requests a second; None: as the endpoint's busiest minute had."""

    project: str
    name: str
    lasts_s: float
    rate: float | None
    seed: int
    is_agreed: bool
    trace: Arrivals | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """The endpoint as it is. lately_per_s: requests of others in the last minutes. starts: what its last ones took."""

    spec: EndpointSpec
    task: Task
    ready: int
    lately_per_s: float
    starts: tuple[Took, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """A few requests one after the other. fixed_tokens: of a prompt, beside its words."""

    alone_s: float
    fixed_tokens: int


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent, and what its traces say. before: what was known of the endpoint's day, None: too little.

    known: of the endpoint without its day; began_s: unix time of the load's beginning, memory, known_start_s and
    before_per_s: what scaling remembered then, took a start for, and had seen come in the minute before.
    arrivals: of a chat with what its engine read, `prompts` with whole prompts.
    client_s: the median as the client saw it.
    """

    known: Known
    before: Known | None
    ready: int
    arrivals: Arrivals
    prompts: Arrivals
    traces: tuple[Traced, ...]
    measured: Measured
    failed: int
    left_out: int
    client_s: float
    began_s: float
    memory: Memory
    known_start_s: float
    before_per_s: float

    def scaled(self, kind: Kind) -> Kind:
        """Return `kind` as its scaling was at the beginning."""
        return replace(
            kind,
            initial=self.ready,
            memory=self.memory,
            began_s=self.began_s,
            known_start_s=self.known_start_s,
            before_per_s=self.before_per_s,
            schedules=self.known.spec.scaling.schedules,
        )

    def told(self, found: Validation) -> Validation:
        """Return `found` with what is to be known of the load."""
        return msgspec.structs.replace(
            found,
            source="load",
            failed=self.failed,
            left_out=self.left_out,
            judged=len(self.measured.numbers),
            client_s=self.client_s,
        )


def sent(session: Session, wanted: Wanted) -> Sent:
    """Send the load and return what was seen. Raises what keeps it from being sent, or from being understood."""
    control, data = session.control(), session.data(wanted.project)
    if not data.connection.key:
        raise Unauthenticated("there is no key to send requests with; say one with --key, or STOKER_KEY")
    target = _target(control, wanted)
    before = _known_before(control, target, wanted)
    rate = usual(wanted, before)
    _agree(target, wanted, rate)
    metadata = data.metadata(wanted.name) if target.task == "predict" else None
    made = prompts.Prompts(wanted.name, wanted.project, target.task, metadata)
    probe = _probe(data, target, made)
    rate = rate or min(HALF * target.ready / max(probe.alone_s, 1e-4), PROBED_MAX)
    planned = wanted.trace or load(rate, wanted.lasts_s, wanted.seed)
    if not ANSWERED_MIN <= len(planned) <= REQUESTS_MAX:
        raise InvalidInput(
            f"{rate:.3g}/s for {hours(wanted.lasts_s)} makes {len(planned):,} requests; {ANSWERED_MIN} to "
            f"{REQUESTS_MAX:,} can be compared: give another --rate or --for"
        )
    sizes = sized(wanted.trace or (before.recorded if before else None), probe.fixed_tokens, planned, wanted.seed)
    _say(data, target, wanted, rate, is_sized=before is not None or wanted.trace is not None)
    marked = Marked(len(planned), rate, wanted.seed)
    coming = enumerate(zip(planned.at_s.tolist(), sizes, strict=True))
    scaled = remembered(lambda: scaling(control.connection, wanted.project, wanted.name))
    dues = (Due(at_s, marked.mark(number, made.ask(number, size)), number) for number, (at_s, size) in coming)
    timeout_s = parse_seconds(target.spec.limits.timeout)
    loop = OpenLoop(data.connection, dues, timeout_s + GRACE_S, len(planned))
    seen = _send(loop, planned.duration_s, len(planned), timeout_s)
    _check(seen)
    traces = arranged(seen, marked.traces(control, wanted.project, wanted.name, seen[-1].number + 1))
    arrivals = came(seen, target.task, traces)
    known = unfitted(control.query, target.spec, wanted.project, wanted.name, is_chat=target.task == "chat")
    return Sent(
        replace(known, starts=lately(control.endpoint(wanted.project, wanted.name))),
        before,
        target.ready,
        arrivals,
        came(seen, target.task, ()),
        traces,
        measured(traces, target.task, _replica_hours(control, target.spec, wanted, loop.elapsed_s, arrivals)),
        sum(bool(each.problem) for each in seen),
        loop.left_out,
        median(each.latency_s for each in seen),
        median([each.began_at_s - seen[each.number].at_s for each in traces if each.began_at_s] or [0.0]),
        scaled.memory or Memory(),
        scaled.now.sight.cold_start_s if scaled.now is not None else 0.0,
        scaled.now.sight.rate_long if scaled.now is not None else 0.0,
    )


def usual(wanted: Wanted, before: Known | None) -> float | None:
    """Return requests a second: as wanted, or as its own busiest minute had; None: nobody knows yet."""
    if wanted.trace is not None:
        return len(wanted.trace) / wanted.trace.duration_s
    if wanted.rate is not None or before is None:
        return wanted.rate
    return min(sampled(before.recorded).peak_per_s, RATE_MAX)


def sized(such: Arrivals | None, fixed_tokens: int, planned: Arrivals, seed: int) -> list[prompts.Size]:
    """Return the sizes of the planned texts: their own, or such as `such` has; fixed_tokens are no words."""
    if such is None or not len(such.input_tokens):
        return [prompts.USUAL] * len(planned)
    chosen = np.random.default_rng((seed, 15)).integers(0, len(such), len(planned))
    if such is planned:
        chosen = np.arange(len(planned))
    pairs = zip(such.input_tokens[chosen].tolist(), such.output_tokens[chosen].tolist(), strict=True)
    return [prompts.Size(max(read - fixed_tokens, 1), max(written, 1)) for read, written in pairs]


def arranged(seen: Sequence[Seen], traces: Sequence[Traced]) -> tuple[Traced, ...]:
    """Return the traces by the place of their requests among those that were sent; who had no answer has no time."""
    places = {each.number: at for at, each in enumerate(seen)}
    lost = {each.number for each in seen if each.problem}
    return tuple(
        Traced(places[each.number])
        if each.number in lost
        else msgspec.structs.replace(each, number=places[each.number])
        for each in traces
        if each.number in places
    )


def came(seen: Sequence[Seen], task: Task, traces: Sequence[Traced]) -> Arrivals:
    """Return what was sent as arrivals, until the last answer; of a prompt what its traces say its engine read."""
    lasts_s = max(each.at_s + (0.0 if each.problem else each.latency_s) for each in seen) + 1e-3
    sent = of(np.array([each.at_s for each in seen]), lasts_s)
    if task != "chat":
        return sent
    answered = [each.tokens for each in seen if not each.problem]
    read = {each.number: each.read_tokens for each in traces if each.read_tokens}
    known = [seen[number].tokens.prompt_tokens - tokens for number, tokens in read.items()]
    usual_known, usual_read = median(known or [0]), median(each.prompt_tokens for each in answered)
    usual_written = median(each.completion_tokens for each in answered)
    tokens = [
        (usual_read - usual_known, usual_written)
        if each.problem
        else (read.get(at, each.tokens.prompt_tokens - usual_known), each.tokens.completion_tokens)
        for at, each in enumerate(seen)
    ]
    sizes = np.maximum(np.array(tokens), 1).astype(np.int64)
    return replace(sent, input_tokens=sizes[:, 0], output_tokens=sizes[:, 1])


def measured(traces: Sequence[Traced], task: Task, replica_hours: float) -> Measured:
    """Return what became of the requests that left a trace. Raises Unavailable where these are too few."""
    if len(traces) < ANSWERED_MIN:
        raise Unavailable(
            f"gateways kept the traces of {len(traces)} requests, too few to compare: give a larger --rate or --for"
        )
    taken_s: dict[str, Sequence[float]] = {"latency": [each.latency_s for each in traces]}
    if task == "chat":
        taken_s["ttft"] = [each.ttft_s for each in traces]
    return Measured([each.number for each in traces], taken_s, replica_hours)


def remembered(look: Callable[[], ScalingView], patience_s: float = LOOKED_S) -> ScalingView:
    """Return how an endpoint scales once control has looked again: it has seen all that was sent before this call.

    What does not scale is not waited for, nor anything for longer than `patience_s`.
    """
    until_s = time.monotonic() + patience_s
    first = found = look()
    while found.is_scaled and found.now == first.now and time.monotonic() < until_s:
        time.sleep(SAY_EVERY_S)
        found = look()
    return found


def _target(control: ControlClient, wanted: Wanted) -> Target:
    """Return the endpoint. Raises Conflict or Unavailable, with advice, where no load can be sent to it."""
    found = control.endpoint(wanted.project, wanted.name)
    spec, ready, whom = found.resource.spec, found.status.replicas_ready, f"{wanted.project}/{wanted.name}"
    if spec.backends:
        names = ", ".join(each.endpoint for each in spec.backends)
        raise Conflict(f"{whom} is served by others ({names}): validate one that has a model of its own")
    if not ready:
        raise Unavailable(
            f"no replica of {whom} is ready, so its start would be measured: ask it once, or give it replicas.min: 1"
        )
    who = (wanted.project, wanted.name)
    said = next((each.task for each in control.stats().endpoints if (each.project, each.endpoint) == who), "")
    task: Task = next((each for each in MADE_UP if each == said), spec.task or "predict")
    labels = f'project="{wanted.project}",endpoint="{wanted.name}"'
    lines = control.query(f"increase by () (stoker_requests_total{{{labels}}}[{LATELY_S}s])").lines
    per_s = ((lines[0].values[-1] or 0.0) if lines else 0.0) / LATELY_S
    return Target(spec, task, ready, per_s, lately(found))


def _known_before(control: ControlClient, target: Target, wanted: Wanted) -> Known | None:
    try:
        known = ask(control.query, target.spec, wanted.project, wanted.name, wanted.seed)
        return replace(known, starts=target.starts)
    except InvalidInput:  # its day says too little: the load itself will
        return None


def _replica_hours(
    control: ControlClient, spec: EndpointSpec, wanted: Wanted, ago_s: float, arrivals: Arrivals
) -> float:
    """Return what ran while the load lasted, which began so long ago; 0 where nothing scales."""
    if not is_scaled(spec):
        return 0.0
    labels = f'project="{wanted.project}",endpoint="{wanted.name}"'
    chart = control.query(f"sum by () (stoker_replicas{{{labels}}})", since_s=ago_s, step_s=REPLICAS_EVERY_S)
    counts = [each for line in chart.lines for each in line.values if each is not None]
    lasted = counts[: max(round(arrivals.duration_s / REPLICAS_EVERY_S), 1)]
    return sum(lasted) / max(len(lasted), 1) * arrivals.duration_s / 3600.0


def _agree(target: Target, wanted: Wanted, rate: float | None) -> None:
    """Ask whether load may come on top of what others send; where nobody does, nobody is asked."""
    if wanted.is_agreed or not target.lately_per_s:
        return
    more = "as much as keeps it half busy" if rate is None else f"{rate:.3g} requests/s"
    click.confirm(
        f"{wanted.project}/{wanted.name} had {target.lately_per_s:.2g} requests/s in the last {LATELY_S / 60:g} min. "
        f"Send {more} on top, for {hours(wanted.lasts_s)}?",
        abort=True,
        err=True,
    )


def _say(data: DataClient, target: Target, wanted: Wanted, rate: float, *, is_sized: bool) -> None:
    sizes = ", of the sizes that its day had" if target.task == "chat" and is_sized else ""
    click.echo(
        f"sending {rate:.3g} requests/s for {hours(wanted.lasts_s)} to {wanted.project}/{wanted.name} at "
        f"{data.connection.base}, each {MADE_UP[target.task]}{sizes}: real load, which its metrics, objectives, "
        "budgets and drift see; Ctrl-C ends it",
        err=True,
    )


def _probe(data: DataClient, target: Target, made: prompts.Prompts) -> Probe:
    """Send a few requests one after the other. Raises what is wrong with them."""
    took_s, tokens = [], 0
    with data.connection.opened(parse_seconds(target.spec.limits.timeout) + GRACE_S) as wire:
        for number in range(PROBES):
            began_s = time.monotonic()
            tokens = exchange(wire, made.ask(-1 - number))[1].prompt_tokens
            took_s.append(time.monotonic() - began_s)
    return Probe(min(took_s[1:]), max(tokens - prompts.USUAL.words, 0))


def _check(seen: Sequence[Seen]) -> None:
    """Raise Unavailable where too few were answered to compare."""
    answered = sum(not each.problem for each in seen)
    if answered < ANSWERED_MIN:
        why = next((f"; the newest without: {each.problem}" for each in reversed(seen) if each.problem), "")
        raise Unavailable(f"{answered} requests were answered, too few to compare: give a larger --rate or --for{why}")


def _send(loop: OpenLoop, lasts_s: float, count: int, patience_s: float) -> tuple[Seen, ...]:
    """Send everything, or until Ctrl-C; what is in flight then is waited for."""
    with Progress("Validating") as progress:
        progress.step(f"{count:,} requests")
        loop.start()
        try:
            while not loop.wait(SAY_EVERY_S):
                progress.update(min(loop.elapsed_s, lasts_s), lasts_s)
        except KeyboardInterrupt:
            progress.step("stopped; waiting for what is in flight")
        return loop.stop(patience_s)
