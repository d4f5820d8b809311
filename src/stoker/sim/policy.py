"""What a scaling policy sees at each tick of virtual time, and what it answers."""

from collections import deque
from typing import NamedTuple, Protocol


class Observation(NamedTuple):
    """One endpoint at one moment. What counts up does so from the beginning, so that a policy has its own windows.

    `running` hold a place in a replica, `waiting` do not yet. `presence_s` is the integral over time of all that are
    here, running and waiting: the mean concurrency of a window is its difference, by the window's length.
    """

    now_s: float
    ready: int  # replicas that take requests
    starting: int  # ordered, not ready yet
    wanted: int  # what was last asked for
    places: int  # of one replica
    running: int
    waiting: int
    arrived: int
    finished: int
    service_s: float  # of all that were served: how long each held its place
    presence_s: float
    cold_start_s: float  # what starts took that were seen, as scaling counts with it; 0: none yet
    queue_age_s: float = 0.0  # how long the first that waits has
    served: int = 0  # of those that finished, who held a place
    tokens: int = 0  # of their prompts and answers


class Policy(Protocol):
    """A scaling policy with its memory."""

    name: str
    every_s: float  # between two ticks

    def tick(self, seen: Observation) -> int:
        """Return how many replicas there should be. The caller holds it within minimum and maximum."""
        ...


class Fixed:
    """A number of replicas that never changes: what an operator without autoscaling runs."""

    every_s = 60.0

    def __init__(self, replicas: int) -> None:
        self.name = f"fixed-{replicas}"
        self._replicas = replicas

    def tick(self, seen: Observation) -> int:
        """See Policy."""
        return self._replicas


class Mean:
    """The mean concurrency over a sliding window, from readings of `Observation.presence_s`."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._readings: deque[tuple[float, float]] = deque()

    def read(self, now_s: float, presence_s: float) -> float:
        """Return the mean over the window that ends now; over what there is of it, at the beginning."""
        readings = self._readings
        readings.append((now_s, presence_s))
        while len(readings) > 2 and readings[1][0] <= now_s - self._window_s:
            readings.popleft()
        since_s, before_s = readings[0]
        return (presence_s - before_s) / (now_s - since_s) if now_s > since_s else 0.0


class Highest:
    """The highest of what was recorded within a sliding window."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._falling: deque[tuple[float, int]] = deque()  # each lower than the one before: the first is the highest

    def record(self, now_s: float, count: int) -> int:
        """Take `count`, and return the highest of the window that ends now."""
        falling = self._falling
        while falling and falling[-1][1] <= count:
            falling.pop()
        falling.append((now_s, count))
        while falling[0][0] <= now_s - self._window_s:
            falling.popleft()
        return falling[0][1]
