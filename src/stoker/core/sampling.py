"""Which requests are kept as samples: drawn by their id, or because they failed, were slow, or are flagged. Pure.

Drawing by a hash of the id, not by chance, means that a request, its retries and the same id at another gateway fall
alike, and that a draw at 1 % is part of one at 5 %. What an hour may hold is spread over it: errors come in storms,
and an hour whose samples are all of its first minute says nothing of the other 59. So those that were drawn and those
that stood out have an allowance each, which fills with time.
"""

from typing import Final, Literal, get_args

import xxhash

from stoker.types.resources import Samples
from stoker.types.routes import SamplesRoute
from stoker.types.units import parse_bytes, parse_seconds

Reason = Literal["drawn", "flagged", "error", "slow"]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)

GONE: Final = 499  # the client left; nobody's error
LEARN_MIN: Final = 100  # requests before the slowest hundredth of them means anything
STEP: Final = 0.05
BURST_SHARE: Final = 0.1  # of an hour's samples may come at once
_ALL: Final = float(1 << 64)


def route(spec: Samples) -> SamplesRoute:
    """Return what gateways follow. Raises ValueError for a `slow` that is neither a time nor one of its words."""
    return SamplesRoute(
        rate=spec.rate,
        errors=spec.errors,
        slow_s=slow_s(spec.slow),
        max_bytes=parse_bytes(spec.max_bytes),
        per_hour=spec.per_hour,
        ttl_s=parse_seconds(spec.ttl),
        request=spec.keep != "response",
        response=spec.keep != "request",
        tensors=spec.tensors,
        patterns=spec.patterns,
    )


def slow_s(slow: str | float) -> float:
    """Return the seconds over which a request is slow: 0 for the p99 of the endpoint, -1 for never."""
    if slow == "never":
        return -1.0
    return 0.0 if slow == "p99" else parse_seconds(slow)


def is_drawn(request_id: str, rate: float) -> bool:
    """Return whether the request is one of the `rate` that are kept whatever becomes of them."""
    return xxhash.xxh3_64_intdigest(request_id.encode()) < rate * _ALL


class Slowest:
    """The p99 of what an endpoint's requests take, in eight bytes (Robbins-Monro on the logarithm).

    It goes up by 99 steps for a request that took longer and down by one for one that did not, so that it rests where
    one in a hundred takes longer; 5 % of itself is the largest step.
    """

    __slots__ = ("_seen", "p99_s")

    def __init__(self) -> None:
        self.p99_s = 0.0
        self._seen = 0

    def is_slow(self, took_s: float) -> bool:
        """Learn from a request, and return whether it was one of the slowest; of the first ones none is."""
        known_s = self.p99_s
        self._seen += 1
        if self._seen <= LEARN_MIN:
            self.p99_s = max(known_s, took_s)
            return False
        self.p99_s *= 1 + STEP * 0.99 if took_s > known_s else 1 - STEP * 0.01
        return took_s > known_s


class Allowance:
    """How many samples may still be kept, filling with time: at most `per_hour` in any hour."""

    __slots__ = ("_left", "_per_hour", "_seen_s")

    def __init__(self, per_hour: float, now_s: float) -> None:
        self._per_hour = per_hour
        self._left = self._burst
        self._seen_s = now_s

    @property
    def _burst(self) -> float:
        return max(self._per_hour * BURST_SHARE, 1.0)

    def follow(self, per_hour: float) -> None:
        """Hold to another number from now on."""
        self._per_hour = per_hour
        self._left = min(self._left, self._burst)

    def has(self, now_s: float) -> bool:
        """Return whether there is one."""
        filled = max(self._per_hour - self._burst, self._per_hour / 2) / 3600 * max(now_s - self._seen_s, 0.0)
        self._left = min(self._left + filled, self._burst)
        self._seen_s = now_s
        return self._left >= 1

    def take(self, now_s: float) -> bool:
        """Take one, and return whether there was one."""
        if not self.has(now_s):
            return False
        self._left -= 1
        return True


class Sampled:
    """What one gateway knows of an endpoint whose requests are sampled.

    Args:
        gateways: how many processes share what an hour may hold.
    """

    __slots__ = ("_drawn", "_gateways", "_others", "_slowest", "rules")

    def __init__(self, rules: SamplesRoute, gateways: int, now_s: float) -> None:
        self.rules = rules
        self._gateways = gateways
        self._slowest = Slowest()
        self._drawn = Allowance(self._share(), now_s)
        self._others = Allowance(self._share(), now_s)

    def follow(self, rules: SamplesRoute) -> None:
        """Follow new rules; what was learned stays."""
        self.rules = rules
        self._drawn.follow(self._share())
        self._others.follow(self._share())

    def reasons(self, *, drawn: bool, flagged: bool = False, status: int, took_s: float) -> list[Reason]:
        """Learn from a request that ended, and return why it is to be kept; empty: it is not.

        flagged: its caller asked for it, or its answer is one that somebody should look at.
        """
        rules = self.rules
        found: list[Reason] = ["drawn"] if drawn else []
        if flagged:
            found.append("flagged")
        is_error = status >= 400 and status != GONE
        if is_error and rules.errors:
            found.append("error")
        is_slow = self._slowest.is_slow(took_s) if rules.slow_s == 0 and not is_error else took_s > rules.slow_s
        if is_slow and rules.slow_s >= 0 and not is_error:
            found.append("slow")
        return found

    def listens(self, now_s: float) -> bool:
        """Return whether an answer that stands out may still be kept: else nobody need listen to one."""
        rules = self.rules
        return rules.response and (rules.errors or rules.slow_s >= 0) and self._others.has(now_s)

    def takes(self, reasons: list[Reason], now_s: float) -> bool:
        """Return whether the hour has room for one more with these reasons, and take it.

        One that was drawn and stands out besides has both halves: many that were drawn cost no error its sample.
        """
        is_drawn = "drawn" in reasons
        stands_out = len(reasons) > is_drawn
        return (stands_out and self._others.take(now_s)) or (is_drawn and self._drawn.take(now_s))

    def _share(self) -> float:
        return self.rules.per_hour / self._gateways / 2


def following(known: Sampled | None, rules: SamplesRoute | None, gateways: int, now_s: float) -> Sampled | None:
    """Return what is known of an endpoint under its newest `rules`; None: nothing of it is kept."""
    if rules is None:
        return None
    if known is None:
        return Sampled(rules, gateways, now_s)
    known.follow(rules)
    return known
