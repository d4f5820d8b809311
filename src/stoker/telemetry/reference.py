"""The reference page of all metrics, made from the catalogue.

python -m stoker.telemetry.reference > docs/reference/metrics.md
"""

import sys

from stoker.telemetry.catalogue import METRICS
from stoker.telemetry.metrics import OTHER, SERIES_MAX


def page() -> str:
    """Return the page as Markdown."""
    lines = [
        "# Metrics",
        "",
        "The gateways answer them as Prometheus text at `/metrics` on their port, control on its own. Histograms are",
        "kept with 8 buckets per power of two, the layout of Prometheus native histograms (schema 3): a quantile is",
        "within 9 % of the true value; `/metrics` shows the powers of two among the bounds as `le`.",
        "",
        f"A metric holds at most {SERIES_MAX:,} series in one process. What comes after is counted in one series whose",
        f"labels are all `{OTHER}`.",
        "",
        "This page is made by `python -m stoker.telemetry.reference > docs/reference/metrics.md`.",
        "",
        "| name | kind | unit | labels | meaning |",
        "|---|---|---|---|---|",
    ]
    lines.extend(
        f"| `{metric.name}` | {metric.kind} | {metric.unit or '–'} | "
        f"{', '.join(f'`{label}`' for label in metric.labels) or '–'} | {metric.meaning} |"
        for metric in METRICS
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
