"""The export holds what the specification asks of a row, and loses no nano-dollar."""

from decimal import Decimal
from typing import get_args

import pytest

from stoker.core.cost.focus import COLUMNS, Charged, rows
from stoker.core.cost.money import HOUR_MS
from stoker.types.costs import CostLine, LineKind

# FOCUS 1.2: columns of the feature level "Mandatory", and of these the ones that may be null.
MANDATORY = frozenset((
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost",
    "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName",
    "ServiceCategory", "ServiceName",
))  # fmt: skip
NULLABLE = {"ChargeClass"}
HOUR = 1_796_083_200_000 - 1_796_083_200_000 % HOUR_MS  # in December 2026


def _rows(*lines: CostLine) -> list[dict[str, str]]:
    charged = Charged(HOUR, HOUR + HOUR_MS, lines, {("a", "chat"): "chat"})
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows([charged])]


@pytest.mark.parametrize("kind", get_args(LineKind))
def test_a_row_has_all_mandatory_columns(kind: LineKind) -> None:
    (row,) = _rows(
        CostLine(kind, "default", 1_234_567, HOUR_MS // 2, "a", "a", "chat", "chat-1", "k1", (("team", "x"),))
    )
    assert set(row) >= MANDATORY
    assert all(row[column] for column in MANDATORY - NULLABLE)
    assert row["ChargePeriodStart"] < row["ChargePeriodEnd"] <= row["BillingPeriodEnd"]
    assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == ("2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z")
    assert (row["PricingQuantity"], row["PricingUnit"]) == ("0.5", "Hours")
    assert row["ServiceSubcategory"] == "Generative AI"
    assert row["Tags"] == '{"team":"x"}'


def test_costs_are_exact_decimals_that_add_up() -> None:
    amounts = [1, 999_999_999, 10**12 + 1, 0]
    found = _rows(*(CostLine("idle", "default", amount, 1, "a", "a", "chat") for amount in amounts))
    assert sum(Decimal(row["BilledCost"]) for row in found) * 10**9 == sum(amounts)
    assert all(row["BilledCost"] == row["EffectiveCost"] == row["ListCost"] == row["ContractedCost"] for row in found)


def test_what_no_endpoint_held_is_the_pools_and_the_platform_pays_it() -> None:
    (row,) = _rows(CostLine("unallocated", "gpu", 5, HOUR_MS))
    assert (row["ResourceId"], row["ResourceType"], row["SubAccountId"]) == ("pool/gpu", "Pool", "platform")
    assert row["ServiceSubcategory"] == "Other (AI and Machine Learning)"


def test_a_reservation_without_its_machine_is_a_commitment_unused() -> None:
    (row,) = _rows(CostLine("reserved_unused", "gpu", 5, HOUR_MS))
    assert (row["PricingCategory"], row["CommitmentDiscountStatus"], row["ConsumedQuantity"]) == (
        "Committed",
        "Unused",
        "",
    )


@pytest.mark.parametrize("kind", get_args(LineKind))
def test_a_commitment_is_told_with_its_identifier_or_not_at_all(kind: LineKind) -> None:
    (row,) = _rows(CostLine(kind, "gpu", 5, HOUR_MS // 2))
    told = {name: row[name] for name in COLUMNS if name.startswith("CommitmentDiscount")}
    assert len(told) == 7
    assert all(told.values()) if kind == "reserved_unused" else not any(told.values())
    assert told["CommitmentDiscountQuantity"] == ("0.5" if kind == "reserved_unused" else "")
