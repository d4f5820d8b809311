"""Whether an incident does something by itself, what, and when that is over. Pure.

At most one act of an endpoint is in force. It must be allowed by the manifest and fit the likeliest cause, of which
the diagnosis must be sure enough, with no other cause close to it that asks for something else. What was done needs
COOL_S to be seen; then the endpoint is compared anew, with what was seen since.

An act is a line in the record of its incident before anything happens (control/remedies.py); the loop makes true what
is in force (core/reconcile.py), so that doing it twice, or going on after a crash, changes nothing more.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from stoker.core.diagnose.causes import Cause, CauseKind
from stoker.core.diagnose.incident import Incident
from stoker.core.diagnose.scale import percent, seconds
from stoker.types.remedies import Act, ActKind, Load, Remedy
from stoker.types.slos import Move

FITS: Final[dict[CauseKind, tuple[ActKind, ...]]] = {
    "bad_replica": ("restart", "eject"),
    "change": ("roll-back",),
    "batching": ("roll-back",),
    "model_behaviour": ("roll-back",),
    "overload": ("scale-up", "shed-sheddable"),
    "request_mix": ("scale-up",),
    "length": ("scale-up",),
    "memory": ("scale-up",),
    "noisy_tenant": ("shed-sheddable",),
    "retry_storm": ("shed-sheddable",),
}
# A new version and an onset that fall together are worth 0.7 (core/diagnose/outside.py), and going back to what served
# well minutes ago costs least if it was wrong. Others change what runs: they must be a little surer.
SURE: Final[dict[ActKind, float]] = {
    "restart": 0.7,
    "eject": 0.7,
    "roll-back": 0.65,
    "scale-up": 0.6,
    "shed-sheddable": 0.7,
}
CLOSE: Final = 0.6  # another cause with this share of the first one's confidence makes the diagnosis ambiguous
COOL_S: Final = 120.0
INCIDENT_MAX: Final = 4  # acts of one incident
KIND_MAX: Final[dict[ActKind, int]] = {
    "restart": 2, "eject": 2, "roll-back": 1, "scale-up": 2, "shed-sheddable": 2,
}  # fmt: skip
HOUR_MAX: Final = 6  # acts of one endpoint
HOUR_S: Final = 3600.0
# How long an act is in force at most: an ejected replica is on parole then, a restart or a way back that has not come
# about is given up, more capacity and less traffic are a bridge for people to get there.
HOLD_S: Final[dict[ActKind, float]] = {
    "restart": 900.0, "eject": 600.0, "roll-back": 900.0, "scale-up": 1800.0, "shed-sheddable": 1800.0,
}  # fmt: skip
# A revision that served well for longer before it began is not to blame, whatever is worse about it now.
NEW_S: Final = 600.0
EARLY_S: Final = 60.0  # an onset is found to a step of a series, so it may seem to come before its change
JUDGED_S: Final = 70.0  # after its end, what an act changed is known: a minute, and what is not counted yet
_MOVES: Final[dict[ActKind, Move]] = {"scale-up": "scale-up", "shed-sheddable": "shed-sheddable"}


class Pool(msgspec.Struct, frozen=True):
    """What an endpoint has that can be acted on.

    replicas: of the serving revision, those that shall run. serving_since_s: 0 when that is long ago. earlier: the
    revision that served before, "" for none that can be returned to.
    """

    allowed: tuple[Remedy, ...] = ()
    replicas: frozenset[str] = frozenset()
    ready: frozenset[str] = frozenset()
    least: int = 1  # that run by themselves: spec.replicas.min, or what the load calls for
    most: int = 1
    serving: str = ""
    target: str = ""
    serving_since_s: float = 0.0
    earlier: str = ""
    is_gameday: bool = False
    is_well: bool = False  # the last look at the incident found nothing wrong


class Wish(msgspec.Struct, frozen=True):
    """What should be done now, or why nothing is (`kind` is None then)."""

    because: str
    kind: ActKind | None = None
    subject: str = ""

    @property
    def what(self) -> str:
        """The act in words, "" for none."""
        return f"{self.kind} {self.subject}".rstrip() if self.kind is not None else ""


def wish(causes: Sequence[Cause], done: Sequence[Act], pool: Pool, now_s: float, others: Sequence[Act] = ()) -> Wish:
    """Return what should be done about `causes` (likeliest first), or why nothing.

    done: acts of the incident. others: those of the endpoint's other incidents.
    """
    if not pool.allowed:
        return Wish("the manifest allows none (spec.remedies)")
    if pool.is_well:
        return Wish("the last look found it well again")
    if not causes:
        return Wish("no cause is known")
    tired = _tired([*done, *others], done, now_s)
    if tired:
        return Wish(tired)
    first = causes[0]
    refusals = []
    for remedy in pool.allowed:
        if remedy.do not in FITS.get(first.kind, ()):
            continue
        why_not = _unsure(remedy, causes) or _unfit(remedy.do, first, done, pool)
        if not why_not:
            return Wish(_reason(first), remedy.do, _subject(remedy.do, first, pool))
        refusals.append(f"{remedy.do}: {why_not}")
    return Wish("; ".join(refusals) or f"none that is allowed cures {first.kind}")


def outcome(act: Act, pool: Pool, now_s: float, *, is_open: bool) -> str:
    """Return how `act` ended, "" while it goes on. `is_open`: its incident."""
    if act.kind == "restart" and act.subject not in pool.replicas:
        return "it was replaced"
    if act.kind == "eject" and act.subject not in pool.replicas:
        return "it is gone"
    if act.kind == "roll-back" and pool.serving == act.subject:
        return "it serves"
    if not any(remedy.do == act.kind for remedy in pool.allowed):
        return "the manifest does not allow it any more"
    if not is_open:
        return "the incident is over"
    if not 0 <= now_s - act.at_s < HOLD_S[act.kind]:
        words: dict[ActKind, str] = {"restart": "it was not replaced", "roll-back": "it does not serve"}
        return f"{words.get(act.kind, 'its time is over')} after {HOLD_S[act.kind] / 60:.0f} min"
    return ""


def moves(acts: Sequence[Act]) -> dict[Move, str]:
    """Return what acts in force ask of the loop as the budget's policies do, with why."""
    return {_MOVES[act.kind]: act.because for act in acts if act.is_in_force and act.kind in _MOVES}


def held_out(acts: Sequence[Act]) -> dict[str, ActKind]:
    """Return the replicas that are not to be counted on, by what is done with each: `restart` or `eject`."""
    return {act.subject: act.kind for act in acts if act.is_in_force and act.kind in ("restart", "eject")}


def in_force(incidents: Sequence[Incident]) -> Mapping[tuple[str, str], tuple[Act, ...]]:
    """Return the acts in force of all `incidents`, by project and endpoint."""
    found: dict[tuple[str, str], tuple[Act, ...]] = {}
    for one in incidents:
        acts = tuple(act for act in one.acts if act.is_in_force)
        if acts:
            found[one.project, one.endpoint] = (*found.get((one.project, one.endpoint), ()), *acts)
    return found


def effect(before: Load, after: Load) -> str:
    """Return what changed, in numbers."""
    return (
        f"{percent(before.failed_ratio)} of the requests failed and they took {seconds(before.latency_s)}; "
        f"now {percent(after.failed_ratio)} and {seconds(after.latency_s)}"
    )


def _tired(every: Sequence[Act], done: Sequence[Act], now_s: float) -> str:
    """Return why nothing more may be done now, whatever the cause."""
    going = next((act for act in every if act.is_in_force), None)
    if going is not None:
        return f"{going.what} is in force, and one thing is done at a time"
    # A time in the future (the clock was set back) counts as just now.
    lately = [act for act in every if now_s - act.at_s < HOUR_S]
    if len(lately) >= HOUR_MAX:
        return f"{len(lately)} acts in an hour are enough; it needs a person"
    if len(done) >= INCIDENT_MAX:
        return f"{len(done)} acts did not end the incident; it needs a person"
    rest_s = max((act.ended_at_s + COOL_S - now_s for act in every), default=0.0)
    if rest_s > 0:
        return f"what the last act did is looked at for {min(rest_s, COOL_S):.0f} s more"
    return ""


def _unsure(remedy: Remedy, causes: Sequence[Cause]) -> str:
    first = causes[0]
    sure = SURE[remedy.do] if remedy.when_sure is None else remedy.when_sure
    if first.confidence < sure:
        return f"{first.kind} is only {percent(first.confidence)} sure, {percent(sure)} are asked"
    for other in causes[1:]:
        if other.confidence >= CLOSE * first.confidence and remedy.do not in FITS.get(other.kind, ()):
            return f"{other.kind} is close ({percent(other.confidence)}, {first.kind} {percent(first.confidence)})"
    return ""


def _unfit(kind: ActKind, cause: Cause, done: Sequence[Act], pool: Pool) -> str:
    """Return why `kind` cannot or must not be done about `cause`, "" when it can."""
    if sum(act.kind == kind for act in done) >= KIND_MAX[kind]:
        return f"was done {KIND_MAX[kind]} times in this incident"
    if kind in ("restart", "eject", "roll-back") and pool.target != pool.serving:
        return "a rollout is under way"
    match kind:
        case "restart" | "eject":
            return _unfit_replica(kind, cause, done, pool)
        case "roll-back":
            return _unfit_way_back(cause, pool)
        case "scale-up":
            is_full = pool.least >= pool.most or not pool.least
            return f"replicas.max is {pool.most}" if is_full else ""
        case _:
            return ""


def _unfit_replica(kind: ActKind, cause: Cause, done: Sequence[Act], pool: Pool) -> str:
    replica = _subject(kind, cause, pool)
    if not replica:
        return f"{cause.where or 'what is bad'} is no replica"
    if replica not in pool.replicas:
        return f"{replica} is gone already"
    if kind == "restart":
        return ""
    if not pool.ready - {replica}:
        return "no other replica is ready"
    is_again = any(act.kind == "eject" and act.subject == replica for act in done)
    return f"{replica} was on parole once" if is_again else ""


def _unfit_way_back(cause: Cause, pool: Pool) -> str:
    if pool.is_gameday:
        return "a game day goes on, and no revision is to blame for that"
    if cause.where and cause.where != f"revision {pool.serving}":
        return f"{cause.where} does not serve"
    if not pool.earlier:
        return "there is no revision that served before"
    began_s = pool.serving_since_s
    if not began_s or not -EARLY_S <= cause.since_s - began_s <= NEW_S:
        return f"{pool.serving} did not begin to serve shortly before"
    return ""


def _subject(kind: ActKind, cause: Cause, pool: Pool) -> str:
    match kind:
        case "restart" | "eject":
            return cause.where.removeprefix("replica ") if cause.where.startswith("replica ") else ""
        case "roll-back":
            return pool.earlier
        case _:
            return ""


def _reason(cause: Cause) -> str:
    where = f" ({cause.where})" if cause.where else ""
    lines = f": {'; '.join(cause.evidence[:2])}" if cause.evidence else ""
    return f"{cause.kind}{where}, {percent(cause.confidence)} sure{lines}"
