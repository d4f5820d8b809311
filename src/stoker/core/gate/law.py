"""Which gates a revision has to pass, and what their results make of its dossier. Pure."""

from collections.abc import Sequence
from typing import Final

import msgspec

from stoker.types.ids import Digest
from stoker.types.models import sha256_digest
from stoker.types.releases import BECAUSE_MAX, REASONS, GateResult, Gates, ReleaseState

PENDING: Final = "Pending"
RELEASED: Final = "Released"


class DossierState(msgspec.Struct, frozen=True):
    """How a revision stands: pending, complete (it may take traffic; also where it has no gates) or refused; and why.

    reason: for programs, as conditions have one; because: a sentence. has_served: it had all of the traffic once.
    swaps: it is pending, and the gates that are left need the place of what serves (the strategy recreate).
    """

    state: ReleaseState = "complete"
    because: str = ""
    reason: str = ""
    has_served: bool = False
    swaps: bool = False


BEGINS: Final = DossierState("pending", "its gates have yet to begin", PENDING)


class Kept(msgspec.Struct, frozen=True):
    """What is stored of a revision's newest dossier. has_served: it had traffic once, so a return to it is free."""

    state: ReleaseState
    because: str
    gates: Digest
    has_served: bool
    failed: str = ""  # the gate that was not passed
    swaps: bool = False  # see DossierState


def has_any(gates: Gates) -> bool:
    """Return whether there is anything to pass."""
    is_compared = gates.golden.set != "off" or gates.likeness.when != "off" or gates.profile is not None
    return is_compared or gates.schema != "off" or gates.policy != "off"


def law(gates: Gates) -> Digest:
    """Return what tells two specs of gates apart."""
    return sha256_digest(msgspec.json.encode(gates, order="sorted"))


def stands(kept: Kept | None, gates: Gates, *, serves: bool) -> DossierState:
    """Return how a revision stands with the gates that hold now.

    What serves or served is released whatever the gates have become. A dossier by other gates says nothing: it is made
    again.
    """
    if serves or (kept is not None and kept.has_served):
        return DossierState("complete", "it has served", RELEASED, has_served=True)
    if kept is None or kept.gates != law(gates):
        return BEGINS
    if kept.state == "refused":
        return DossierState("refused", kept.because, REASONS.get(kept.failed, "Refused"))
    reason = PENDING if kept.state == "pending" else RELEASED
    return DossierState(kept.state, kept.because, reason, swaps=kept.swaps and kept.state == "pending")


def outcome(results: Sequence[GateResult]) -> tuple[ReleaseState, str]:
    """Return what results make of a dossier, and why."""
    failed = [each for each in results if each.state == "failed"]
    if failed:
        return "refused", "; ".join(f"{each.kind}: {each.because}" for each in failed)[:BECAUSE_MAX]
    waiting = next((each for each in results if each.state == "pending"), None)
    if waiting is not None:
        return "pending", f"{waiting.kind}: {waiting.because}"[:BECAUSE_MAX]
    passed = sum(each.state == "passed" for each in results)
    return "complete", f"{passed} gate{'' if passed == 1 else 's'} passed" if passed else "no gate to pass"
