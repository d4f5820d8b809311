"""Whether an endpoint as a whole counts as broken, so that requests with another place to go stop waiting for it.

closed     everything goes through and is counted
open       nothing does; after a while it becomes half-open
half-open  one request at a time is a probe: PROBES successes close, one failure opens again, for twice as long

Opens on a share of failures among enough requests of a window, or on IN_A_ROW failures without a success between
them: an endpoint that is asked once a minute never fills a window, and each of its callers would pay the timeout.
It says what is seen and refuses nobody by itself: while nothing else can serve, a request that might succeed is still
sent (gateway/layers/fallback.py), because a breaker without an alternative makes a half-broken endpoint a dead one.
One per endpoint and gateway process; gateways do not tell each other.

Source: Envoy's outlier detection (5 in a row; share over a minimum of requests), smg's breaker (3 successes close).
"""

from typing import Final, Literal

from stoker.types.routes import BreakerRoute

IN_A_ROW: Final = 5
PROBES: Final = 3
OPEN_MAX_S: Final = 60.0

State = Literal["closed", "half-open", "open"]
Pass = Literal["closed", "probe", "open"]


class Circuit:
    """What is known of one endpoint. Every `enter` that returns "probe" is followed by one `leave`.

    Counts lie in two halves of the window, so that old ones leave without a list of them: a count is kept for between
    half a window and a whole one.
    """

    __slots__ = ("_failed", "_half_began_s", "_in_a_row", "_is_probed", "_open_s", "_passed", "_policy", "_seen",
                 "_until_s", "is_open", "is_used")  # fmt: skip

    def __init__(self, policy: BreakerRoute, now_s: float) -> None:
        self._policy = policy
        self._half_began_s = now_s
        self._seen = [0, 0]  # requests: this half window, and the one before
        self._failed = [0, 0]
        self._in_a_row = 0
        self._until_s = 0.0  # when it may be probed; 0 while closed
        self._open_s = policy.open_s
        self._is_probed = False
        self._passed = 0  # probes
        self.is_used = False  # some request was counted
        self.is_open = False  # or half-open

    def follow(self, policy: BreakerRoute) -> None:
        """Judge by `policy` from now on."""
        self._policy = policy

    def state(self, now_s: float) -> State:
        """Return the state."""
        if not self._until_s:
            return "closed"
        return "open" if now_s < self._until_s else "half-open"

    def left_s(self, now_s: float) -> float:
        """Return how long until the next probe, in seconds."""
        return max(self._until_s - now_s, 0.0)

    def admits(self, now_s: float) -> bool:
        """Return whether `enter` would let a request through."""
        return not self._until_s or (now_s >= self._until_s and not self._is_probed)

    def enter(self, now_s: float) -> Pass:
        """Let a request through, as one of many or as the probe, or say that it is open."""
        self.is_used = True
        if not self._until_s:
            return "closed"
        if now_s < self._until_s or self._is_probed:
            return "open"
        self._is_probed = True
        return "probe"

    def leave(self, entered: Pass, succeeded: bool | None, now_s: float) -> None:
        """Take note how a request ended that `enter` answered with `entered`. None: it says nothing about the endpoint.

        What was sent in spite of "open" counts as little as what was sent before it opened and ends now.
        """
        if entered == "probe":
            self._is_probed = False
            if succeeded:
                self._passed += 1
                if self._passed >= PROBES:
                    self._close(now_s)
            elif succeeded is False:
                self._open_s = min(self._open_s * 2, OPEN_MAX_S)
                self._open(now_s)
        elif entered == "closed" and not self._until_s and succeeded is not None:
            self._count(succeeded, now_s)

    def _count(self, succeeded: bool, now_s: float) -> None:
        self._turn(now_s)
        self._seen[0] += 1
        if succeeded:
            self._in_a_row = 0
            return
        self._failed[0] += 1
        self._in_a_row += 1
        seen, failed = sum(self._seen), sum(self._failed)
        is_bad = seen >= self._policy.requests_min and failed >= self._policy.failure_ratio * seen
        if is_bad or self._in_a_row >= IN_A_ROW:
            self._open_s = self._policy.open_s
            self._open(now_s)

    def _turn(self, now_s: float) -> None:
        half_s = self._policy.window_s / 2
        halves = int((now_s - self._half_began_s) / half_s)
        if halves > 0:
            self._seen = [0, self._seen[0] if halves == 1 else 0]
            self._failed = [0, self._failed[0] if halves == 1 else 0]
            self._half_began_s += halves * half_s

    def _open(self, now_s: float) -> None:
        self._until_s = now_s + self._open_s
        self.is_open = True
        self._passed = 0

    def _close(self, now_s: float) -> None:
        self._until_s = 0.0
        self.is_open = False
        self._in_a_row = 0
        self._seen, self._failed = [0, 0], [0, 0]
        self._half_began_s = now_s
