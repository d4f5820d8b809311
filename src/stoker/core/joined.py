"""How a node that joined is: what its conditions say. Pure."""

from typing import Final

from stoker.types.nodes import NodeRow
from stoker.types.statuses import Condition

READY: Final = "NodeReady"
EXPIRES: Final = "CertificateExpiresSoon"
# It is renewed when half is left: at a quarter that has failed for as long as it has left.
LEFT_RATIO_MIN: Final = 0.25


def left_ratio(until_s: float, life_s: float, now_s: float) -> float:
    """Return how much of a certificate's life is left, 0 to 1."""
    return min(max((until_s - now_s) / life_s, 0.0), 1.0)


def conditions(row: NodeRow, life_s: float, answers: tuple[bool, float], now_s: float) -> tuple[Condition, ...]:
    """Return what is to be said of a node. answers: whether its agent does, and since when."""
    is_there, since_s = answers
    ready = Condition(READY, True, "Answers", f"its agent answers on {row.host}:{row.port}", since_s)
    if not is_there:
        words = f"its agent does not answer on {row.host}:{row.port}; replicas on it may still serve"
        ready = Condition(READY, False, "NoAnswer", words, since_s)
    left, at_s = left_ratio(row.until_s, life_s, now_s), row.until_s - life_s * LEFT_RATIO_MIN
    expires = Condition(EXPIRES, False, "Renewed", "its certificates are renewed in time", row.until_s - life_s)
    if left <= 0:
        words = "its certificates have ended: remove it, and let it join again"
        expires = Condition(EXPIRES, True, "Ended", words, row.until_s)
    elif left < LEFT_RATIO_MIN:
        words = f"its certificates end in {row.until_s - now_s:.0f} s and were not renewed: does it reach control?"
        expires = Condition(EXPIRES, True, "NotRenewed", words, at_s)
    return ready, expires
