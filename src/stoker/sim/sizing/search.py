"""From trials to the cheapest range of replicas that holds what is promised, by more than chance.

On one draw of the demand, for every pool: the smallest number of replicas that holds, then for some settings of the
policy the smallest minimum that does. The cheapest of these are tried again on draws that they were not chosen on,
until one holds there too, by more than chance, and on the whole recording; who fails there gets one replica more.
"""

import math
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

import numpy as np

from stoker.sim.arrivals import Arrivals
from stoker.sim.sizing import demand as demands
from stoker.sim.sizing import throughput, trial
from stoker.sim.sizing.answer import Answer, Figures, Grown, Range, Simulated, Tried
from stoker.sim.sizing.demand import Demand
from stoker.sim.sizing.prices import Pool
from stoker.sim.sizing.trial import Kind, Trial
from stoker.types.errors import InvalidInput

# Settings of the policy: utilization, and the maximum by the smallest number that holds.
SETTINGS: Final = ((None, 1), (None, 2), (0.6, 2), (0.4, 2))
FRESH: Final = 4  # draws that a range is tried again on
T_95: Final = 2.353  # Student's t of so many draws, one-sided 95 %
CONFIRMED_MAX: Final = 8  # ranges that are tried again
TIMES: Final = (2, 5)
COURSE_MAX: Final = 360  # points that are drawn
WHOLE_MAX: Final = 400_000  # requests of a recording that the plan itself is run on: a quarter of a minute
POOL_MIN: Final = 8000  # requests that are simulated for each of many pools
EXPECTED: Final = 40  # trials of one pool, about: how far the bar is

Told = Callable[[str, float, float], None]  # what is done, how much is, of how much


class Search:
    """The trials of one question, each run once."""

    def __init__(
        self,
        kind: Kind,
        recorded: Arrivals,
        pools: Sequence[Pool],
        replicas_max: int,
        seed: int,
        *,
        requests_max: int = demands.REQUESTS_MAX,
        whole_max: int = WHOLE_MAX,
    ) -> None:
        self._kind, self._recorded, self._pools = kind, recorded, {each.name: each for each in pools}
        self._most, self._seed = replicas_max, seed
        self._demand = demands.sampled(recorded, max(requests_max // len(pools), POOL_MIN))
        is_all = self._demand.simulated == len(recorded)
        self._whole = None if is_all or len(recorded) > whole_max else demands.sampled(recorded, whole_max, math.inf)
        self._checked: dict[tuple[str, Range], Trial] = {}
        self._known: dict[tuple[str, Range, int], Trial] = {}
        self._told: Told | None = None
        self._doing, self._count = "", 0

    def run(self, *, least: int, is_priced: bool, told: Told | None = None) -> Answer:
        """Return the plan. least: the fewest replicas that may be. Raises InvalidInput when nothing holds."""
        fixed, chosen = self.cheapest(least=least, told=told)
        self._doing = "more demand"
        grown, curves = self._grow(chosen, fixed[chosen.pool].range.max)
        course = self._final(chosen)
        return Answer(
            slos=self._kind.slos,
            simulated=self._simulated(),
            chosen=chosen,
            fixed=fixed[chosen.pool],
            tried=tuple(sorted(self._tried(), key=_price)),
            grown=grown,
            curves=(course.curve, *(each.curve for each in curves)),
            course=course.course,
            came=_thinned(self._demand.per_s),
            is_priced=is_priced,
        )

    def cheapest(self, *, least: int, told: Told | None = None) -> tuple[dict[str, Tried], Tried]:
        """Return the smallest number of replicas that holds, by pool, and the cheapest range. Raises as `run`."""
        self._told = told
        fixed: dict[str, Tried] = {}
        refused: list[str] = []
        for pool in self._pools.values():
            self._doing = f"the smallest number of replicas{self._on(pool)}"
            found = self._smallest(pool)
            if isinstance(found, str):
                refused.append(found)
                continue
            fixed[pool.name] = found
            for utilization, times in SETTINGS:
                self._doing = f"ranges up to {found.range.max * times} replicas{self._on(pool)}"
                self._range(pool, found.range.max, min(found.range.max * times, self._most), utilization, least)
        if not fixed:
            raise InvalidInput("\n".join(refused))
        return fixed, self._confirmed()

    # ---- one draw

    def _smallest(self, pool: Pool) -> Tried | str:
        """Return the smallest number of replicas that holds, or why none does."""
        engine = throughput.faster(self._kind.engine, pool.speed)
        needed = math.ceil(self._demand.peak_per_s / throughput.per_s(engine, self._recorded))
        high = min(max(needed, 1), self._most)
        low = 0  # does not hold, and high may
        while not self._holds(pool, Range(high, high)):
            if high == self._most:
                return self._refusal(pool)
            low, high = high, min(high * 2, self._most)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._holds(pool, Range(middle, middle)) else (middle, high)
        return Tried(pool.name, Range(high, high), self._figures(pool.name, Range(high, high)))

    def _range(self, pool: Pool, enough: int, most: int, utilization: float | None, least: int) -> None:
        """Find the smallest minimum that holds below `enough`; the trials remember it."""
        low, high = least - 1, enough
        while high - low > 1:
            middle = (low + high) // 2 if low >= least else least
            low, high = (low, middle) if self._holds(pool, Range(middle, most, utilization)) else (middle, high)

    def _holds(self, pool: Pool, tried: Range) -> bool:
        return self._figures(pool.name, tried).holds(self._kind.slos)

    def _figures(self, pool: str, tried: Range) -> Figures:
        return self._trial(pool, tried, self._seed).figures

    def _trial(self, pool: str, tried: Range, seed: int) -> Trial:
        key = pool, tried, seed
        if key not in self._known:
            self._known[key] = trial.run(self._kind, self._pools[pool], tried, self._demand, seed)
            self._tell()
        return self._known[key]

    def _tried(self) -> list[Tried]:
        return [
            Tried(pool, tried, one.figures) for (pool, tried, seed), one in self._known.items() if seed == self._seed
        ]

    # ---- fresh draws

    def _confirmed(self) -> Tried:
        """Return the cheapest range that holds surely; the last that was tried, where none does."""
        holding = [each for each in self._tried() if each.figures.holds(self._kind.slos)]
        waiting = [(*_price(each), number, each) for number, each in enumerate(holding)]
        heapify(waiting)
        last = holding[0]
        for number in range(CONFIRMED_MAX):
            if not waiting:
                break
            *_, last = heappop(waiting)
            self._doing = f"{last.range.name} on other draws"
            if self._is_sure(last):
                return Tried(last.pool, last.range, self._final(last).figures, is_sure=True)
            more = Range(last.range.min + 1, max(last.range.max, last.range.min + 1), last.range.utilization)
            if more.max <= self._most and (last.pool, more, self._seed) not in self._known:
                one = Tried(last.pool, more, self._figures(last.pool, more))
                heappush(waiting, (*_price(one), len(holding) + number, one))
        return last

    def _is_sure(self, one: Tried) -> bool:
        """Return whether `one` holds on fresh draws by more than chance (one-sided t); given up when two miss."""
        found: list[Figures] = []
        for seed in range(self._seed + 1, self._seed + 1 + FRESH):
            found.append(self._trial(one.pool, one.range, seed).figures)
            if sum(not each.holds(self._kind.slos) for each in found) > 1:
                return False
        for slo in self._kind.slos:
            kept = [each.kept[slo.name] for each in found]
            error = float(np.std(kept, ddof=1)) / math.sqrt(len(kept))
            if float(np.mean(kept)) - T_95 * error < slo.target:
                return False
        return self._final(one).figures.holds(self._kind.slos)

    def _final(self, one: Tried) -> Trial:
        """Return `one` on the whole recording, where that is not too long; else what is known."""
        if self._whole is None:
            return self._trial(one.pool, one.range, self._seed)
        key = one.pool, one.range
        if key not in self._checked:
            self._doing = f"{one.range.name} on the whole recording"
            self._tell()
            self._checked[key] = trial.run(self._kind, self._pools[one.pool], one.range, self._whole, self._seed)
        return self._checked[key]

    # ---- more demand

    def _grow(self, chosen: Tried, fixed: int) -> tuple[tuple[Grown, ...], list[Trial]]:
        found, curves = [], []
        for times in TIMES:
            less = demands.sampled(self._recorded, demands.REQUESTS_MAX // times)
            one = self._under(chosen, chosen.range, less, times)
            curves.append(one)
            is_kept = one.figures.holds(self._kind.slos)
            found.append(
                Grown(times, one.figures, is_kept, None if is_kept else self._enough(chosen, fixed, less, times))
            )
        return tuple(found), curves

    def _enough(self, chosen: Tried, fixed: int, less: Demand, times: int) -> Tried | None:
        """Return the range that holds at so many `times` the demand: with a larger maximum, or a larger minimum too."""
        now, most = chosen.range, max(chosen.range.max, fixed) * times
        for least, room in ((now.min, most), (now.min * times, most), (fixed * times, 2 * most)):
            wider = Range(least, room, now.utilization)
            figures = self._under(chosen, wider, less, times).figures
            if figures.holds(self._kind.slos):
                return Tried(chosen.pool, wider, figures)
        return None

    def _under(self, chosen: Tried, tried: Range, less: Demand, times: int) -> Trial:
        one = trial.run(self._kind, self._pools[chosen.pool], tried, less, self._seed, times)
        self._tell()
        return one

    # ---- words

    def _tell(self) -> None:
        self._count += 1
        expected = EXPECTED * len(self._pools)
        if self._told is not None:
            self._told(self._doing, min(self._count, expected - 1), expected)

    def _on(self, pool: Pool) -> str:
        return f" on {pool.name}" if len(self._pools) > 1 else ""

    def _refusal(self, pool: Pool) -> str:
        """Say that nothing holds, by how much, and what would."""
        figures = self._figures(pool.name, Range(self._most, self._most))
        slo = next(each for each in self._kind.slos if figures.kept[each.name] < each.target)
        return (
            f"no number of replicas up to {self._most}{self._on(pool)} keeps {slo.name} under {slo.limit_s:g} s: with "
            f"{self._most}, {figures.kept[slo.name]:.1%} of requests are; half of them take "
            f"{getattr(figures, slo.measure).p50_s:.3g} s. Promise a longer time, allow more (--max), or take a faster "
            "pool (speed in the price list)"
        )

    def _simulated(self) -> Simulated:
        one = self._demand
        return Simulated(
            one.recorded_s,
            one.recorded,
            one.simulated_s,
            one.simulated,
            one.peak_per_s,
            self._count,
            self._whole is not None,
        )


def _thinned(per_s: tuple[float, ...]) -> tuple[float, ...]:
    """Return means of as many neighbours as it takes to have few enough to draw."""
    every = len(per_s) // COURSE_MAX + 1
    return tuple(float(np.mean(per_s[at : at + every])) for at in range(0, len(per_s), every))


def _price(one: Tried) -> tuple[float, float, float]:
    """Order by cost; of two that cost the same the simpler first."""
    return one.figures.usd_per_hour, one.range.max - one.range.min, one.range.utilization or 0.0
