"""What was counted lately, of one revision: replicas only count up, windows slide, and both survive control.

A window is made of at most SLICES_MAX slices. A replica's counts are taken as the difference to those taken before,
and both are kept in one value: whatever dies when, nothing is counted twice and nothing between two looks is lost
but what a replica takes with it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from stoker.core.drawn import SLICE_MAX, is_sound, join
from stoker.core.drift import DriftMemory, Judgement, Shift
from stoker.types.drift import SAMPLE_MAX, Counts, Drawn, Reference

SLICES_MAX: Final = 60
CURSORS_MAX: Final = 1_000  # replicas of one revision


class Slice(msgspec.Struct, frozen=True):
    """What was counted from `start_s` (unix) on, until the next slice.

    slots: of each feature. drawn: of each space.
    """

    start_s: float
    rows: int
    refused: int
    slots: tuple[tuple[int, ...], ...]
    drawn: tuple[Drawn, ...] = ()


class Watched(msgspec.Struct, frozen=True):
    """Everything that is remembered of one endpoint's drift.

    revision, reference: what it is about; another one begins anew. cursors: the counts taken last, by replica.
    judged_s, triggered_s: unix times of the last verdict, and of the last event that was sent.
    """

    revision: str = ""
    reference: str = ""
    cursors: dict[str, Counts] = {}
    slices: tuple[Slice, ...] = ()
    memory: DriftMemory = DriftMemory()
    is_drifted: bool = False
    because: str = ""
    shifts: tuple[Shift, ...] = ()
    rows: int = 0
    refused: int = 0
    since_s: float = 0.0
    judged_s: float = 0.0
    triggered_s: float = 0.0


def begin(before: Watched, revision: str, reference: str) -> Watched:
    """Return what is remembered when it is about this: all, or, of another revision or reference, only the event."""
    if (before.revision, before.reference) == (revision, reference):
        return before
    return Watched(revision=revision, reference=reference, triggered_s=before.triggered_s)


def take(
    watched: Watched, reference: Reference, counts: Mapping[str, Counts], window_s: float, now_s: float
) -> Watched:
    """Return `watched` with what the replicas counted since, and without what lies before the window.

    Counts that do not fit the reference are left out: whoever sent them, sums stay sums.
    """
    fitting = {name: one for name, one in counts.items() if _fits(one, reference)}
    added = [_difference(watched.cursors.get(name), one) for name, one in fitting.items()]
    slices = [one for one in watched.slices if now_s - window_s < one.start_s <= now_s]
    width_s = window_s / SLICES_MAX
    if not slices or now_s - slices[-1].start_s >= width_s:
        nothing = tuple((0,) * len(one.counts) for one in reference.features)
        slices.append(Slice(now_s, 0, 0, nothing, (Drawn(),) * len(reference.spaces)))
    slices[-1] = _sum(slices[-1].start_s, [slices[-1], *added], SLICE_MAX)
    # Also of replicas that did not answer now: they count on. Who was not heard of the longest goes first.
    told = {name: msgspec.structs.replace(one, drawn=()) for name, one in fitting.items()}
    cursors = {name: one for name, one in watched.cursors.items() if name not in told} | told
    kept = dict(list(cursors.items())[-CURSORS_MAX:])
    return msgspec.structs.replace(watched, cursors=kept, slices=tuple(slices[-SLICES_MAX:]))


def window(watched: Watched) -> Slice | None:
    """Return the whole window as one; None before the first look."""
    return _sum(watched.slices[0].start_s, watched.slices, SAMPLE_MAX) if watched.slices else None


def judged(watched: Watched, verdict: Judgement, refused: int, now_s: float) -> Watched:
    """Return `watched` after a verdict; one with too few rows leaves drifted what was."""
    is_drifted = watched.is_drifted if verdict.is_drifted is None else verdict.is_drifted
    return msgspec.structs.replace(
        watched,
        memory=verdict.memory,
        is_drifted=is_drifted,
        because=verdict.because,
        shifts=verdict.shifts,
        rows=verdict.rows,
        refused=refused,
        since_s=watched.since_s if is_drifted == watched.is_drifted and watched.since_s else now_s,
        judged_s=now_s,
    )


def is_trigger_due(watched: Watched, cooldown_s: float, now_s: float) -> bool:
    """Return whether an event is to be sent: it has drifted, and the last one lies long enough back."""
    was_lately = watched.triggered_s > 0 and now_s - cooldown_s < watched.triggered_s <= now_s
    return watched.is_drifted and not was_lately


def _fits(counts: Counts, reference: Reference) -> bool:
    return (
        len(counts.slots) == len(reference.features)
        and all(len(a) == len(b.counts) for a, b in zip(counts.slots, reference.features, strict=True))
        and len(counts.drawn) == len(reference.spaces)
        and all(map(is_sound, counts.drawn))
        and min((counts.rows, counts.refused, *(least for one in counts.slots for least in one))) >= 0
    )


def _difference(before: Counts | None, now: Counts) -> Slice:
    if before is None or before.since != now.since:
        return Slice(0.0, now.rows, now.refused, now.slots, now.drawn)
    slots = tuple(
        tuple(max(a - b, 0) for a, b in zip(new, old, strict=True))
        for new, old in zip(now.slots, before.slots, strict=True)
    )
    return Slice(0.0, max(now.rows - before.rows, 0), max(now.refused - before.refused, 0), slots, now.drawn)


def _sum(start_s: float, slices: Sequence[Slice], drawn_max: int) -> Slice:
    columns = zip(*(one.slots for one in slices), strict=True)
    slots = tuple(tuple(map(sum, zip(*column, strict=True))) for column in columns)
    drawn = tuple(join(samples, drawn_max) for samples in zip(*(one.drawn for one in slices), strict=True))
    return Slice(start_s, sum(one.rows for one in slices), sum(one.refused for one in slices), slots, drawn)
