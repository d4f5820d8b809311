"""What is measured of usage records: what they cost, and their way from a gateway's journal to control."""

from typing import Final

from stoker.telemetry.catalogue.metric import ENDPOINT, Metric

USAGE: Final[tuple[Metric, ...]] = (
    Metric(
        "stoker_usage_price_micro_dollars_total",
        "counter",
        "",
        ENDPOINT,
        "What requests of an endpoint cost their callers, in millionths of a US dollar.",
    ),
    Metric("stoker_usage_records_total", "counter", "", ("process",), "Usage records written to a gateway's journal."),
    Metric(
        "stoker_usage_records_lost_total",
        "counter",
        "",
        ("process",),
        "Usage records that could not be written: the disk or the journal was full. Of requests without a price.",
    ),
    Metric(
        "stoker_quota_running",
        "gauge",
        "",
        ("process", "scope"),
        "Requests that run under a limit of requests at once: of keys, of projects, or of the platform.",
    ),
    Metric(
        "stoker_usage_records_unsettled",
        "gauge",
        "",
        ("process",),
        "Usage records that control has not settled yet.",
    ),
    Metric("stoker_usage_journal_bytes", "gauge", "bytes", ("process",), "What a gateway's usage journal takes."),
    Metric(
        "stoker_usage_journal_broken_total",
        "counter",
        "",
        ("process",),
        "Segments of usage journals that could not be read to their end: the disk, or a power cut, broke them.",
    ),
    Metric("stoker_usage_settled_total", "counter", "", (), "Usage records that control has settled."),
)
