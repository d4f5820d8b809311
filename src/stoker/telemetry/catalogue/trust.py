"""What control measures of who may what: identity, secrets, nodes, budgets and quotas, and the audit."""

from typing import Final

from stoker.telemetry.catalogue.metric import Metric

TRUST: Final = (
    Metric("stoker_audit_sealed_rows", "gauge", "", (), "The last row of the audit that is under a checkpoint.", "max"),
    Metric(
        "stoker_identity_provider_failing",
        "gauge",
        "",
        ("provider",),
        "1 while an identity provider cannot be asked for its keys; those it had stay good for a day.",
        "max",
    ),
    Metric(
        "stoker_identity_keys_age_seconds",
        "gauge",
        "seconds",
        ("provider",),
        "How long ago an identity provider's keys were fetched.",
        "max",
    ),
    Metric("stoker_audit_problems", "gauge", "", (), "What the last look found to be wrong with the audit.", "max"),
    Metric(
        "stoker_audit_failures_total",
        "counter",
        "",
        ("what",),
        "What of the audit failed: checkpoint, file (it was changed), copy (the second place).",
    ),
    Metric(
        "stoker_secret_failing",
        "gauge",
        "",
        ("project", "secret"),
        "1 where a secret that a manifest names cannot be read, or may not be named; by its reference.",
        "max",
    ),
    Metric(
        "stoker_secret_age_seconds",
        "gauge",
        "seconds",
        ("project", "secret"),
        "Since the value in use was last read, in the process where that is longest ago.",
        "max",
    ),
    Metric(
        "stoker_budget_usd",
        "gauge",
        "",
        ("project", "budget", "kind"),
        "A budget in this period, in US dollars: spent, leased to gateways, and left.",
    ),
    Metric(
        "stoker_budget_units",
        "gauge",
        "",
        ("project", "budget", "unit", "kind"),
        "A budget of requests or tokens in this period: spent, leased to gateways, and left.",
    ),
    Metric(
        "stoker_quota_ratio",
        "gauge",
        "",
        ("project", "quota"),
        "How much of a quota is used, 1 is all of it; project is empty for the platform's own.",
    ),
    Metric(
        "stoker_node_ready", "gauge", "", ("node",), "1 while the agent of a node that joined answers, else 0.", "last"
    ),
    Metric(
        "stoker_node_certificate_expiry_timestamp_seconds",
        "gauge",
        "seconds",
        ("node",),
        "Unix time at which the certificates end that a node shows to others.",
        "last",
    ),
    Metric(
        "stoker_node_certificate_left_ratio",
        "gauge",
        "",
        ("node",),
        "How much of their life those certificates have left; they are renewed at a half.",
        "last",
    ),
)
