"""Cost lines as rows of FOCUS 1.2, the format that FinOps tools read: all of its mandatory columns, and ours after x_.

Source: the FinOps Open Cost and Usage Specification, version 1.2. What a machine costs and what is paid are one number
here (billed, effective, contracted, list): who rents the machines knows their discounts, and writes their price down.
The quantity that is priced is machine time in hours.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from stoker.core.cost.money import HOUR_MS
from stoker.types import days
from stoker.types.costs import CostLine, LineKind
from stoker.types.days import DAY_S, format_moment
from stoker.types.prices import format_dollars
from stoker.types.resources import Task

PROVIDER: Final = "stoker"
CATEGORY: Final = "AI and Machine Learning"
SUBCATEGORY: Final[Mapping[Task, str]] = {
    "chat": "Generative AI",
    "embed": "Machine Learning",
    "predict": "Machine Learning",
}
OTHER: Final = f"Other ({CATEGORY})"
COLUMNS: Final = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart",
    "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountQuantity",
    "CommitmentDiscountStatus", "CommitmentDiscountType", "CommitmentDiscountUnit", "ConsumedQuantity", "ConsumedUnit",
    "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingCategory", "PricingQuantity",
    "PricingUnit", "ProviderName", "PublisherName", "ResourceId", "ResourceName", "ResourceType", "ServiceCategory",
    "ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter", "SubAccountId", "SubAccountName", "Tags", "x_Key",
    "x_Kind", "x_Pool", "x_Revision",
)  # fmt: skip
_WORDS: Final[Mapping[LineKind, str]] = {
    "requests": "answers",
    "failed": "requests that failed or whose caller left",
    "retries": "tries of requests that were tried again",
    "hedges": "second tries whose answer was not needed",
    "canary": "requests answered by a version on trial",
    "shadow": "copies of requests for a version on trial",
    "unmetered": "work of no known request",
    "cold_start": "replicas on their way to be ready",
    "keep_warm": "replicas kept warm while nobody called",
    "idle": "ready replicas without work",
    "unallocated": "parts of machines that no replica held",
    "reserved_unused": "machines that are reserved and not there",
}


class Charged(msgspec.Struct, frozen=True):
    """Lines of one hour, or a longer time, and what the endpoints among them do, by project and name."""

    from_ms: int
    to_ms: int
    lines: tuple[CostLine, ...]
    tasks: Mapping[tuple[str, str], Task] = {}


def rows(charged: Iterable[Charged]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each line, its values in the order of COLUMNS; what a column has no value for is empty."""
    for each in charged:
        for line in each.lines:
            found = _row(line, each)
            yield tuple(found.get(column, "") for column in COLUMNS)


def _row(line: CostLine, charged: Charged) -> dict[str, str]:
    cost, hours = format_dollars(line.nano_usd), f"{line.ms / HOUR_MS:.9f}".rstrip("0").rstrip(".")
    start, end = _month(charged.from_ms)
    endpoint = f"{line.project}/{line.endpoint}" if line.endpoint else f"pool/{line.pool}"
    is_reserved = line.kind == "reserved_unused"
    payer = line.payer or "platform"
    return {
        "BilledCost": cost,
        "BillingAccountId": PROVIDER,
        "BillingAccountName": PROVIDER,
        "BillingCurrency": "USD",
        "BillingPeriodEnd": end,
        "BillingPeriodStart": start,
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{endpoint}: {_WORDS[line.kind]}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": format_moment(charged.to_ms // 1000),
        "ChargePeriodStart": format_moment(charged.from_ms // 1000),
        "ConsumedQuantity": "" if is_reserved else hours,
        "ConsumedUnit": "" if is_reserved else "Hours",
        "ContractedCost": cost,
        "EffectiveCost": cost,
        "InvoiceIssuerName": PROVIDER,
        "ListCost": cost,
        "PricingCategory": "Committed" if is_reserved else "Standard",
        "PricingQuantity": hours,
        "PricingUnit": "Hours",
        "ProviderName": PROVIDER,
        "PublisherName": PROVIDER,
        "ResourceId": endpoint,
        "ResourceName": line.endpoint or line.pool,
        "ResourceType": "Endpoint" if line.endpoint else "Pool",
        "ServiceCategory": CATEGORY,
        "ServiceName": "Model serving",
        "ServiceSubcategory": SUBCATEGORY.get(charged.tasks.get((line.project, line.endpoint), "predict"), OTHER)
        if line.endpoint
        else OTHER,
        "SkuId": f"{line.pool}/{line.kind}",
        "SkuMeter": line.kind,
        "SubAccountId": payer,
        "SubAccountName": payer,
        "Tags": msgspec.json.encode(dict(line.tags)).decode() if line.tags else "",
        "x_Key": line.key,
        "x_Kind": line.kind,
        "x_Pool": line.pool,
        "x_Revision": line.revision,
        **(_commitment(line.pool, hours) if is_reserved else {}),
    }


def _commitment(pool: str, hours: str) -> dict[str, str]:
    """Return which reservation was not used: none of these columns may have a value without the identifier."""
    return {
        "CommitmentDiscountCategory": "Usage",
        "CommitmentDiscountId": f"{PROVIDER}/pool/{pool}/reserved",
        "CommitmentDiscountName": f"reserved nodes of {pool}",
        "CommitmentDiscountQuantity": hours,
        "CommitmentDiscountStatus": "Unused",
        "CommitmentDiscountType": "Reserved nodes",
        "CommitmentDiscountUnit": "Hours",
    }


def _month(at_ms: int) -> tuple[str, str]:
    """Return the begin of the month of `at_ms` and that of the next."""
    first, following = days.month(at_ms // 1000 // DAY_S)
    return format_moment(first * DAY_S), format_moment(following * DAY_S)
