"""What control, agents and every process measure of themselves and of the machine."""

from typing import Final

from stoker.telemetry.catalogue.metric import ENDPOINT, REVISION, Metric

PLATFORM: Final[tuple[Metric, ...]] = (
    # The control plane.
    Metric("stoker_api_requests_total", "counter", "", ("method", "code"), "Requests to the control API."),
    Metric(
        "stoker_api_request_duration_seconds", "histogram", "seconds", ("method",), "Duration of control API requests."
    ),
    Metric("stoker_loop_seconds", "histogram", "seconds", (), "One turn of observe, decide, apply."),
    Metric("stoker_loop_errors_total", "counter", "", (), "Turns of the loop that failed."),
    Metric("stoker_decisions_total", "counter", "", ("action",), "Actions the loop took, by kind."),
    Metric("stoker_replicas", "gauge", "", (*ENDPOINT, "phase"), "Replicas by phase, as the nodes report them."),
    Metric("stoker_replicas_wanted", "gauge", "", ENDPOINT, "Replicas that there shall be, of all revisions.", "max"),
    Metric("stoker_watch_seconds", "histogram", "seconds", (), "One look of the watch at all objectives."),
    Metric("stoker_watch_errors_total", "counter", "", (), "Looks of the watch that failed."),
    Metric(
        "stoker_slo_budget_left_ratio",
        "gauge",
        "ratio",
        (*ENDPOINT, "slo"),
        "Error budget that is left: 1 is untouched, negative is overdrawn.",
    ),
    Metric(
        "stoker_slo_burn_rate",
        "gauge",
        "",
        (*ENDPOINT, "slo"),
        "How many times faster than allowed the budget goes (over an hour, for a window of 30 days).",
    ),
    Metric("stoker_alerts", "gauge", "", ("severity", "state"), "Alerts there are."),
    Metric("stoker_notices_total", "counter", "", ("outcome",), "Notices to receivers: delivered, or lost (given up)."),
    Metric("stoker_history_series", "gauge", "", (), "Series that the history of metrics keeps."),
    Metric("stoker_history_bytes", "gauge", "bytes", (), "What the history's rows take on disk."),
    Metric("stoker_history_refused_total", "counter", "", (), "New series for which the history had no room."),
    Metric("stoker_history_failures_total", "counter", "", (), "Writes of the history that failed and were kept back."),
    Metric("stoker_drifted", "gauge", "", ENDPOINT, "1 while the endpoint's data has drifted from its reference."),
    Metric("stoker_drift_score", "gauge", "", ENDPOINT, "The PSI of the feature that moved most, over the window."),
    Metric(
        "stoker_drift_shift",
        "histogram",
        "",
        ENDPOINT,
        "The same score, once a verdict over enough rows: the events of a drift objective.",
    ),
    Metric(
        "stoker_drift_features",
        "gauge",
        "",
        (*ENDPOINT, "level"),
        "Features by level: steady; moved, surely but less than the threshold; drifted.",
    ),
    Metric("stoker_drift_rows", "gauge", "rows", ENDPOINT, "Rows in the window that is compared."),
    Metric(
        "stoker_drift_refused", "gauge", "", ENDPOINT, "Requests in the window that did not fit the model's signature."
    ),
    Metric(
        "stoker_drift_triggers_total",
        "counter",
        "",
        (*ENDPOINT, "outcome"),
        "Drift events, by outcome: sent or failed.",
    ),
    Metric("stoker_feedback_total", "counter", "", ("project", "outcome"), "Labels: joined, duplicate or unknown yet."),
    Metric(
        "stoker_predictions_total",
        "counter",
        "",
        (*ENDPOINT, "outcome"),
        "Predictions that were to be kept for their labels: kept or dropped.",
    ),
    Metric(
        "stoker_predictions_judged_total",
        "counter",
        "",
        (*REVISION, "segment"),
        "Predictions that got their first label, by segment (50 of an endpoint, then `_other`).",
    ),
    Metric("stoker_predictions_right_total", "counter", "", (*REVISION, "segment"), "Those of them that were right."),
    Metric(
        "stoker_prediction_score_ratio",
        "histogram",
        "ratio",
        ENDPOINT,
        "How good predictions were by their first label: 1 right, 0 wrong, or the score that was given.",
    ),
    Metric("stoker_prediction_error", "histogram", "", REVISION, "Absolute error of predicted values."),
    Metric(
        "stoker_estimated_accuracy_ratio",
        "gauge",
        "ratio",
        ENDPOINT,
        "The accuracy to expect of the last day's predictions without a label; not there while nothing tells it.",
    ),
    # The agent, of the node it runs on.
    Metric(
        "stoker_cold_starts_total",
        "counter",
        "",
        (*ENDPOINT, "kind", "node"),
        "Processes that became ready after a start; of the platform's own, project and endpoint are empty.",
    ),
    Metric(
        "stoker_cold_start_seconds",
        "histogram",
        "seconds",
        (*ENDPOINT, "node", "phase"),
        "How long a replica took to be ready; phase is total, or a stage of the load: verify, engine, warm-up.",
    ),
    Metric(
        "stoker_restarts_total",
        "counter",
        "",
        (*ENDPOINT, "kind", "node", "reason"),
        "Processes started again after they had died; reason is exit, signal or unseen.",
    ),
    Metric(
        "stoker_node_memory_bytes", "gauge", "bytes", ("node",), "Memory that processes of the node may use.", "last"
    ),
    Metric("stoker_node_memory_free_bytes", "gauge", "bytes", ("node",), "What is left of it.", "last"),
    Metric("stoker_node_cores", "gauge", "", ("node",), "Cores that processes of the node may use.", "last"),
    Metric(
        "stoker_node_cpu_ratio",
        "gauge",
        "ratio",
        ("node",),
        "Share of the machine's processor time that was used, by whomever, since the last look.",
        "last",
    ),
    Metric(
        "stoker_node_cpu_pressure_ratio",
        "gauge",
        "ratio",
        ("node",),
        "Share of the time since the last look in which something waited for a core (Linux PSI, some).",
        "last",
    ),
    Metric(
        "stoker_gpu_utilization_ratio",
        "gauge",
        "ratio",
        ("node", "gpu"),
        "Share of the last moments a GPU worked.",
        "last",
    ),
    Metric("stoker_gpu_memory_used_bytes", "gauge", "bytes", ("node", "gpu"), "Memory of a GPU in use.", "last"),
    Metric("stoker_gpu_memory_bytes", "gauge", "bytes", ("node", "gpu"), "Memory that a GPU has.", "last"),
    # Every process. The names are those of Prometheus' own client libraries.
    Metric("process_cpu_seconds_total", "counter", "seconds", ("process",), "Processor time used."),
    Metric("process_resident_memory_bytes", "gauge", "bytes", ("process",), "Resident memory.", "last"),
    Metric("process_open_fds", "gauge", "", ("process",), "File descriptors open.", "last"),
    Metric("process_max_fds", "gauge", "", ("process",), "File descriptors that may be open.", "last"),
    Metric("process_threads", "gauge", "", ("process",), "Threads.", "last"),
    Metric(
        "process_start_time_seconds",
        "gauge",
        "seconds",
        ("process",),
        "When the process started, in unix time.",
        "last",
    ),
    Metric(
        "stoker_event_loop_lag_seconds",
        "histogram",
        "seconds",
        ("process",),
        "How late a timer of the event loop fired: what blocks it.",
    ),
    # What leaves for an OTLP receiver.
    Metric(
        "stoker_traces_missed_total",
        "counter",
        "",
        (),
        "Traces that newer ones had replaced in their gateway before they were sent.",
    ),
    Metric(
        "stoker_otlp_exports_total",
        "counter",
        "",
        ("signal", "result"),
        "Batches of metrics or traces for the OTLP receiver; result is sent, refused, failed or dropped.",
    ),
)
