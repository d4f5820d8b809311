"""`stoker plan --validate`: a short load to an endpoint as it is, said before it is sent, and what its client saw."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

import click
import msgspec
import numpy as np

from stoker.cli.plan_platform import Known, ask
from stoker.cli.progress import Progress
from stoker.cli.session import Session
from stoker.client import prompts
from stoker.client.control import ControlClient
from stoker.client.data import DataClient, Tokens
from stoker.client.openloop import Due, OpenLoop, Seen, exchange
from stoker.sim.arrivals import Arrivals, of
from stoker.sim.sizing.demand import GRID, sampled
from stoker.sim.sizing.validation import Validation, load, quantiles
from stoker.sim.sizing.words import hours
from stoker.types.errors import Conflict, InvalidInput, Unauthenticated, Unavailable
from stoker.types.resources import EndpointSpec, Task
from stoker.types.units import parse_seconds

RATE_MAX: Final = 200.0  # a second, of one client; above it the client itself is what is measured
PROBED_MAX: Final = 50.0  # where nothing is known of the endpoint's own traffic
REQUESTS_MAX: Final = 20_000
ANSWERED_MIN: Final = 10
PROBES: Final = 3  # the first, which may warm something up, does not count
HALF: Final = 0.5  # busy
LATELY_S: Final = 300
HISTORY_PATIENCE_S: Final = 90.0  # a minute, and its roll-up
HISTORY_EVERY_S: Final = 2.0
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


@dataclass(frozen=True, slots=True)
class Target:
    """The endpoint as it is. lately_per_s: requests that others sent in the last minutes."""

    spec: EndpointSpec
    task: Task
    ready: int
    lately_per_s: float


@dataclass(frozen=True, slots=True)
class Probe:
    """A few requests one after the other. fixed_tokens: of a prompt, beside its words."""

    alone_s: float
    fixed_tokens: int


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent and seen, and what was known of the endpoint. client_s: quantiles at demand.GRID's shares."""

    known: Known
    is_known_before: bool
    ready: int
    arrivals: Arrivals
    measured: dict[str, float]
    failed: int
    left_out: int
    client_s: tuple[float, ...]

    def told(self, found: Validation, engine: str) -> Validation:
        """Return `found` with what is to be known of the load. engine: where it is from; "": it was fitted."""
        fitted = "the last day, before this load" if self.is_known_before else "this load itself"
        return msgspec.structs.replace(
            found,
            source="load",
            failed=self.failed,
            left_out=self.left_out,
            client_s=self.client_s[GRID.index(0.5)] if self.client_s else 0.0,
            engine=engine or f"as fitted to {fitted}",
        )


def sent(session: Session, wanted: Wanted) -> Sent:
    """Send the load and return what was seen. Raises what keeps it from being sent, or from being understood."""
    control, data = session.control(), session.data(wanted.project)
    if not data.connection.key:
        raise Unauthenticated("there is no key to send requests with; say one with --key, or STOKER_KEY")
    target = _target(control, wanted)
    before = _known_before(control, target.spec, wanted)
    rate = usual(wanted.rate, before)
    _agree(target, wanted, rate)
    metadata = data.metadata(wanted.name) if target.task == "predict" else None
    made = prompts.Prompts(wanted.name, wanted.project, target.task, metadata)
    probe = _probe(data, target, made)
    rate = rate or min(HALF * target.ready / max(probe.alone_s, 1e-4), PROBED_MAX)
    planned = load(rate, wanted.lasts_s, wanted.seed)
    if not ANSWERED_MIN <= len(planned) <= REQUESTS_MAX:
        raise InvalidInput(
            f"{rate:.3g}/s for {hours(wanted.lasts_s)} makes {len(planned):,} requests; {ANSWERED_MIN} to "
            f"{REQUESTS_MAX:,} can be compared: give another --rate or --for"
        )
    sizes = sized(before, probe.fixed_tokens, len(planned), wanted.seed)
    _say(data, target, wanted, rate, is_sized=before is not None)
    coming = enumerate(zip(planned.at_s.tolist(), sizes, strict=True))
    dues = (Due(at_s, made.ask(number, size)) for number, (at_s, size) in coming)
    timeout_s = parse_seconds(target.spec.limits.timeout)
    loop = OpenLoop(data.connection, dues, timeout_s + GRACE_S, len(planned))
    seen = _send(loop, wanted.lasts_s, len(planned), timeout_s)
    answered = _enough(seen)
    known = before or _known_after(control, target.spec, wanted, answered)
    client_s = tuple(np.quantile(loop.looked_s, GRID).tolist()) if loop.looked_s else ()
    arrivals, measured = summed(seen, target.task)
    failed = len(seen) - answered
    return Sent(known, before is not None, target.ready, arrivals, measured, failed, loop.left_out, client_s)


def usual(wanted: float | None, before: Known | None) -> float | None:
    """Return requests a second: as wanted, or as its own busiest minute had; None: nobody knows yet."""
    if wanted is not None or before is None:
        return wanted
    return min(sampled(before.recorded).peak_per_s, RATE_MAX)


def sized(before: Known | None, fixed_tokens: int, count: int, seed: int) -> list[prompts.Size]:
    """Return the sizes of so many texts: such as the endpoint's day had, drawn by seed; fixed_tokens are no words."""
    if before is None or not len(before.recorded.input_tokens):
        return [prompts.USUAL] * count
    recorded = before.recorded
    chosen = np.random.default_rng((seed, 15)).integers(0, len(recorded), count)
    pairs = zip(recorded.input_tokens[chosen].tolist(), recorded.output_tokens[chosen].tolist(), strict=True)
    return [prompts.Size(max(read - fixed_tokens, 1), max(written, 1)) for read, written in pairs]


def summed(seen: Sequence[Seen], task: Task) -> tuple[Arrivals, dict[str, float]]:
    """Return what was sent as arrivals, until the last answer, and what was measured by the names of BOUNDS."""
    answered = [each for each in seen if not each.problem]
    lasts_s = max(each.at_s + (0.0 if each.problem else each.latency_s) for each in seen) + 1e-3
    sent = of(np.array([each.at_s for each in seen]), lasts_s)
    measured = quantiles("latency", [each.latency_s for each in seen])
    if task != "chat" or not answered:
        return sent, measured
    usual = Tokens(
        round(median(each.tokens.prompt_tokens for each in answered)),
        round(median(each.tokens.completion_tokens for each in answered)),
    )
    tokens = [usual if each.problem else each.tokens for each in seen]
    read, written = (
        np.array([getattr(each, name) for each in tokens], dtype=np.int64)
        for name in ("prompt_tokens", "completion_tokens")
    )
    arrivals = replace(sent, input_tokens=read, output_tokens=written)
    return arrivals, {**quantiles("ttft", [each.ttft_s for each in seen]), **measured}


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
    return Target(spec, task, ready, ((lines[0].values[-1] or 0.0) if lines else 0.0) / LATELY_S)


def _known_before(control: ControlClient, spec: EndpointSpec, wanted: Wanted) -> Known | None:
    try:
        return ask(control.query, spec, wanted.project, wanted.name, wanted.seed)
    except InvalidInput:  # its day says too little: the load itself will
        return None


def _known_after(control: ControlClient, spec: EndpointSpec, wanted: Wanted, answered: int) -> Known:
    """Return what is known once the load is in the history."""
    until_s = time.monotonic() + HISTORY_PATIENCE_S
    with Progress("Validating") as progress:
        progress.step("waiting for the load's minute in the history")
        while True:
            try:
                return ask(control.query, spec, wanted.project, wanted.name, wanted.seed, least=answered)
            except InvalidInput:
                if time.monotonic() > until_s:
                    raise
            time.sleep(HISTORY_EVERY_S)


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


def _enough(seen: Sequence[Seen]) -> int:
    """Return how many were answered. Raises Unavailable where that is too few to compare."""
    answered = sum(not each.problem for each in seen)
    if answered < ANSWERED_MIN:
        why = next((f"; the newest without: {each.problem}" for each in reversed(seen) if each.problem), "")
        raise Unavailable(f"{answered} requests were answered, too few to compare: give a larger --rate or --for{why}")
    return answered


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
