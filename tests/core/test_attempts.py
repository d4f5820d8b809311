"""Which answers count for or against an objective."""

import pytest

from stoker.core.attempts import FULL, outcome
from stoker.types.errors import BudgetExceeded, QuotaExceeded, RateLimited, TooManyAtOnce, all_codes


@pytest.mark.parametrize(
    ("status", "code", "seen"),
    [
        (200, "", "good"),
        (500, "engine_failed", "bad"),
        (503, "unavailable", "bad"),
        (504, "deadline_exceeded", "bad"),
        (429, "queue_full", "bad"),
        (429, "rate_limit_exceeded", None),
        (429, "budget_exceeded", None),
        (429, "quota_exceeded", None),
        (429, "concurrency_exceeded", None),
        (400, "invalid_input", None),
        (422, "poison_request", None),
        (499, "", None),
    ],
)
def test_the_platforms_faults_are_bad_and_the_callers_are_nothing(status: int, code: str, seen: str | None) -> None:
    assert outcome(status, code) == seen
    assert outcome(status, code, is_repeat=True) is None


def test_every_way_of_being_full_is_a_fault_of_the_platform() -> None:
    refusals = {kind.code for kind in all_codes().values() if kind.status == 429}
    assert refusals - FULL == {each.code for each in (RateLimited, TooManyAtOnce, BudgetExceeded, QuotaExceeded)}
