"""What got worse, and how the worsening divides: over phases, over kinds of failure, and over what loads a replica.

Three decompositions, each exact, carry every later judgement:

- Added latency is the sum over phases of the change of the mean time in each (means add up; percentiles do not).
- Harm (latency, errors, refusals, quality) says which of them is wrong at all, so that a cause is believed as far as
  it accounts for the harm that is there.
- Pressure: the load of a replica is first tries × repeats × work × pace ÷ (replicas × together). Its growth in
  doublings is therefore a sum, and each factor's share of the sum is its share of the queue that grew.
"""

from typing import Final

import msgspec

from stoker.core.diagnose.scale import doublings, ramp
from stoker.core.diagnose.window import PHASES, WORK, Phase, Spread, Window

REQUESTS_MIN: Final = 20.0  # fewer of a window say nothing
# Below these nothing is wrong. A median that moves by a third is what a day's load does to it.
LATENCY_LOW: Final = 0.6  # doublings of the mean (1.5 times)
LATENCY_HIGH: Final = 2.0
LATENCY_MIN_S: Final = 0.005  # added; less is nobody's incident
SLOW_LOW: Final = 0.02  # more of the requests are slower than the baseline's slowest
SLOW_HIGH: Final = 0.20
FAILED_LOW: Final = 0.01
FAILED_HIGH: Final = 0.10
QUALITY_LOW: Final = 0.02
QUALITY_HIGH: Final = 0.15
DRIFT_LOW: Final = 0.25  # PSI: from 0.25 on a distribution is taken to have shifted
DRIFT_HIGH: Final = 1.0
# Standard errors by which a share or a mean must have moved, so that few requests prove nothing. The bound is for
# about a thousand looks a month, each of which may be wrong.
SURE: Final = 5.0


class Harm(msgspec.Struct, frozen=True):
    """How wrong each thing is, 0–1."""

    latency: float = 0.0
    errors: float = 0.0
    refusals: float = 0.0  # and clients that gave up
    quality: float = 0.0
    deaths: float = 0.0  # of replicas, by requests that are in quarantine: wrong before anybody else notices

    @property
    def worst(self) -> float:
        """The largest."""
        return max(self.latency, self.errors, self.refusals, self.quality, self.deaths)

    @property
    def total(self) -> float:
        """All together."""
        return self.latency + self.errors + self.refusals + self.quality + self.deaths


class Pressure(msgspec.Struct, frozen=True):
    """What each factor added to the load of a replica, in doublings; negative where it eased."""

    tries: float = 0.0  # first tries a second
    repeats: float = 0.0  # requests for each first try
    work: float = 0.0  # tokens, rows and kinds of the requests, at the baseline's prices
    pace: float = 0.0  # seconds for the same work
    replicas: float = 0.0  # fewer that are ready
    together: float = 0.0  # fewer requests that run at once in a replica

    @property
    def first(self) -> float:
        """What grew by itself, without the repeats that any queue provokes."""
        return sum(max(each, 0.0) for each in (self.tries, self.work, self.pace, self.replicas, self.together))

    @property
    def own_repeats(self) -> float:
        """The repeats that nothing else provoked: where the load grew anyway, asking again is its consequence."""
        return max(self.repeats, 0.0) * (1 - ramp(self.first, 0.25, 0.8))

    def share(self, *names: str) -> float:
        """Return how much of the growth the factors called `names` account for, 0–1."""
        grown = self.first + self.own_repeats
        own = sum(self.own_repeats if name == "repeats" else max(getattr(self, name), 0.0) for name in names)
        return own / grown if grown > 0.05 else 0.0


class Shift(msgspec.Struct, frozen=True):
    """Two windows and what lies between them. added_s: change of the mean seconds in each phase that was measured."""

    bad: Window
    base: Window
    harm: Harm
    added_s: dict[Phase, float]
    pressure: Pressure
    mix: float  # the work that came with other kinds of requests, in doublings

    def added(self, *phases: Phase) -> float:
        """Return which share of all added latency lies in `phases`, 0–1; 0 while the latency is not what is wrong."""
        if self.harm.latency <= 0:
            return 0.0
        total = sum(max(each, 0.0) for each in self.added_s.values())
        return sum(max(self.added_s.get(phase, 0.0), 0.0) for phase in phases) / total if total > 0 else 0.0

    @property
    def pace(self) -> float:
        """How much longer the engine takes for the same work, in doublings, beyond what fuller batches cost."""
        return self.pressure.pace


def compare(bad: Window, base: Window) -> Shift:
    """Return what changed from `base` to `bad`."""
    added_s = {phase: bad.phase_s(phase) - base.phase_s(phase) for phase in PHASES if phase in bad.phases}
    mix = _mix(bad, base)
    return Shift(bad, base, _harm(bad, base), added_s, _pressure(bad, base, mix), mix)


def _harm(bad: Window, base: Window) -> Harm:
    now, before = bad.signals, base.signals
    quality = max(
        _risen(now.empty_outputs, bad.requests, before.empty_outputs, base.requests, QUALITY_LOW, QUALITY_HIGH),
        _risen(now.repeating_outputs, bad.requests, before.repeating_outputs, base.requests, QUALITY_LOW, QUALITY_HIGH),
        ramp(now.drift or 0.0, DRIFT_LOW, DRIFT_HIGH) if (now.drift or 0.0) > 2 * (before.drift or 0.0) else 0.0,
    )
    return Harm(
        max(
            _slower(bad.latency, base.latency),
            # Without a baseline nobody knows what slow is; errors are wrong anyway.
            _risen(bad.slow, bad.latency.count, base.slow, base.latency.count, SLOW_LOW, SLOW_HIGH)
            if base.latency.count >= REQUESTS_MIN
            else 0.0,
        ),
        _risen(bad.errors, bad.requests, base.errors, base.requests, FAILED_LOW, FAILED_HIGH),
        _risen(_unserved(bad), bad.requests, _unserved(base), base.requests, FAILED_LOW, FAILED_HIGH),
        quality,
        ramp((now.quarantined or 0.0) - (before.quarantined or 0.0) / base.seconds * bad.seconds, 0.5, 4.0),
    )


def _unserved(window: Window) -> float:
    return sum(window.refused.values()) + window.abandoned


def _slower(now: Spread, before: Spread) -> float:
    """Return how much a latency rose, 0–1; 0 unless its mean moved by more than chance."""
    if min(now.count, before.count) < REQUESTS_MIN or now.mean - before.mean < LATENCY_MIN_S:
        return 0.0
    error = (now.deviation**2 / now.count + before.deviation**2 / before.count) ** 0.5
    return (
        ramp(doublings(now.mean, before.mean), LATENCY_LOW, LATENCY_HIGH)
        if (now.mean - before.mean > SURE * error)
        else 0.0
    )


def _risen(
    now: float | None, requests: float, before: float | None, requests_before: float, low: float, high: float
) -> float:
    """Return how much a share of requests rose, 0–1; 0 unless it is more than chance."""
    if now is None or requests < REQUESTS_MIN:
        return 0.0
    share, share_before = min(now / requests, 1.0), min((before or 0.0) / max(requests_before, 1.0), 1.0)
    pooled = (now + (before or 0.0) + 1.0) / (requests + requests_before + 2.0)
    error = (
        pooled * (1 - min(pooled, 1.0)) * (1 / requests + (1 / requests_before if requests_before >= 1 else 0.0))
    ) ** 0.5
    return ramp(share - share_before, low, high) if share - share_before > SURE * error else 0.0


def _mix(bad: Window, base: Window) -> float:
    """Return the doublings of the mean service time that other shares of methods explain (Kitagawa's mix effect)."""
    common = [name for name in bad.methods if base.methods.get(name, None) and base.methods[name].requests > 0]
    now = sum(bad.methods[name].requests for name in common)
    before = sum(base.methods[name].requests for name in common)
    if not common or now <= 0 or before <= 0:
        return 0.0
    price = {name: base.methods[name].mean_s for name in common}
    return doublings(
        sum(bad.methods[name].requests / now * price[name] for name in common),
        sum(base.methods[name].requests / before * price[name] for name in common),
    )


def _work(bad: Window, base: Window) -> float:
    """Return the doublings of the work of a request: its tokens or rows at the baseline's seconds for each."""
    prefill_s, decode_s = base.phase_s("prefill"), base.phase_s("decode")
    compute_s = base.phase_s("compute")
    if bad.prompt_tokens is not None and base.prompt_tokens is not None and base.prompt_tokens.mean > 0:
        prompt = bad.prompt_tokens.mean / base.prompt_tokens.mean
        output = _times(bad.output_tokens, base.output_tokens)
        if prefill_s + decode_s > 0:
            return doublings(prefill_s * prompt + decode_s * output, prefill_s + decode_s)
        # Not told apart: an answer's token takes about thirty times a prompt's.
        weight = base.prompt_tokens.mean, 30.0 * (base.output_tokens.mean if base.output_tokens else 0.0)
        return doublings(weight[0] * prompt + weight[1] * output, sum(weight))
    if compute_s > 0 and bad.rows is not None and base.rows is not None:
        return doublings(bad.rows.mean, base.rows.mean)
    return 0.0


def _times(now: Spread | None, before: Spread | None) -> float:
    return now.mean / before.mean if now is not None and before is not None and before.mean > 0 else 1.0


def _pressure(bad: Window, base: Window, mix: float) -> Pressure:
    repeats_now, repeats_before = (_repeats(window) for window in (bad, base))
    work = max(_work(bad, base), mix)
    computed = doublings(sum(bad.phase_s(each) for each in WORK), sum(base.phase_s(each) for each in WORK))
    together = 0.0
    if bad.signals.batch_rows is not None and base.signals.batch_rows is not None:
        together = doublings(base.signals.batch_rows, bad.signals.batch_rows)
    ready = 0.0
    if bad.signals.replicas_ready is not None and base.signals.replicas_ready:
        ready = doublings(base.signals.replicas_ready, max(bad.signals.replicas_ready, 0.1))
    return Pressure(
        tries=doublings(bad.rate / repeats_now, base.rate / repeats_before),
        repeats=doublings(repeats_now, repeats_before),
        work=work,
        # Batches that are fuller by half take longer for each of their requests, and nothing is wrong with the engine.
        pace=computed - work - 0.5 * max(-together, 0.0),
        replicas=ready,
        together=together,
    )


def _repeats(window: Window) -> float:
    again = min(window.signals.client_retries or 0.0, 0.99 * window.requests)
    return window.requests / (window.requests - again) if window.requests > again else 1.0
