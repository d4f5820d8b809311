"""What is wrong with how an endpoint's predictions wait for labels, beyond the types of its fields."""

from typing import Final

from stoker.protocol.conform import shown
from stoker.types.resources import EndpointSpec
from stoker.types.units import parse_seconds

KEEP_S_MIN: Final = 60.0
KEEP_S_MAX: Final = 90 * 86_400.0


def feedback_problems(spec: EndpointSpec) -> list[tuple[str, str]]:
    """Return (field, message) of each problem."""
    feedback = spec.feedback
    if feedback is None:
        return []
    found = []
    if not KEEP_S_MIN <= parse_seconds(feedback.keep) <= KEEP_S_MAX:
        found.append(("spec.feedback.keep", f"{shown(feedback.keep)} is not between one minute and 90 days"))
    if feedback.tolerance is not None and feedback.kind != "regression":
        found.append(("spec.feedback.tolerance", "a class is right or wrong; leave it out, or write kind: regression"))
    if spec.backends:
        found.append(("spec.feedback", "the endpoints in `backends` predict; write it there"))
    return found
