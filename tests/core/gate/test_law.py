"""What results of gates make of a dossier, in a sentence that hides nothing."""

from stoker.core.gate import law
from stoker.types.releases import GateKind, GateResult, GateState


def result(kind: GateKind, state: GateState, because: str = "as it should be") -> GateResult:
    return GateResult(kind, state, because)


def test_a_dossier_is_complete_where_nothing_failed_and_nothing_waits() -> None:
    passed = [result("schema", "passed"), result("golden", "skipped")]
    assert law.outcome(passed) == ("complete", "1 gate passed")
    assert law.outcome([]) == ("complete", "no gate to pass")
    assert law.outcome([*passed, result("profile", "pending", "runs")]) == ("pending", "profile: runs")
    failed = [*passed, result("golden", "failed", "too bad"), result("profile", "pending")]
    assert law.outcome(failed) == ("refused", "golden: too bad")


def test_what_recreate_has_no_room_for_is_said_beside_what_was_passed() -> None:
    left = [result("golden", "skipped", law.RECREATES), result("golden", "skipped", law.RECREATES)]
    found = law.outcome([result("schema", "passed"), *left, result("profile", "skipped", law.RECREATES)])
    assert found == ("complete", f"1 gate passed; golden and profile left out: {law.RECREATES}")
