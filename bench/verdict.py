"""The verdict of a rollout against known truth: good canaries aborted, and how soon bad ones are found.

The functions that judge live rollouts, fed with simulated requests, looked at every LOOK_EVERY of them. Fixed seeds.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.figures import Figure
from bench.report import Section
from bench.rounds import say
from stoker.core.verdict.judge import Criteria, Look, Memory, judge
from stoker.core.verdict.odds import Tally
from stoker.core.verdict.spread import Buckets

LOOK_EVERY: Final = 50  # requests
SHARE: Final = 0.1  # of the canary
LONGEST: Final = 20_000  # requests of a rollout
SLOW_S: Final = 0.1  # what the objective allows
TAIL: Final = (-4.0, 0.6)  # of the logarithm of latencies: 18 ms in the median, 1.1 % over SLOW_S
COHORTS: Final = 10  # of equal size
METRICS: Final = 4  # errors, timeouts, invalid answers, slow ones: what is watched live
CRITERIA: Final = Criteria()
NAIVE_Z: Final = 2.326  # one-sided p < 0.01

Bools = NDArray[np.bool_]
Outcome = tuple[str, int]  # verdict and requests until then


class World:
    """What the two arms do: the chance of an error, how many times longer the canary takes, a cohort that fails."""

    def __init__(
        self, errors: float = 0.01, canary_errors: float = 0.01, slower: float = 1.0, broken: int = -1
    ) -> None:
        self.errors = errors
        self.canary_errors = canary_errors
        self.slower = slower
        self.broken = broken

    def looks(self, rng: np.random.Generator) -> Iterator[tuple[list[Look], tuple[Buckets, Buckets]]]:
        """Yield what one look after the other counted."""
        for _ in range(LONGEST // LOOK_EVERY):
            is_canary = rng.random(LOOK_EVERY) < SHARE
            cohort = rng.integers(COHORTS, size=LOOK_EVERY)
            chance = np.where(is_canary, self.canary_errors, self.errors)
            failed = (rng.random(LOOK_EVERY) < chance) | (is_canary & (cohort == self.broken))
            took_s = rng.lognormal(*TAIL, LOOK_EVERY) * np.where(is_canary, self.slower, 1.0)
            bucket = np.ceil(8 * np.log2(took_s)).astype(int)
            latencies = (Counter(bucket[is_canary].tolist()), Counter(bucket[~is_canary].tolist()))

            everybody = np.ones(LOOK_EVERY, bool)
            looks = [
                Look("error", *_tallies(failed, everybody, is_canary)),
                Look("slow", *_tallies(took_s > SLOW_S, everybody, is_canary)),
            ]
            looks += [
                Look("error", *_tallies(failed, cohort == each, is_canary), f"cohort {each}")
                for each in np.unique(cohort).tolist()
            ]
            yield looks, latencies


def _tallies(bad: Bools, of: Bools, is_canary: Bools) -> tuple[Tally, Tally]:
    """Return the canary's and the baseline's of the requests in `of`."""
    canary, baseline = (Tally(int((bad & of & arm).sum()), int((of & arm).sum())) for arm in (is_canary, ~is_canary))
    return canary, baseline


def rollout(world: World, seed: int) -> Outcome:
    """Return how a rollout in `world` went that nothing but an abort ends."""
    memory, sent, found = Memory(), 0, None
    for looks, latencies in world.looks(np.random.default_rng(seed)):
        sent += LOOK_EVERY
        found = judge(memory, looks, latencies, CRITERIA, metrics=METRICS, step=Tally(), step_s=0.0)
        if found.verdict == "abort":
            break
        memory = found.memory
    assert found is not None
    return found.verdict, sent


def naive(world: World, seed: int) -> Outcome:
    """Return how it goes with a z-test of the error rates at each look, which is what people write."""
    bad, total, sent = np.zeros(2), np.zeros(2), 0
    for looks, _ in world.looks(np.random.default_rng(seed)):
        sent += LOOK_EVERY
        bad += (looks[0].canary.bad, looks[0].baseline.bad)
        total += (looks[0].canary.total, looks[0].baseline.total)
        if min(total) < 1:
            continue
        rate = bad.sum() / total.sum()
        spread = (rate * (1 - rate) * (1 / total).sum()) ** 0.5
        if spread and (bad[0] / total[0] - bad[1] / total[1]) / spread > NAIVE_Z:
            return "abort", sent
    return "hold", sent


def measure(*, runs: int) -> Section:
    """Return false aborts of `runs` alike rollouts, and how many requests each kind of bad canary takes."""

    def aborted(how: Callable[[World, int], Outcome], world: World, runs: int) -> list[int]:
        outcomes = [how(world, seed) for seed in range(runs)]
        return [sent if verdict == "abort" else LONGEST * 2 for verdict, sent in outcomes]

    def share(found: list[int]) -> float:
        return sum(sent <= LONGEST for sent in found) / len(found)

    alike = World()
    wrong = share(aborted(rollout, alike, runs))
    say(f"  {wrong:.2%} of {runs} good canaries aborted")
    usual = share(aborted(naive, alike, min(runs, 100)))
    figures = [
        Figure("good canaries aborted, 1 % errors, 20,000 requests", wrong, "", 0.01, "at most", f"{runs} rollouts"),
        Figure("the same by a z-test (p < 0.01) at each look", usual),
    ]
    bad = (
        ("errors 1 % → 5 %", World(canary_errors=0.05), 2_500),
        ("latency × 1.5", World(slower=1.5), 2_000),
        ("one cohort of ten broken wholly", World(broken=3), 3_000),
    )
    for name, world, most in bad:
        found = aborted(rollout, world, max(runs // 4, 20))
        say(f"  {name}: {median(found):,.0f} requests")
        note = f"{share(found):.0%} of {len(found)} found; of them {SHARE:.0%} were the canary's"
        figures.append(Figure(f"{name}: requests until aborted, median", median(found), "", most, "at most", note))
    return Section("Verdict of a rollout", figures)
