"""The reference page of all metrics, made from the catalogue.

python -m stoker.telemetry.reference > docs/reference/metrics.md
"""

import sys

from stoker.telemetry.catalogue import METRICS, Metric
from stoker.telemetry.metrics import OTHER, SERIES_MAX
from stoker.telemetry.views import GEN_AI, VLLM, View


def page() -> str:
    """Return the page as Markdown."""
    lines = [
        "# Metrics",
        "",
        "The gateways answer theirs at `/metrics` on their port, as one; control those of itself, the agent and the",
        "replicas on its own. Both as Prometheus text or OpenMetrics: [how to monitor](../how-to/monitor.md).",
        "Histograms are kept with 8 buckets per power of two, the layout of Prometheus native histograms (schema 3): a",
        "quantile is within 9 % of the true value; `/metrics` shows the powers of two among the bounds as `le`.",
        "",
        "Counters and histograms of several processes add up; gauges too, but those of which the table says `max` or",
        "`last`: the largest, or what was said last.",
        "",
        f"A metric holds at most {SERIES_MAX:,} series in one process. What comes after is counted in one series whose",
        f"labels are all `{OTHER}`.",
        "",
        "The [history](../how-to/queries.md) keeps them all but those that say so in their kind.",
        "",
        "This page is made by `python -m stoker.telemetry.reference > docs/reference/metrics.md`.",
        "",
        "| name | kind | unit | labels | meaning |",
        "|---|---|---|---|---|",
    ]
    lines.extend(
        f"| `{metric.name}` | {_kind(metric)} | {metric.unit or '–'} | "
        f"{', '.join(f'`{label}`' for label in metric.labels) or '–'} | {metric.meaning} |"
        for metric in METRICS
    )
    lines += ["", "The same numbers under vLLM's names, at the gateways:", "", "| name | of |", "|---|---|"]
    lines += [f"| `{view.name}` | {_source(view)} |" for view in VLLM]
    lines += ["", "And under OpenTelemetry's, for an OTLP receiver:", "", "| name | of |", "|---|---|"]
    lines += [f"| `{view.name}` | {_source(view)} |" for view in GEN_AI]
    return "\n".join(lines) + "\n"


def _kind(metric: Metric) -> str:
    merged = metric.kind == "gauge" and metric.over_processes != "sum"
    kind = f"gauge ({metric.over_processes})" if merged else metric.kind
    return kind if metric.kept else f"{kind}, not kept"


def _source(view: View) -> str:
    where = ", ".join(f"{label} {' or '.join(values)}" for label, values in view.where.items())
    return f"`{view.source}`" + (f": {where}" if where else "")


if __name__ == "__main__":
    sys.stdout.write(page())
