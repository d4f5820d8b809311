"""What is measured of replicas: in each gateway by their answers, and in each replica of itself."""

from typing import Final

from stoker.telemetry.catalogue.metric import REVISION, Metric

_ONE: Final = (*REVISION, "replica")

_SEEN: Final[tuple[Metric, ...]] = (
    Metric(
        "stoker_replica_requests_total",
        "counter",
        "",
        (*_ONE, "code"),
        "Tries sent to a replica, by the HTTP status they came to; 499 where they were given up.",
    ),
    Metric(
        "stoker_replica_request_duration_seconds",
        "histogram",
        "seconds",
        _ONE,
        "From the sending of a try to its end.",
    ),
    Metric(
        "stoker_replica_stalled_seconds_total",
        "counter",
        "seconds",
        _ONE,
        "Time in which a replica held a gateway's requests and showed no progress: no answer to a ping for 5 s, or "
        "nothing finished for longer than it ever took. Each gateway counts its own.",
    ),
    # What replicas report with each answer.
    Metric("stoker_batch_rows", "histogram", "rows", REVISION, "Rows in the engine call that a request was part of."),
    Metric(
        "stoker_engine_calls_total",
        "counter",
        "",
        (*REVISION, "because"),
        "Engine calls, by why no more was joined: queue (nothing else waited), max_rows, max_bytes, deadline, shed "
        "(a deadline, others were dropped for it), alone.",
    ),
    Metric(
        "stoker_dropped_total",
        "counter",
        "",
        REVISION,
        "Requests that a replica gave up because their deadline had passed or could not be made.",
    ),
    Metric(
        "stoker_padded_values_total",
        "counter",
        "",
        (*REVISION, "kind"),
        "Values in the engine calls of an endpoint that pads; kind is input or padding.",
    ),
)
# What a replica says of itself, and is believed: of the first its gateways tell too, as it is with each answer.
_SAID: Final[tuple[Metric, ...]] = (
    Metric(
        "stoker_kv_cache_usage_ratio",
        "gauge",
        "ratio",
        (*REVISION, "replica"),
        "Share of the key-value cache in use.",
        "max",
    ),
    Metric("stoker_engine_queue_depth", "gauge", "", _ONE, "Requests that wait in a replica for its engine.", "max"),
    Metric("stoker_engine_running", "gauge", "", _ONE, "Requests that an engine works on.", "max"),
    Metric(
        "stoker_engine_slots",
        "gauge",
        "",
        _ONE,
        "Requests that an engine can work on at once; 0: it cannot say.",
        "max",
    ),
    Metric("stoker_engine_finished_total", "counter", "", _ONE, "Requests that a replica ended."),
    Metric(
        "stoker_engine_busy_seconds_total",
        "counter",
        "seconds",
        _ONE,
        "Time in which an engine worked on anything.",
    ),
    Metric("stoker_engine_tokens_total", "counter", "tokens", _ONE, "Tokens that an engine made."),
    Metric(
        "stoker_replica_unwritable",
        "gauge",
        "",
        _ONE,
        "1 while a replica can write to no file of its own: a full disk, a quota, or a fault on purpose.",
        "max",
    ),
    Metric(
        "stoker_replica_clock_stepped_seconds_total",
        "counter",
        "seconds",
        _ONE,
        "Seconds by which the wall clock, as a replica reads it, was set while it ran.",
    ),
    Metric(
        "stoker_load_seconds",
        "gauge",
        "seconds",
        (*_ONE, "stage"),
        "What the start of a replica took: process, imports, verify, engine (or what the engine calls its stages), "
        "warm-up; and its first answer.",
        "last",
        kept=False,  # stoker_cold_start_seconds has it, by endpoint and over all starts
    ),
)

REPLICA: Final[tuple[Metric, ...]] = (*_SEEN, *_SAID)
SAID_BY_REPLICA: Final = frozenset(each.name for each in _SAID)
