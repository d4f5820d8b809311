"""Rates over two windows from what gateways have counted since they began. Pure, but for what it remembers.

Counts only grow while a gateway lives, so an answer that is late or lost changes nothing. A gateway that was not known
before counts from its first answer on: what came before that is nobody's last minute.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from stoker.core.scale.sight import LONG_S, SHORT_S
from stoker.types.scaling import LaneLoad

LOOKS_MAX: Final = 256  # that are remembered, at any distance
SEEN_RATIO: Final = 0.95  # a window that lacks a look at its edge is whole
PEAK_KEPT: Final = 0.999  # of the most tokens that a replica did, from one look to the next


class Seen(msgspec.Struct, frozen=True):
    """What one look adds. The rest is as in Sight."""

    rate_short: float = 0.0
    rate_long: float = 0.0
    span_s: float = 0.0
    arrived: int = 0
    since_s: float = 0.0
    service_s: float = 0.0
    ended: int = 0
    tokens_per_s: float | None = None  # that arrive
    replica_tokens_per_s: float | None = None


class _Look(NamedTuple):
    """What was counted until then. full: replicas that were ready while requests waited, 0 where none did."""

    at_s: float
    arrived: int
    tokens: int
    full: int


class Counts:
    """Of one endpoint."""

    def __init__(self) -> None:
        self._last: dict[str, LaneLoad] = {}  # by the boot of the gateway
        self._arrived = self._served = self._tokens = 0
        self._served_s = 0.0
        self._looks: deque[_Look] = deque(maxlen=LOOKS_MAX)
        self._peak = 0.0

    def add(self, at_s: float, answers: Mapping[str, LaneLoad]) -> Seen:
        """Take what the gateways say at `at_s`, by their boot."""
        arrived, served, served_s = self._arrived, self._served, self._served_s
        for boot, now in answers.items():
            before = self._last.get(boot, now)
            self._arrived += max(now.arrived - before.arrived, 0)
            self._served += max(now.served - before.served, 0)
            self._served_s += max(now.served_s - before.served_s, 0.0)
            self._tokens += max(now.tokens - before.tokens, 0)
        self._last = {**{boot: each for boot, each in self._last.items() if boot in answers}, **answers}
        if self._looks and at_s < self._looks[-1].at_s:  # the clock was set back: no window reaches over that
            self._looks.clear()
        since_s = at_s - self._looks[-1].at_s if self._looks else 0.0
        is_full = any(each.waiting for each in answers.values())
        full = max((each.ready for each in answers.values()), default=0) if is_full else 0
        self._looks.append(_Look(at_s, self._arrived, self._tokens, full))
        ended = self._served - served
        rate_short, _ = self._rate(at_s, SHORT_S)
        rate_long, span_s = self._rate(at_s, LONG_S)
        tokens, most = self._token_rates(at_s, rate_long, span_s)
        return Seen(
            rate_short=rate_short,
            rate_long=rate_long,
            span_s=span_s,
            arrived=self._arrived - arrived,
            since_s=since_s,
            service_s=(self._served_s - served_s) / ended if ended else 0.0,
            ended=ended,
            tokens_per_s=tokens,
            replica_tokens_per_s=most,
        )

    def _rate(self, at_s: float, window_s: float) -> tuple[float, float]:
        """Return the arrivals a second in the window, and how much of it was seen."""
        first = self._first(at_s, window_s)
        span_s = at_s - first.at_s
        if span_s <= 0.0:
            return 0.0, 0.0
        return (self._arrived - first.arrived) / span_s, window_s if span_s >= SEEN_RATIO * window_s else span_s

    def _first(self, at_s: float, window_s: float) -> _Look:
        """Return the newest look that is about a window old, or the oldest."""
        younger = bisect_right(self._looks, -SEEN_RATIO * window_s, key=lambda look: look.at_s - at_s)
        return self._looks[max(younger - 1, 0)]

    def _token_rates(self, at_s: float, rate: float, span_s: float) -> tuple[float | None, float | None]:
        """Return the tokens a second that arrive, and the most that a replica did while requests waited.

        Only a minute in which always some waited, for the same number of replicas, says what one can do.
        """
        if not self._tokens or not self._served:
            return None, None
        self._peak *= PEAK_KEPT
        first, full = self._first(at_s, LONG_S), self._looks[-1].full
        is_steady = all(look.full == full for look in self._looks if look.at_s >= first.at_s)
        if full and is_steady and span_s >= LONG_S:
            self._peak = max(self._peak, (self._tokens - first.tokens) / (at_s - first.at_s) / full)
        return rate * self._tokens / self._served, self._peak or None
