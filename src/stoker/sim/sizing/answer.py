"""The answer to how large an endpoint should be, as values: what is printed, drawn and read by programs."""

import msgspec

from stoker.sim.platform.outcome import Quantiles
from stoker.sim.sizing.slos import Slo


class Range(msgspec.Struct, frozen=True):
    """How many replicas there may be, and the share of its places that each fills; None: as the platform decides."""

    min: int
    max: int
    utilization: float | None = None

    @property
    def name(self) -> str:
        """As people say it: `2 to 6 at 60 %`."""
        count = f"{self.min} to {self.max}" if self.max > self.min else f"{self.min}"
        return f"{count} at {self.utilization * 100:.0f} %" if self.utilization is not None else count


class Figures(msgspec.Struct, frozen=True):
    """What a range did, of the whole demand. Times that more requests miss than have are infinite: no answer.

    kept: by objective, the share of requests that were as promised. answered_ratio: that got an answer in time.
    closed_ratio: of all requests, those that a schedule closed out; everything else is said of the others.
    """

    kept: dict[str, float]
    answered_ratio: float
    ttft: Quantiles
    latency: Quantiles
    replicas_mean: float
    replicas_most: int
    usd_per_hour: float
    closed_ratio: float = 0.0

    def spent(self, slos: tuple[Slo, ...]) -> float:
        """Return the share of its error budget that the worst promise used; above 1 it was not kept."""
        return max((1.0 - self.kept[each.name]) / (1.0 - each.target) for each in slos)

    def holds(self, slos: tuple[Slo, ...]) -> bool:
        """Return whether every promise was kept."""
        return all(self.kept[each.name] >= each.target for each in slos)


class Tried(msgspec.Struct, frozen=True):
    """A range that was tried on a pool. is_sure: it held on draws that it was not chosen on, by more than chance."""

    pool: str
    range: Range
    figures: Figures
    is_sure: bool = False


class Grown(msgspec.Struct, frozen=True):
    """What happens at so many `times` the demand: under the plan, and in the range that would be large enough for it.

    enough: None where the plan itself holds, or nothing that was tried does.
    """

    times: int
    figures: Figures
    is_kept: bool
    enough: Tried | None = None


class Simulated(msgspec.Struct, frozen=True):
    """How much of the recording was simulated. is_checked: the plan itself was run on all of it."""

    recorded_s: float
    recorded: int
    simulated_s: float
    simulated: int
    peak_per_s: float
    trials: int
    is_checked: bool


class Curve(msgspec.Struct, frozen=True):
    """A distribution: the time that each share of requests (SHARES) is at most at; infinite: no answer."""

    times: int
    seconds: tuple[float, ...]


class Moment(msgspec.Struct, frozen=True):
    """The plan at one moment of the recording; is_first: of a stretch that does not go on from the one before."""

    at_s: float
    replicas: float
    is_first: bool = False


class Answer(msgspec.Struct, frozen=True):
    """The plan, what it was compared with, and how it would grow."""

    slos: tuple[Slo, ...]
    simulated: Simulated
    chosen: Tried
    fixed: Tried  # the smallest number of replicas that holds, on the same pool
    tried: tuple[Tried, ...]
    grown: tuple[Grown, ...]
    curves: tuple[Curve, ...]
    course: tuple[Moment, ...]
    came: tuple[float, ...]  # requests/s of the whole recording, in stretches of the same length
    is_priced: bool
