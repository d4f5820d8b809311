"""Every number the platform measures, in one table: name, kind, unit, labels, meaning.

A metric that is not here cannot be created, so this table, the reference page made of it and what `/metrics` shows
are the same. Names follow vLLM and OpenTelemetry where a concept has a name there.
"""

from dataclasses import dataclass
from typing import Final, Literal

MetricKind = Literal["counter", "gauge", "histogram"]
Unit = Literal["", "seconds", "bytes", "tokens", "rows", "ratio"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table. `labels` are all set at creation, in any order.

    over_processes: how a gauge that several processes tell is one number: each has its own part, or all see the same.
    """

    name: str
    kind: MetricKind
    unit: Unit
    labels: tuple[str, ...]
    meaning: str
    over_processes: Literal["sum", "max"] = "sum"


_ENDPOINT: Final = ("project", "endpoint")
_REVISION: Final = ("project", "endpoint", "revision")

METRICS: Final[tuple[Metric, ...]] = (
    # The data plane, measured in each gateway.
    Metric(
        "stoker_requests_total",
        "counter",
        "",
        (*_REVISION, "method", "code"),
        "Requests answered, by HTTP status; 499 where the client went away first.",
    ),
    Metric(
        "stoker_first_attempts_total",
        "counter",
        "",
        (*_REVISION, "outcome"),
        "Requests that objectives judge: good, or bad by a fault of the platform. Not what a caller did wrong, and not "
        "what a client library sends again.",
    ),
    Metric(
        "stoker_request_duration_seconds",
        "histogram",
        "seconds",
        (*_REVISION, "method"),
        "From the request's head to the last byte of its answer.",
    ),
    Metric(
        "stoker_time_to_first_token_seconds",
        "histogram",
        "seconds",
        _REVISION,
        "From the request's head to the first byte of a streamed answer.",
    ),
    Metric(
        "stoker_time_per_output_token_seconds",
        "histogram",
        "seconds",
        _REVISION,
        "Of a streamed answer: time after the first token, per token after the first.",
    ),
    Metric(
        "stoker_tokens_total",
        "counter",
        "tokens",
        (*_REVISION, "kind"),
        "Tokens; kind is input, output, cached (of the input), or saved: of answers given again without computing.",
    ),
    Metric("stoker_rows_total", "counter", "rows", _REVISION, "Rows predicted or embedded."),
    Metric("stoker_queue_depth", "gauge", "", _ENDPOINT, "Requests that wait in the gateway for a replica."),
    Metric("stoker_queue_wait_seconds", "histogram", "seconds", _ENDPOINT, "Time a request waited in the gateway."),
    Metric("stoker_in_flight", "gauge", "", _ENDPOINT, "Requests sent to a replica and not yet ended."),
    Metric(
        "stoker_retries_total",
        "counter",
        "",
        (*_ENDPOINT, "reason"),
        "Requests tried again on a replica, by the error code of the failed try.",
    ),
    Metric(
        "stoker_fallbacks_total",
        "counter",
        "",
        (*_ENDPOINT, "reason", "to"),
        "Requests for an endpoint that went on to another; reason is error, unavailable, timeout, overload or open.",
    ),
    Metric(
        "stoker_breaker_state",
        "gauge",
        "",
        (*_ENDPOINT, "process"),
        "Of an endpoint that falls back, is fallen back to or is a backend: 0 closed, 1 half-open, 2 open.",
    ),
    Metric("stoker_rule_errors_total", "counter", "", _ENDPOINT, "Rules of backends that failed, and so did not hold."),
    Metric(
        "stoker_retries_denied_total",
        "counter",
        "",
        (*_ENDPOINT, "reason"),
        "Failed tries that were not followed by another: reason is budget or tries.",
    ),
    Metric(
        "stoker_migrations_total",
        "counter",
        "",
        (*_ENDPOINT, "reason", "outcome"),
        "Streams cut in the middle, by the error code of the cut; outcome is done, gone, failed or declined.",
    ),
    Metric(
        "stoker_hedges_total",
        "counter",
        "",
        (*_ENDPOINT, "outcome"),
        "Second tries beside a slow first one; outcome is won, lost, failed, or denied (no budget or no free place).",
    ),
    Metric(
        "stoker_hedge_wasted_seconds_total",
        "counter",
        "seconds",
        _ENDPOINT,
        "How long the losing try of each hedged request held its place in a replica.",
    ),
    Metric(
        "stoker_quarantined_total",
        "counter",
        "",
        _ENDPOINT,
        "Request shapes put into quarantine because replicas died with them.",
    ),
    Metric(
        "stoker_ejections_total",
        "counter",
        "",
        (*_ENDPOINT, "reason"),
        "Replicas taken out of rotation, by what was seen of them: silent, stuck, errors or slow.",
    ),
    Metric(
        "stoker_route_choices_total",
        "counter",
        "",
        (*_ENDPOINT, "why"),
        "Choices between several replicas, by what decided: two_choices, session, affinity, explore, overloaded_owner, "
        "or probe for one that is out.",
    ),
    Metric(
        "stoker_prefix_guesses_total",
        "counter",
        "",
        (*_ENDPOINT, "guess", "actual"),
        "Answers to prompts, by whether their beginning was thought to be in the replica's cache, and was.",
    ),
    Metric(
        "stoker_refused_total",
        "counter",
        "",
        (*_ENDPOINT, "reason"),
        "Requests refused before a replica saw them, by error code.",
    ),
    Metric(
        "stoker_cancelled_total", "counter", "", _ENDPOINT, "Requests whose client went away before the answer's end."
    ),
    Metric("stoker_cache_hits_total", "counter", "", _ENDPOINT, "Requests answered with a kept answer."),
    Metric(
        "stoker_cache_misses_total",
        "counter",
        "",
        _ENDPOINT,
        "Requests that a kept answer could have served, had there been one.",
    ),
    Metric("stoker_cache_bytes", "gauge", "bytes", _ENDPOINT, "What the kept answers take in memory."),
    Metric(
        "stoker_samples_total",
        "counter",
        "",
        (*_ENDPOINT, "reason"),
        "Requests kept as samples: drawn, error, slow; one that is several counts under each.",
    ),
    Metric("stoker_samples_bytes_total", "counter", "bytes", _ENDPOINT, "What the kept samples took on the disk."),
    Metric(
        "stoker_samples_dropped_total",
        "counter",
        "",
        (*_ENDPOINT, "reason"),
        "Samples that were not kept: hour (per_hour is reached), queue (more than the thread that redacts can take), "
        "disk (it is full or cannot be written), key (the keys cannot be read), bug.",
    ),
    Metric(
        "stoker_coalesced_total", "counter", "", _ENDPOINT, "Requests that shared the call of an equal one in flight."
    ),
    Metric(
        "stoker_replicas_ready",
        "gauge",
        "",
        _ENDPOINT,
        "Replicas this gateway may send to: connected and not ejected.",
        over_processes="max",
    ),
    Metric("stoker_gateway_connections", "gauge", "", ("process",), "Client connections open now."),
    Metric("stoker_route_table_version", "gauge", "", ("process",), "Version of the route table in use."),
    Metric(
        "stoker_tls_certificate_expiry_timestamp_seconds",
        "gauge",
        "seconds",
        ("process",),
        "When the certificate that clients are shown ends, in unix time.",
    ),
    Metric(
        "stoker_tls_handshakes_total",
        "counter",
        "",
        ("process", "result"),
        "Handshakes with clients; result is made, failed, plain (no TLS was spoken) or gone (too slow, or left).",
    ),
    Metric(
        "stoker_tls_reloads_total",
        "counter",
        "",
        ("process", "result"),
        "New certificates found; result is taken, or refused (no pair, broken), and then the old one stays.",
    ),
    # What replicas report with each answer.
    Metric("stoker_batch_rows", "histogram", "rows", _REVISION, "Rows in the engine call that a request was part of."),
    Metric(
        "stoker_engine_calls_total",
        "counter",
        "",
        (*_REVISION, "because"),
        "Engine calls, by why no more was joined: queue (nothing else waited), max_rows, max_bytes, deadline, shed "
        "(a deadline, others were dropped for it), alone.",
    ),
    Metric(
        "stoker_dropped_total",
        "counter",
        "",
        _REVISION,
        "Requests that a replica gave up because their deadline had passed or could not be made.",
    ),
    Metric(
        "stoker_padded_values_total",
        "counter",
        "",
        (*_REVISION, "kind"),
        "Values in the engine calls of an endpoint that pads; kind is input or padding.",
    ),
    Metric(
        "stoker_replica_queue_seconds", "histogram", "seconds", _REVISION, "Time a request waited inside the replica."
    ),
    Metric(
        "stoker_replica_compute_seconds",
        "histogram",
        "seconds",
        _REVISION,
        "Engine time of the batch a request was part of, or prefill and decode.",
    ),
    Metric(
        "stoker_kv_cache_usage_ratio",
        "gauge",
        "ratio",
        (*_REVISION, "replica"),
        "Share of the key-value cache in use.",
        over_processes="max",
    ),
    # The control plane.
    Metric("stoker_api_requests_total", "counter", "", ("method", "code"), "Requests to the control API."),
    Metric(
        "stoker_api_request_duration_seconds", "histogram", "seconds", ("method",), "Duration of control API requests."
    ),
    Metric("stoker_watch_seconds", "histogram", "seconds", (), "One look of the watch at all objectives."),
    Metric("stoker_watch_errors_total", "counter", "", (), "Looks of the watch that failed."),
    Metric(
        "stoker_slo_budget_left_ratio",
        "gauge",
        "ratio",
        (*_ENDPOINT, "slo"),
        "Error budget that is left: 1 is untouched, negative is overdrawn.",
    ),
    Metric(
        "stoker_slo_burn_rate",
        "gauge",
        "",
        (*_ENDPOINT, "slo"),
        "How many times faster than allowed the budget goes (over an hour, for a window of 30 days).",
    ),
    Metric("stoker_alerts", "gauge", "", ("severity", "state"), "Alerts there are."),
    Metric("stoker_notices_total", "counter", "", ("outcome",), "Notices to receivers: delivered, or lost (given up)."),
    Metric("stoker_loop_seconds", "histogram", "seconds", (), "One turn of observe, decide, apply."),
    Metric("stoker_loop_errors_total", "counter", "", (), "Turns of the loop that failed."),
    Metric("stoker_decisions_total", "counter", "", ("action",), "Actions the loop took, by kind."),
    Metric("stoker_replicas", "gauge", "", (*_ENDPOINT, "phase"), "Replicas by phase, as the nodes report them."),
    Metric("stoker_history_series", "gauge", "", (), "Series that the history of metrics keeps."),
    Metric("stoker_history_bytes", "gauge", "bytes", (), "What the history's rows take on disk."),
    Metric("stoker_history_refused_total", "counter", "", (), "New series for which the history had no room."),
    Metric("stoker_history_failures_total", "counter", "", (), "Writes of the history that failed and were kept back."),
    # Every process.
    Metric("stoker_process_resident_memory_bytes", "gauge", "bytes", ("process",), "Resident memory."),
    Metric("stoker_process_cpu_seconds_total", "counter", "seconds", ("process",), "Processor time used."),
    Metric(
        "stoker_event_loop_lag_seconds",
        "histogram",
        "seconds",
        ("process",),
        "How late a timer of the event loop fired: what blocks it.",
    ),
)

BY_NAME: Final[dict[str, Metric]] = {metric.name: metric for metric in METRICS}
