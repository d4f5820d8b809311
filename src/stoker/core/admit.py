"""Whether a request that finds no free place waits or is refused, and when a refused one should come back."""

from typing import Final, Literal

RETRY_AFTER_MAX_S: Final = 120.0
# How long a request waits for replicas of which none runs or loads: a restart after a crash takes 1 s and more.
DOWN_WAIT_S: Final = 15.0

Answer = Literal["wait", "full", "late", "down"]


def decide(*, waiting: int, queue_max: int, wait_s: float, left_s: float, is_down: bool) -> Answer:
    """Return what becomes of a request behind `waiting` others.

    Args:
        wait_s: how long those ahead will take, as far as known (0: unknown).
        left_s: time until its deadline.
        is_down: no replica runs or loads, and has not for DOWN_WAIT_S.
    """
    if is_down:
        return "down"
    if waiting >= queue_max:
        return "full"
    return "late" if wait_s > left_s else "wait"


def wait_s(waiting: int, in_flight: int, service_s: float) -> float:
    """Return how long `waiting` requests take when `in_flight` are served at once, each for `service_s`."""
    return waiting * service_s / max(in_flight, 1)


def retry_after_s(waiting: int, in_flight: int, service_s: float) -> float:
    """Return when half the queue will be gone, in whole seconds that clients accept."""
    return min(max(wait_s(waiting, in_flight, service_s) / 2, 1.0), RETRY_AFTER_MAX_S)
