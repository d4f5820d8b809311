"""Which answers objectives judge, and how: one call of a person is one event. The reasons are in types/slos.py."""

from typing import Final, Literal

Outcome = Literal["good", "bad"]

# 429 for these means that the platform was too full; for others (a key's own rate) that the caller asked too much.
FULL: Final = frozenset(("busy", "queue_full", "shed", "out_of_time"))


def outcome(status: int, code: str = "", *, is_repeat: bool = False, is_promised: bool = True) -> Outcome | None:
    """Return how objectives see an answer; None: not at all.

    Args:
        status: HTTP status as the client saw it, 499 where it went away.
        code: of the error, "" for none.
        is_repeat: a client library sends again what it sent before.
        is_promised: no policy sheds the band of the request, and no schedule closes the endpoint.
    """
    if is_repeat or not is_promised:
        return None
    if status >= 500 or (status == 429 and code in FULL):
        return "bad"
    return "good" if status < 400 else None
