"""Every number the platform measures, in one table: name, kind, unit, labels, meaning, and how gauges merge.

A metric that is not here cannot be created, so this table, the reference page made of it and what `/metrics` shows
are the same. Other names for the same numbers (vLLM's, OpenTelemetry's) are made of them in telemetry/views.py.
"""

from typing import Final

from stoker.telemetry.catalogue.costs import COSTS
from stoker.telemetry.catalogue.gateway import GATEWAY
from stoker.telemetry.catalogue.metric import MergeRule, Metric, MetricKind, Unit
from stoker.telemetry.catalogue.platform import PLATFORM
from stoker.telemetry.catalogue.replica import REPLICA, SAID_BY_REPLICA
from stoker.telemetry.catalogue.trust import TRUST
from stoker.telemetry.catalogue.usage import USAGE

__all__ = ["BY_NAME", "METRICS", "SAID_BY_REPLICA", "MergeRule", "Metric", "MetricKind", "Unit"]

METRICS: Final[tuple[Metric, ...]] = (*GATEWAY, *USAGE, *COSTS, *REPLICA, *PLATFORM, *TRUST)
BY_NAME: Final[dict[str, Metric]] = {metric.name: metric for metric in METRICS}
