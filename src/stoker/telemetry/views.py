"""The same numbers under the names that others know: vLLM's for boards and routers, OpenTelemetry's for receivers.

A view is made of a snapshot when somebody asks; nothing is counted twice.

Sources: vLLM 0.32 (vllm/v1/metrics/loggers.py), whose prefix cache is counted in tokens; the semantic conventions of
OpenTelemetry for generative AI (open-telemetry/semantic-conventions-genai, docs/metrics), still in development.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from stoker.telemetry.catalogue import BY_NAME
from stoker.telemetry.snapshot import MetricValues, Series, Snapshot, merge
from stoker.telemetry.spans import OPERATIONS

_MODEL: Final = {"model_name": "endpoint", "project": "project"}
_WRITES: Final = {"method": ("chat", "completions")}


@dataclass(frozen=True, slots=True)
class View:
    """A name for what `source` counts.

    where: keeps the series whose labels have one of these values. labels: its own labels, by the source's. fixed: more
    labels, with a value of their own. words: other words for label values.
    """

    name: str
    source: str
    labels: Mapping[str, str]
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)

    @property
    def meaning(self) -> str:
        """What it counts, in the words of its source."""
        return BY_NAME[self.source].meaning


def _vllm(name: str, source: str, **where: tuple[str, ...]) -> View:
    return View(f"vllm:{name}", source, _MODEL, where)


VLLM: Final[tuple[View, ...]] = (
    _vllm("num_requests_waiting", "stoker_queue_depth"),
    _vllm("num_requests_running", "stoker_in_flight"),
    _vllm("kv_cache_usage_perc", "stoker_kv_cache_usage_ratio"),
    _vllm("time_to_first_token_seconds", "stoker_time_to_first_token_seconds"),
    _vllm("inter_token_latency_seconds", "stoker_inter_token_latency_seconds"),
    _vllm("request_time_per_output_token_seconds", "stoker_time_per_output_token_seconds"),
    _vllm("e2e_request_latency_seconds", "stoker_request_duration_seconds", **_WRITES),
    _vllm("request_queue_time_seconds", "stoker_request_phase_seconds", phase=("queue",)),
    _vllm("request_prefill_time_seconds", "stoker_request_phase_seconds", phase=("prefill",)),
    _vllm("request_decode_time_seconds", "stoker_request_phase_seconds", phase=("decode",)),
    _vllm("request_prompt_tokens", "stoker_prompt_tokens"),
    _vllm("request_generation_tokens", "stoker_output_tokens"),
    _vllm("prompt_tokens_total", "stoker_tokens_total", kind=("input",)),
    _vllm("generation_tokens_total", "stoker_tokens_total", kind=("output",)),
    _vllm("prefix_cache_queries_total", "stoker_tokens_total", kind=("input",)),
    _vllm("prefix_cache_hits_total", "stoker_tokens_total", kind=("cached",)),
    _vllm("request_success_total", "stoker_requests_total", code=("200",), **_WRITES),
    _vllm("spec_decode_num_draft_tokens_total", "stoker_speculative_tokens_total"),
    _vllm("spec_decode_num_accepted_tokens_total", "stoker_speculative_tokens_total", outcome=("accepted",)),
)

_OPERATION: Final = "gen_ai.operation.name"


def _gen_ai(name: str, source: str, **kind: str) -> View:
    """Return the view of methods that the conventions have an operation for, under its name."""
    fixed = {"gen_ai.provider.name": "stoker", **{f"gen_ai.token.{label}": value for label, value in kind.items()}}
    labels = {"gen_ai.request.model": "endpoint", _OPERATION: "method"}
    return View(name, source, labels, {"method": tuple(OPERATIONS)}, fixed, OPERATIONS)


GEN_AI: Final[tuple[View, ...]] = (
    _gen_ai("gen_ai.server.request.duration", "stoker_request_duration_seconds"),
    _gen_ai("gen_ai.server.time_to_first_token", "stoker_time_to_first_token_seconds"),
    _gen_ai("gen_ai.server.time_per_output_token", "stoker_time_per_output_token_seconds"),
    _gen_ai("gen_ai.client.token.usage", "stoker_prompt_tokens", type="input"),
    _gen_ai("gen_ai.client.token.usage", "stoker_output_tokens", type="output"),
)


def seen_as(snapshot: Snapshot, views: Iterable[View]) -> Snapshot:
    """Return what `views` show of `snapshot`; one that would show nothing is left out."""
    by_name: dict[str, list[MetricValues]] = {}
    for metric in snapshot.metrics:
        by_name.setdefault(metric.name, []).append(metric)
    found = [_show(view, metric) for view in views for metric in by_name.get(view.source, ())]
    # Series that only differed in labels the view does not have are merged, as if they were of several processes.
    shown = Snapshot("", snapshot.taken_at_s, tuple(each for each in found if each.series))
    return merge([shown], process=snapshot.process)


def _show(view: View, metric: MetricValues) -> MetricValues:
    """Return the series that the view has, under its labels; none of a metric of another version without those."""
    names = (*view.labels, *view.fixed)
    kept: list[Series] = []
    if {*view.where, *view.labels.values()} <= set(metric.labels):
        wanted = [(metric.labels.index(label), values) for label, values in view.where.items()]
        taken = [metric.labels.index(label) for label in view.labels.values()]
        fixed = tuple(view.fixed.values())
        for series in metric.series:
            if all(series.labels[at] in values for at, values in wanted):
                own = tuple([view.words.get(series.labels[at], series.labels[at]) for at in taken])
                kept.append(Series(own + fixed, series.value, series.distribution))
    return MetricValues(view.name, metric.kind, names, tuple(kept), metric.merge)
