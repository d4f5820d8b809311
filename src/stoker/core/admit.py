"""Whether a request that finds no free place waits or is refused, and when a refused one should come back."""

from collections.abc import Iterable
from typing import Final, Literal

from stoker.types.keys import PRIORITIES, Priority

RETRY_AFTER_MAX_S: Final = 120.0
# How long a request waits for replicas of which none runs or loads: a restart after a crash takes 1 s and more.
DOWN_WAIT_S: Final = 15.0

Answer = Literal["wait", "late", "down"]


def band(highest: Priority, wanted: str | None) -> int:
    """Return the band of a request: 0 is the most urgent. A caller may ask for less than its key allows, not for more.

    Raises ValueError for a word that is no priority.
    """
    allowed = PRIORITIES.index(highest)
    if wanted is None:
        return allowed
    return max(allowed, PRIORITIES.index(wanted))


def is_sheddable(band: int) -> bool:
    """Return whether requests of `band` are those that a policy may refuse, however free the endpoint is."""
    return PRIORITIES[band] == "sheddable"


def decide(*, wait_s: float, service_s: float, left_s: float, is_down: bool) -> Answer:
    """Return what becomes of a request that has to wait.

    Args:
        wait_s: how long until it has a place, as far as known (0: unknown).
        service_s: what it takes then; 0 when that is not known.
        left_s: time until its deadline.
        is_down: no replica runs or loads, and has not for DOWN_WAIT_S.
    """
    if is_down:
        return "down"
    return "late" if wait_s + service_s > left_s else "wait"


def is_down(*, holds: bool, replaces: bool, count: int, gone: Iterable[bool]) -> bool:
    """Return whether nothing runs, and nothing is to come that would be worth waiting for.

    Args:
        holds: the endpoint sleeps, and whoever asks is waited with until it is awake (core/traffic.py).
        replaces: a rollout runs, which may have taken the old replicas away to make room for the new.
        count: replicas that the endpoint has.
        gone: of each whether it will not come back, or has been away for DOWN_WAIT_S; read as far as it is needed.
    """
    if holds:
        return False
    return all(gone) if count else not replaces


def is_lost(*, left_s: float, service_s: float, is_served: bool) -> bool:
    """Return whether a request at the head of the queue is not worth a place: it cannot be done by its deadline.

    Args:
        service_s: what a request takes in a replica; 0 when it says nothing about this one.
        is_served: others are being served now. With none there is nobody to learn the time from: it is tried.
    """
    return left_s <= 0.0 or (is_served and left_s < service_s)


def wait_s(ahead: int, in_flight: int, service_s: float) -> float:
    """Return how long a place takes to come when `in_flight` are served at once, each for `service_s`.

    Half of the time between two of them for the next that ends, and all of it for each of the `ahead` others.
    """
    return (ahead + 0.5) * service_s / max(in_flight, 1)


def retry_after_s(waiting: int, in_flight: int, service_s: float) -> float:
    """Return when half the queue will be gone, in whole seconds that clients accept."""
    return min(max(wait_s(waiting, in_flight, service_s) / 2, 1.0), RETRY_AFTER_MAX_S)
