"""Numbers as scores, and scores and numbers as words. Every scorer speaks through these few."""

from math import log2


def ramp(value: float, low: float, high: float) -> float:
    """Return 0 up to `low`, 1 from `high` on, and what lies between in a straight line."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


def doublings(now: float, before: float) -> float:
    """Return how often `before` was doubled to become `now`; negative when it shrank, 0 when one is not positive."""
    return log2(now) - log2(before) if now > 0 and before > 0 else 0.0  # a quotient can be too small for a number


def seconds(value: float) -> str:
    """Return a duration for reading: 340 µs, 12 ms, 1.9 s."""
    if value >= 100:
        return f"{value:.0f} s"
    if value >= 1:
        return f"{value:.1f} s"
    return f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.0f} µs"


def percent(ratio: float) -> str:
    """Return a ratio for reading: 0.4 %, 37 %."""
    return f"{ratio * 100:.0f} %" if ratio >= 0.095 or ratio == 0 else f"{ratio * 100:.1f} %"


def figure(value: float) -> str:
    """Return a plain number for reading: 0.35, 3.1, 1,240."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
