"""When requests arrive: Poisson with any rate, gamma bursts, steps, spikes, days, and recorded traces; all by seed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]  # seconds from the beginning, ascending
Tokens = NDArray[np.int64]  # of each request
Rate = Callable[[Times], Times]  # requests/s at each of these times

HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When requests come, and how large each is: one entry a request; sizes are empty where nobody said them.

    began_s: unix time of its beginning, where a recording says it.
    """

    at_s: Times
    duration_s: float  # all of `at_s` are below it
    input_tokens: Tokens
    output_tokens: Tokens
    blocks: tuple[tuple[int, ...], ...] = ()  # of each prompt, where a trace says them (see platform/cache.py)
    began_s: float | None = None

    def __len__(self) -> int:
        return len(self.at_s)


def of(at_s: Times, duration_s: float) -> Arrivals:
    """Return arrivals of requests without a size."""
    none = np.zeros(0, dtype=np.int64)
    return Arrivals(at_s, duration_s, none, none)


def poisson(rate: Rate, most_per_s: float, duration_s: float, draws: np.random.Generator) -> Arrivals:
    """Return a Poisson process whose rate changes with time and is never above `most_per_s` (Lewis, Shedler 1979)."""
    at_s = np.sort(draws.uniform(0.0, duration_s, draws.poisson(most_per_s * duration_s)))
    keep = draws.uniform(0.0, most_per_s, len(at_s)) < rate(at_s)
    return of(at_s[keep], duration_s)


def gamma(per_s: float, variation: float, duration_s: float, draws: np.random.Generator) -> Arrivals:
    """Return bursts: gaps between arrivals are gamma distributed with mean 1 / per_s.

    Args:
        variation: of the gaps, standard deviation by mean. 1 is Poisson; what is called bursty in traces has 2 to 8.
    """
    shape = 1.0 / variation**2
    found: list[Times] = []
    reached_s = 0.0
    while reached_s < duration_s:
        count = int((duration_s - reached_s) * per_s + 4 * variation * math.sqrt(duration_s * per_s)) + 16
        more = reached_s + np.cumsum(draws.gamma(shape, 1.0 / (shape * per_s), count))
        found.append(more)
        reached_s = float(more[-1])
    at_s = np.concatenate(found)
    return of(at_s[at_s < duration_s], duration_s)


def _constant(per_s: float) -> Rate:
    return lambda at_s: np.full_like(at_s, per_s)


def _step(before_per_s: float, after_per_s: float, when_s: float) -> Rate:
    return lambda at_s: np.where(at_s < when_s, before_per_s, after_per_s)


def _spikes(base_per_s: float, spike_per_s: float, every_s: float, long_s: float) -> Rate:
    """Each spike begins half of `every_s` after the last period did."""
    begins_s = every_s / 2
    return lambda at_s: np.where(
        (at_s % every_s >= begins_s) & (at_s % every_s < begins_s + long_s), spike_per_s, base_per_s
    )


def _sine(mean_per_s: float, swing_per_s: float, period_s: float) -> Rate:
    return lambda at_s: mean_per_s + swing_per_s * np.sin(2 * np.pi * at_s / period_s)


def _day(night_per_s: float, noon_per_s: float, period_s: float) -> Rate:
    """Two humps, before and after noon, as office hours make them, and a quiet night."""

    def rate(at_s: Times) -> Times:
        hour = at_s % period_s / period_s * 24.0
        humps = np.exp(-(((hour - 10.5) / 2.0) ** 2)) + 0.9 * np.exp(-(((hour - 15.5) / 2.2) ** 2))
        busy: Times = night_per_s + (noon_per_s - night_per_s) * np.minimum(humps, 1.0)
        return busy

    return rate


def _bursts(draws: np.random.Generator, duration_s: float) -> Arrivals:
    """Return quiet and busy stretches of random length, each at a rate of its own: no period that could be learned."""
    edges, rates, at_s = [0.0], [], 0.0
    while at_s < duration_s:
        at_s += float(draws.exponential(180.0)) + 20.0
        edges.append(at_s)
        rates.append(float(draws.choice([2.0, 6.0, 15.0, 40.0], p=[0.4, 0.3, 0.2, 0.1])))
    table, bounds = np.array(rates), np.array(edges[1:])
    return poisson(lambda when: table[np.searchsorted(bounds, when, side="right")], 40.0, duration_s, draws)


@dataclass(frozen=True, slots=True)
class Load:
    """A load that can be asked for by name."""

    what: str
    make: Callable[[np.random.Generator, float], Arrivals]  # of draws and a duration


def _rated(rate: Rate, most_per_s: float) -> Callable[[np.random.Generator, float], Arrivals]:
    return lambda draws, duration_s: poisson(rate, most_per_s, duration_s, draws)


# The first five are what the scaling policies were compared on first; a request takes 0.4 s there and a replica has 4
# places, so that one replica does 10 requests/s at the very most.
LOADS: Final[dict[str, Load]] = {
    "step": Load("4 requests/s, 40 after ten minutes", _rated(_step(4, 40, 600), 40)),
    "spike": Load("4 requests/s, 60 for one minute of every ten", _rated(_spikes(4, 60, 600, 60), 60)),
    "sine": Load("5 to 45 requests/s and back in 20 minutes", _rated(_sine(25, 20, 1200), 45)),
    "gamma": Load("30 requests/s in bursts (gaps vary 4 times their mean)", lambda draws, s: gamma(30, 4, s, draws)),
    "edge": Load("10.6 requests/s, about where one replica is too few", _rated(_constant(10.6), 10.6)),
    "poisson": Load("25 requests/s", _rated(_constant(25), 25)),
    "day": Load("a day of two humps in one hour: 2 requests/s at night, 40 at noon", _rated(_day(2, 40, HOUR_S), 40)),
    "bursts": Load("2 to 40 requests/s, changed at random every few minutes", _bursts),
}
FIRST_LOADS: Final = ("step", "spike", "sine", "gamma", "edge")


def make(load: str, seed: int, duration_s: float = HOUR_S, times: float = 1.0) -> Arrivals:
    """Return the arrivals of a load of LOADS, at so many `times` its rate: that many drawn on top of each other."""
    draws = np.random.default_rng((seed, 1))
    if times == 1.0:
        return LOADS[load].make(draws, duration_s)
    whole = int(times)
    layers = [LOADS[load].make(draws, duration_s).at_s for _ in range(whole)]
    if times > whole:
        extra = LOADS[load].make(draws, duration_s).at_s
        layers.append(extra[draws.uniform(0.0, 1.0, len(extra)) < times - whole])
    return of(np.sort(np.concatenate(layers)), duration_s)


def rotated(trace: Arrivals, seed: int) -> Arrivals:
    """Return `trace` begun at another moment that `seed` draws, its end joined to its beginning; seed 0: as it is."""
    if seed == 0 or not len(trace):
        return trace
    begins_s = float(np.random.default_rng((seed, 2)).uniform(0.0, trace.duration_s))
    at_s = (trace.at_s - begins_s) % trace.duration_s
    order = np.argsort(at_s, kind="stable")
    sizes = (trace.input_tokens, trace.output_tokens)
    first, second = (tokens[order] if len(tokens) else tokens for tokens in sizes)
    blocks = tuple(trace.blocks[at] for at in order) if trace.blocks else ()
    return Arrivals(at_s[order], trace.duration_s, first, second, blocks)
