"""What results of gates make of a dossier, in a sentence that hides nothing."""

import msgspec

from stoker.core.gate import law
from stoker.types.releases import GateKind, GateResult, Gates, GateState


def result(kind: GateKind, state: GateState, because: str = "as it should be") -> GateResult:
    return GateResult(kind, state, because)


def test_a_dossier_is_complete_where_nothing_failed_and_nothing_waits() -> None:
    passed = [result("schema", "passed"), result("golden", "skipped")]
    assert law.outcome(passed) == ("complete", "1 gate passed")
    assert law.outcome([]) == ("complete", "no gate to pass")
    assert law.outcome([*passed, result("profile", "pending", "runs")]) == ("pending", "profile: runs")
    failed = [*passed, result("golden", "failed", "too bad"), result("profile", "pending")]
    assert law.outcome(failed) == ("refused", "golden: too bad")


def test_that_what_serves_may_go_is_said_only_while_gates_wait_for_its_place() -> None:
    gates = Gates()
    kept = law.Kept("pending", "golden: waits", law.law(gates), has_served=False, swaps=True)
    assert law.stands(kept, gates, serves=False).swaps
    assert not law.stands(kept, Gates(schema="off"), serves=False).swaps  # by other gates it begins anew
    for state in ("complete", "refused"):
        assert not law.stands(msgspec.structs.replace(kept, state=state), gates, serves=False).swaps
