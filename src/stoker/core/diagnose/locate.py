"""Whether what got worse lies in one part (a replica, node, tenant, revision) more than in the others.

The excess of a part is what it had above what it would have had at its peers' level: for a replica those of its own
revision, so that a bad revision does not make bad replicas. A part stands out when it carries more of the excess than
of the traffic.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from stoker.core.diagnose.scale import doublings, percent, ramp, seconds
from stoker.core.diagnose.shift import SURE
from stoker.core.diagnose.window import Axis, Part, Window

STILL_LOW_S: Final = 2.0  # a pause of the machine
STILL_HIGH_S: Final = 12.0
OF_MIN: Final = 10.0  # requests of a part before it is judged


class Spot(msgspec.Struct, frozen=True):
    """A part that stands out. score: 0–1; share: of the requests of its group."""

    name: str = ""
    score: float = 0.0
    share: float = 0.0
    evidence: tuple[str, ...] = ()


def worst(window: Window, axis: Axis) -> Spot:
    """Return the part of `axis` that is furthest above its peers, in latency or errors."""
    parts = window.of(axis)
    spots = [_against(axis, name, part, _peers(parts, name, part)) for name, part in parts.items()]
    return max(spots, key=lambda spot: (spot.score, spot.name), default=Spot())


def stalled(bad: Window, base: Window) -> Spot:
    """Return the replica that stood still with requests in it, more than before and more than its peers."""
    parts = bad.of("replica")
    # A gateway says so only after seconds without any progress; what a busy machine does to all is nobody's own.
    longer = {
        name: part.stalled_s - base.of("replica").get(name, Part()).stalled_s / base.seconds * bad.seconds
        for name, part in parts.items()
    }
    name = max(longer, key=lambda each: (longer[each], each), default="")
    if not name or longer[name] <= 0:
        return Spot()
    own = longer[name] / sum(max(each, 0.0) for each in longer.values())
    score = ramp(longer[name], STILL_LOW_S, STILL_HIGH_S) * ramp(own, 0.5, 0.8)
    share = parts[name].requests / max(sum(part.requests for part in parts.values()), 1.0)
    line = f"replica {name} stood still for {seconds(parts[name].stalled_s)} with requests in it"
    return Spot(name, score, share, (line,))


def _peers(parts: Mapping[str, Part], name: str, part: Part) -> Part:
    others = [each for other, each in parts.items() if other != name and each.group == part.group]
    return Part(
        requests=sum(each.requests for each in others),
        errors=sum(each.errors for each in others),
        time_s=sum(each.time_s for each in others),
    )


def _against(axis: Axis, name: str, part: Part, peers: Part) -> Spot:
    if part.requests < OF_MIN or peers.requests < OF_MIN:
        return Spot()
    slow = ramp(doublings(part.mean_s, peers.mean_s), 0.5, 1.3)
    more = part.error_ratio - peers.error_ratio
    pooled = (part.errors + peers.errors + 1.0) / (part.requests + peers.requests + 2.0)
    error = (pooled * (1 - min(pooled, 1.0)) * (1 / part.requests + 1 / peers.requests)) ** 0.5
    failing = ramp(more, 0.02, 0.15) if more > SURE * error else 0.0
    # Peers that fail at once look quick: beside them a sound part is not slow.
    slow *= 1 - ramp(peers.error_ratio - part.error_ratio, 0.02, 0.15)
    lines = []
    if failing:
        lines.append(f"{axis} {name} fails {percent(part.error_ratio)}, its peers {percent(peers.error_ratio)}")
    if slow:
        lines.append(f"{axis} {name} takes {seconds(part.mean_s)} a request, its peers {seconds(peers.mean_s)}")
    share = part.requests / (part.requests + peers.requests)
    return Spot(name, max(slow, failing), share, tuple(lines))


def grown(bad: Window, base: Window, axis: Axis, what: Callable[[Part], float]) -> Spot:
    """Return the part whose `what` a second grew most, scored by how much of all growth beyond its share is its own."""
    growth = {
        name: what(part) / bad.seconds - what(base.of(axis).get(name, Part())) / base.seconds
        for name, part in bad.of(axis).items()
    }
    total = sum(max(each, 0.0) for each in growth.values())
    if total <= 0 or len(growth) < 2:
        return Spot()
    name = max(growth, key=lambda each: (growth[each], each))
    whole = sum(what(part) for part in base.of(axis).values())
    usual = what(base.of(axis).get(name, Part())) / whole if whole else 0.0
    own = growth[name] / total
    share = what(bad.of(axis)[name]) / max(sum(what(part) for part in bad.of(axis).values()), 1e-9)
    # A share of the growth alone is not enough: where nothing much grew, chance gives all of it to somebody.
    score = min(ramp((own - usual) / max(1 - usual, 0.05), 0.3, 0.7), ramp(share - usual, 0.08, 0.3))
    line = f"{axis} {name} brings {percent(own)} of the growth; before it was {percent(usual)} of the load"
    return Spot(name, score, share, (f"{line}, now {percent(share)}",))
