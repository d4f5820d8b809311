"""What a platform that runs knows of an endpoint that is planned: its day by the minute, its engine, its start."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np

from stoker.cli import plan_change
from stoker.client.views import Chart, EndpointDetail
from stoker.core.scale.policy import policy_of
from stoker.sim.arrivals import Arrivals, of
from stoker.sim.platform import plan
from stoker.sim.sizing import demand, measured, paced, trial
from stoker.types.errors import InvalidInput
from stoker.types.resources import EndpointSpec
from stoker.types.starts import Took
from stoker.types.units import parse_seconds

DAY_S: Final = 86_400.0
REQUESTS_MIN: Final = 50  # fewer say too little
EVEN: Final = (0.02, *(round(0.1 * at, 1) for at in range(1, 10)), 0.98)  # shares of calls whose times are asked
CHUNK_TOKENS: Final = 128
KNOWN: Final = ("auth", "admit", "route")  # phases beside the network that no replica more makes shorter


@dataclass(frozen=True, slots=True)
class Known:
    """An endpoint as its platform knows it.

    around_s: of a request, spent beside queue and engine (see trial.Kind).
    measured: by the names of sim/sizing/validation.BOUNDS. starts: what the last ones took, as the next ones will.
    """

    spec: EndpointSpec
    recorded: Arrivals
    engine: plan.Engine
    around_s: tuple[float, ...]
    cold_start_s: float | None
    said: tuple[str, ...]
    measured: dict[str, float]
    starts: tuple[Took, ...] = ()


class Query(Protocol):
    """What `stoker query` asks: ControlClient.query."""

    def __call__(
        self, text: str, *, since_s: float = 0.0, step_s: float | None = None, at_s: float | None = None
    ) -> Chart:
        """Return the chart of an expression: now, or each step since so long ago. at_s: instead of now."""
        ...


def ask(
    query: Query,
    spec: EndpointSpec,
    project: str,
    name: str,
    seed: int,
    *,
    least: int = REQUESTS_MIN,
    days: int = 1,
    is_whole: bool = False,
) -> Known:
    """Return what is known of an endpoint and its last days. Raises InvalidInput for fewer than `least` requests.

    is_whole: the time before the first request and after the last counts too, as long as the endpoint was there.
    """
    history = History(query, project, name, days)
    counts = history.minutes("increase by () (stoker_requests_total{}[1m])")
    if sum(counts) < least:
        raise InvalidInput(
            f"{name} had {sum(counts):.0f} requests in the last {history.said}, too few to plan by: give --trace FILE, "
            "or --load"
        )
    decode_s = history.minutes("avg by () (stoker_request_phase_seconds{phase='decode'}[1m])")
    if any(decode_s):
        engine: plan.Engine = _generating(history, counts, decode_s, spec)
        sizes = [[history.now(f"quantile by () ({at}, stoker_{kind}_tokens{{}}[1d])") for at in demand.GRID]
                 for kind in ("prompt", "output")]  # fmt: skip
    else:
        engine, sizes = _batching(history, counts, spec), [[], []]
    known_s = sum(history.now(f"avg by () (stoker_request_phase_seconds{{phase='{each}'}}[1d])") for each in KNOWN)
    around_s = tuple(
        known_s + history.now(f"quantile by () ({at}, stoker_request_phase_seconds{{phase='network'}}[1d])")
        for at in demand.GRID
    )
    cold_start_s = _cold_start_s(history)
    seen = range(history.there_from(counts), len(counts)) if is_whole else [i for i, each in enumerate(counts) if each]
    first, last = seen[0], seen[-1] + 1
    began_s = history.ended_s - (len(counts) - first) * demand.MINUTE_S
    recorded = replace(demand.counted(counts[first:last], seed, *sizes), began_s=began_s)
    if isinstance(engine, plan.Generating):
        engine = _paced(history, spec, engine, around_s, cold_start_s, recorded)
    said = _said(engine, around_s, cold_start_s, history.said)
    return Known(spec, recorded, engine, around_s, cold_start_s, said, _measured(history, slice(first, last)))


def lately(detail: EndpointDetail) -> tuple[Took, ...]:
    """Return what the newest starts of the revision and engine took that started last."""
    return detail.starts[0].lately if detail.starts else ()


def unfitted(query: Query, spec: EndpointSpec, project: str, name: str, *, is_chat: bool) -> Known:
    """Return what is known of an endpoint without its day: its kind of engine, of no certain pace, and its start."""
    history = History(query, project, name)
    engine: plan.Engine = plan.Batching(max_rows=spec.batching.max_rows)
    if is_chat:
        engine = plan.Generating(_slots(history, spec), chunk_tokens=_chunk_tokens(spec))
    return Known(spec, of(np.zeros(0), 0.0), engine, (), _cold_start_s(history), (), {})


class History:
    """Questions about one endpoint: `{}` and `{phase=…}` of an expression become its series."""

    def __init__(self, query: Query, project: str, name: str, days: int = 1) -> None:
        self._query, self._labels, self._days = query, f"project='{project}',endpoint='{name}'", days
        self.said = "day" if days == 1 else f"{days} days"
        self._now_s: float | None = None
        self.ended_s = 0.0  # unix time of the end of what was asked for first, by the minute

    def minutes(self, text: str) -> list[float]:
        """Return a value for each minute of the last days; 0 where nothing is known. A day at a time is asked for."""
        found = self._day(text, self._now_s)
        for day in range(1, self._days):
            assert self._now_s is not None
            found = self._day(text, self._now_s - day * DAY_S)[:-1] + found
        return found

    def _day(self, text: str, at_s: float | None) -> list[float]:
        until = {} if at_s is None else {"at_s": at_s}
        chart = self._query(self._of(text), since_s=DAY_S, step_s=60.0, **until)
        self.ended_s = self.ended_s or chart.times[-1]
        if self._days > 1 and self._now_s is None:
            self._now_s = chart.times[-1]  # the same end for all that is put beside each other
        return [each or 0.0 for each in chart.lines[0].values] if chart.lines else [0.0] * len(chart.times)

    def there_from(self, counts: Sequence[float]) -> int:
        """Return the first minute in which the endpoint was there: wanted replicas, or was called."""
        wanted = self.minutes("sum by () (stoker_replicas{})")
        return next((at for at, each in enumerate(zip(counts, wanted, strict=False)) if any(each)), len(counts))

    def now(self, text: str) -> float:
        """Return the value as of now; 0 where nothing is known."""
        lines = self._query(self._of(text)).lines
        return (lines[0].values[-1] or 0.0) if lines else 0.0

    def _of(self, text: str) -> str:
        head, _, rest = text.replace("[1d]", f"[{self._days}d]").partition("{")
        return f"{head}{{{self._labels}{'' if rest.startswith('}') else ','}{rest}".replace("'", '"')


def _measured(history: History, traffic: slice) -> dict[str, float]:
    """Return what the platform measured while there was traffic; 0 for what it did not."""
    times = {"ttft": "stoker_time_to_first_token_seconds", "latency": "stoker_request_duration_seconds"}
    found = {
        f"{name} p{round(share * 100)}": history.now(f"quantile by () ({share}, {metric}{{}}[1d])")
        for name, metric in times.items()
        for share in (0.5, 0.95)
    }
    replicas = history.minutes("sum by () (stoker_replicas{})")[traffic]
    return {**found, "replica-hours": sum(replicas) / 60.0}


def _batching(history: History, counts: Sequence[float], spec: EndpointSpec) -> plan.Batching:
    rows = history.minutes("avg by () (stoker_batch_rows{}[1m])")
    call_s = history.minutes("avg by () (stoker_request_phase_seconds{phase='compute'}[1m])")
    found = [measured.Batches(*each) for each in zip(counts, rows, call_s, strict=True) if all(each)]
    if not found:
        raise InvalidInput("nothing is known of what its engine takes: give --engine FILE")
    calls_s = [
        history.now(f"quantile by () ({at}, stoker_request_phase_seconds{{phase='compute'}}[1d])") for at in EVEN
    ]
    return measured.batching(found, spec.batching.max_rows, calls_s)


def _generating(
    history: History, counts: Sequence[float], decode_s: Sequence[float], spec: EndpointSpec
) -> plan.Generating:
    prefill_s = history.minutes("avg by () (stoker_request_phase_seconds{phase='prefill'}[1m])")
    read = history.minutes("avg by () (stoker_prompt_tokens{}[1m])")
    written = history.minutes("avg by () (stoker_output_tokens{}[1m])")
    replicas = history.minutes("sum by () (stoker_replicas{phase='ready'})")
    found = []
    for each in zip(counts, read, prefill_s, written, decode_s, replicas, strict=True):
        if all(each):
            count, read_tokens, reads_s, tokens, writes_s, ready = each
            found.append(measured.Generation(count, read_tokens, reads_s, tokens, writes_s, count / 60.0 / ready))
    if not found:
        raise InvalidInput("nothing is known of what its engine takes: give --engine FILE")
    return measured.generating(found, _slots(history, spec), _chunk_tokens(spec))


def _paced(
    history: History,
    spec: EndpointSpec,
    engine: plan.Generating,
    around_s: tuple[float, ...],
    cold_start_s: float | None,
    recorded: Arrivals,
) -> plan.Generating:
    """Return the engine with the pace under which the day would have become what it was measured to be."""
    names = ("stoker_time_to_first_token_seconds", "stoker_time_per_output_token_seconds")
    first_s, token_s = (
        tuple(history.now(f"quantile by () ({at}, {name}{{}}[1d])") for at in paced.SHARES) for name in names
    )
    if not all((*first_s, *token_s)):  # nobody streamed
        return engine
    kind = trial.Kind(
        engine,
        (),
        cold_start_s or trial.COLD_START_S,
        rules=policy_of(spec, gateways=1),
        timeout_s=parse_seconds(spec.limits.timeout),
        queue_max=spec.limits.queue_max,
        around_s=around_s,
        began_s=recorded.began_s or 0.0,
        schedules=spec.scaling.schedules,
    )
    return paced.by_quantiles(kind, plan_change.range_of(spec), recorded, first_s, token_s)


def _slots(history: History, spec: EndpointSpec) -> int:
    return int(history.now("max by () (stoker_engine_slots{})")) or spec.limits.concurrency


def _chunk_tokens(spec: EndpointSpec) -> int:
    """Return how much of prompts the engine reads in one step: its option, or what both embedded engines take."""
    said = spec.options.get("batch_tokens")
    return said if isinstance(said, int) else CHUNK_TOKENS


def _cold_start_s(history: History) -> float | None:
    return history.now("quantile by () (0.5, stoker_cold_start_seconds{phase='total'}[1d])") or None


def _said(engine: plan.Engine, around_s: tuple[float, ...], cold_start_s: float | None, days: str) -> tuple[str, ...]:
    """Return in words what was measured."""
    match engine:
        case plan.Batching(base_s, row_s):
            took = f"a call takes {base_s * 1e3:.3g} ms + {row_s * 1e3:.3g} ms a row{_least(engine.least_s)}"
        case plan.Generating(slots, step_s, sequence_s, read_s):
            took = (
                f"a token takes {step_s * 1e3:.3g} ms + {sequence_s * 1e3:.3g} ms for each of up to {slots} sequences"
                f"{_least(engine.least_s)}, {1 / max(read_s, 1e-9):,.0f} tokens/s are read"
            )
        case plan.Places():
            took = ""
    start = "" if cold_start_s is None else f"; {cold_start_s:.3g} s from order to ready"
    return (f"as measured in the last {days}: {took}; {around_s[demand.GRID.index(0.5)] * 1e3:.3g} ms beside{start}",)


def _least(least_s: float) -> str:
    return f", {least_s * 1e3:.3g} ms at least" if least_s else ""
