"""A panel of a chart: where it stands, what its axes reach, and the marks on them; lengths in pixels."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

Point = tuple[float, float]
Words = Callable[[float], str]

TICKS: Final = 4
CLOCK_TICKS: Final = 8
DAY_S: Final = 86_400.0
CLOCK_S: Final = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 10_800.0, 21_600.0,
                  43_200.0, DAY_S)  # fmt: skip
UNITS: Final = ((DAY_S, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to 0…1; logarithmic ones begin above 0. step: between two marks, 0: a round one."""

    low: float
    high: float
    is_log: bool = False
    step: float = 0.0

    def part(self, value: float) -> float:
        """Return where `value` is; at an end where it is beyond."""
        if self.is_log:
            value = min(max(value, self.low), self.high)
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Return round values on it: powers of ten, or of two where there are few of these."""
        if not self.is_log:
            step = self.step or _step((self.high - self.low) / TICKS)
            return [step * at for at in range(math.ceil(self.low / step), math.floor(self.high / step + 1e-9) + 1)]
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        factors = (1.0,) if last - first > 2 else (1.0, 2.0, 5.0)
        found = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        return [each for each in found if self.low * 0.999 <= each <= self.high * 1.001]


def linear(most: float, least: float = 0.0) -> Scale:
    """Return a scale from `least` to a round value at or above `most`."""
    step = _step(max(most - least, 1e-9) / TICKS)
    return Scale(least, least + step * math.ceil((most - least) / step - 1e-9) if most > least else least + 1.0)


def clock(lasts_s: float) -> Scale:
    """Return a scale of seconds with marks where a clock has them."""
    return Scale(0.0, lasts_s, step=next((each for each in CLOCK_S if lasts_s / each <= CLOCK_TICKS), DAY_S * 7))


def moment(lasts_s: float) -> Words:
    """Return how moments of so long a time are said: in seconds, minutes, hours or days."""
    unit_s, name = next(each for each in UNITS if lasts_s >= each[0] * 1.5 or each[0] == 1.0)
    return lambda at_s: f"{at_s / unit_s:g} {name}"


def logarithmic(values: Sequence[float], least: float, most: float) -> Scale:
    """Return a scale around the finite `values`, between `least` and `most`."""
    finite = [min(max(each, least), most) for each in values if math.isfinite(each)] or [least, most]
    low, high = min(finite) / 1.3, max(finite) * 1.3
    return Scale(low, max(high, low * 4.0), is_log=True)


def _step(rough: float) -> float:
    """Return the round step at or above `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel at `left`, `top`, with its scales."""

    left: float
    top: float
    width: float
    height: float
    across: Scale
    up: Scale

    def x(self, value: float) -> float:
        """Return where `value` stands across."""
        return self.left + self.across.part(value) * self.width

    def y(self, value: float) -> float:
        """Return where `value` stands, counted from above."""
        return self.top + self.height - self.up.part(value) * self.height

    def frame(self, title: str, x_words: Words | None, y_words: Words) -> str:
        """Return the title, a rule for each mark upwards, and the words of both axes (no `x_words`: none across)."""
        right = self.left + self.width
        parts = [text(self.left, self.top - 12, title, "title")]
        for value in self.up.ticks():
            y = self.y(value)
            parts.append(line((self.left, y), (right, y), "rule"))
            parts.append(text(self.left - 8, y + 4, y_words(value), "tick", "end"))
        for value in self.across.ticks() if x_words is not None else ():
            x = self.x(value)
            parts.append(line((x, self.top + self.height), (x, self.top + self.height + 4), "rule"))
            parts.append(text(x, self.top + self.height + 18, x_words(value) if x_words else "", "tick", "middle"))
        return "\n".join(parts)

    def path(self, points: Sequence[Point]) -> str:
        """Return points as the text of a line."""
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Return words at a place."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def line(begin: Point, end: Point, kind: str) -> str:
    """Return a straight line."""
    return f'<line class="{kind}" x1="{begin[0]:.1f}" y1="{begin[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>'
