"""What is measured of costs: where the money of machines went."""

from typing import Final

from stoker.telemetry.catalogue.metric import ENDPOINT, Metric

COSTS: Final[tuple[Metric, ...]] = (
    Metric(
        "stoker_cost_micro_dollars_total",
        "counter",
        "",
        ("kind", "pool", *ENDPOINT),
        "What machines cost, in millionths of a US dollar, by what for; grows when an hour is over. "
        "endpoint is empty for what no replica held, `other` where there are too many.",
        kept=False,
    ),
    Metric(
        "stoker_cost_machine_seconds_total",
        "counter",
        "seconds",
        ("kind", "pool", *ENDPOINT),
        "The time of replicas and machines that was paid for, by what for, as in stoker_cost_micro_dollars_total.",
        kept=False,
    ),
)
