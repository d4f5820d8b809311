"""Which requests leave a trace: a share of all, chosen at their beginning, and at their end those worth a look.

At the beginning (head) by the trace id alone, so that every process that sees a trace decides alike, or because the
caller's own trace is sampled. Source: W3C Trace Context level 2 and OpenTelemetry's consistent probability sampling: of
the 56 lowest bits of the trace id, those at or above (1 - ratio) · 2^56.

At the end (tail) by what became of the request, whatever its beginning said. Each has a cap, so that neither a caller
nor a bad hour makes tracing dear.
"""

from typing import Final, Literal

from stoker.core import attempts

RANDOM_BITS: Final = 56
RANDOM: Final = (1 << RANDOM_BITS) - 1
TAIL_PER_S: Final = 20.0  # in one gateway; at 12 µs each, a trace is 0.02 % of a core
REFUSED_PER_S: Final = 5.0  # of them: refusals for want of room come in thousands, and must not hide what failed
CALLER_PER_S: Final = 20.0
HEAD_PER_S: Final = 200.0

SLOW_QUANTILE: Final = 0.99
SLOW_SEEN_MIN: Final = 200  # answers, before any is called slow
LEFT_S: Final = 10.0  # and until then, a client that waited for so long and left was not served well
_GAIN: Final = 0.1
_UP: Final = 1.0 + _GAIN * SLOW_QUANTILE
_DOWN: Final = 1.0 - _GAIN * (1.0 - SLOW_QUANTILE)

Because = Literal["", "sampled", "caller", "error", "migrated", "retried", "hedged", "fallback", "slow", "refused"]


def threshold(ratio: float) -> int:
    """Return what the random part of a trace id must reach, so that a share of `ratio` (0–1) of them does."""
    return round((1.0 - ratio) * (RANDOM + 1))


def is_sampled(trace: int, at_least: int) -> bool:
    """Return whether the trace of that id, or of its last 64 bits, is one of the share."""
    return trace & RANDOM >= at_least


def tail(
    *, status: int, code: str, has_moved: bool, is_migrated: bool, is_hedged: bool, tries: int, is_slow: bool
) -> Because:
    """Return why a request that has ended is worth a trace, the gravest reason; "" when it is not.

    status, code: as in HTTP, and of the error. A 429 is a reason where the platform was too full; the caller's own
    limits are no trouble of the platform's. `tries` counts all but the hedges.
    """
    if status >= 500:
        return "error"
    if is_migrated:
        return "migrated"
    if has_moved:
        return "fallback"
    if tries > 1:
        return "retried"
    if is_hedged:
        return "hedged"
    if is_slow:
        return "slow"
    return "refused" if is_full(status, code) else ""


def is_full(status: int, code: str) -> bool:
    """Return whether a request was refused because the platform was too full."""
    return status == 429 and code in attempts.FULL


class Pace:
    """How long most requests of one endpoint take: only one in a hundred is slower than `line_s`.

    The line is moved by each answer, up by a tenth for one above it and down by a thousandth for one below, which
    balances where one in a hundred is above (Ma, Muthukrishnan, Sandler 2013, "Frugal streaming"). It forgets a pace
    within some thousand answers, and costs a tenth of a microsecond.
    """

    __slots__ = ("_seen", "line_s")

    def __init__(self) -> None:
        self.line_s = 0.0
        self._seen = 0

    def observe(self, seconds: float) -> bool:
        """Learn from a good answer; return whether it was slow, as far as is known."""
        self._seen += 1
        line_s = self.line_s
        if seconds > line_s:
            self.line_s = line_s * _UP if line_s else seconds * 2.0
            return self._seen > SLOW_SEEN_MIN
        self.line_s = line_s * _DOWN
        return False

    def is_over(self, seconds: float) -> bool:
        """Return whether a request whose client left after `seconds` took longer than most; learns nothing."""
        return seconds > (self.line_s if self._seen > SLOW_SEEN_MIN else LEFT_S)


class Cap:
    """At most `per_s` a second, and so many at once after a quiet second."""

    __slots__ = ("_at_s", "_left", "_per_s")

    def __init__(self, per_s: float, now_s: float) -> None:
        self._per_s = self._left = per_s
        self._at_s = now_s

    def has(self, now_s: float) -> bool:
        """Return whether there is one left at `now_s`; takes nothing."""
        self._left = min(self._left + max(now_s - self._at_s, 0.0) * self._per_s, self._per_s)
        self._at_s = max(now_s, self._at_s)
        return self._left >= 1.0

    def take(self, now_s: float) -> bool:
        """Take one, if there is one left; return whether there was."""
        if not self.has(now_s):
            return False
        self._left -= 1.0
        return True
