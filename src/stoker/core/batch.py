"""Which waiting requests go through the engine together, and which cannot be served in time and are refused now.

Work-conserving: whatever waits when the engine is free is joined at once, nothing is held back to fill a batch, so a
lone request never pays for batching. A batch is capped by rows, by bytes and by its earliest deadline, through the
fitted line of its shapes (core/latency.py).

Shedding: a request that waited long leaves little time, and a batch that must end by then is a small one. When the
others could still be served behind it, it is. When they could not, the oldest are what the others would be lost for:
the batch becomes the largest that ends in time, and those it would be late for are dropped.

Source: batch-while-busy is Triton's default (dynamic batching with no queue delay); dropping for the sake of the batch
is Nexus' early drop. Simulated (tests/core/test_goodput.py) with calls of 4 + 0.5 n ms, at most 32 rows and a limit of
50 ms, so a capacity of 1,600/s: at 1,900/s offered, joining alone serves 16/s in time, dropping only what cannot even
run alone 360/s, this 1,600/s.
"""

from collections.abc import Sequence
from typing import Final, Literal, Protocol

import msgspec

from stoker.core.latency import BELIEF_S, LEARNED_CALLS, NEVER, Line, Lines, Shapes

Because = Literal["queue", "max_rows", "max_bytes", "deadline", "shed", "alone"]

_NOWHERE: Final[Shapes] = ((-1,),)  # the shapes of no request


class Waiting(Protocol):
    """One request (or one part of a large one) that waits for the engine.

    shapes: requests with equal ones can be joined. size_bytes: its inputs, as the engine gets them.
    deadline_s: on the clock of `now_s`; NEVER for none. alone: runs in no batch with others.
    """

    rows: int
    size_bytes: int
    shapes: Shapes
    deadline_s: float
    alone: bool


class Plan(msgspec.Struct, frozen=True):
    """Positions in the queue, ascending. `take` goes through the engine now, `drop` is refused now; the rest waits.

    because: why no more was taken: nothing more waits (queue), one call's maximum, the earliest deadline, that deadline
    after others were dropped for it (shed), or a request that runs alone.
    """

    take: tuple[int, ...]
    drop: tuple[int, ...]
    rows: int
    because: Because


def plan(queue: Sequence[Waiting], lines: Lines, *, max_rows: int, max_bytes: int, now_s: float) -> Plan:
    """Return what of `queue` (oldest first) to run now and what to drop.

    One request is taken whatever its size; the others join it while shapes agree, rows and bytes fit, and every
    deadline in the batch holds.
    """
    take: list[int] = []
    drop: list[int] = []
    rows = size_bytes = 0
    shapes = known = _NOWHERE
    earliest_s = NEVER
    because: Because = "queue"
    start_s = row_s = 0.0
    may_drop = False
    for at, waiting in enumerate(queue):
        if waiting.shapes is not known:
            known = waiting.shapes
            start_s, row_s, may_drop = _expected(lines.of(known), now_s)
        deadline_s = waiting.deadline_s
        if start_s + row_s * waiting.rows >= deadline_s and (may_drop or now_s >= deadline_s):
            drop.append(at)
            continue
        if take:
            if waiting.alone or known != shapes:
                continue
            joined = rows + waiting.rows
            if joined > max_rows:
                because = "max_rows"
                break
            if size_bytes + waiting.size_bytes > max_bytes:
                because = "max_bytes"
                break
            end_s = start_s + row_s * joined
            if end_s >= deadline_s or end_s >= earliest_s:
                because = "deadline"
                break
            rows = joined
            if deadline_s < earliest_s:  # noqa: PLR1730 - calling min is a tenth of this loop
                earliest_s = deadline_s
        else:
            rows, shapes, earliest_s = waiting.rows, known, deadline_s
        size_bytes += waiting.size_bytes
        take.append(at)
        if waiting.alone or rows >= max_rows:
            because = "alone" if waiting.alone else "max_rows"
            break
    planned = Plan(tuple(take), tuple(drop), rows, because)
    if because == "deadline" and not (line := lines.of(shapes)).is_guess:
        overhead_s = line.base_s + line.margin_s
        terms = _Terms(now_s + overhead_s, line.row_s, overhead_s, max_rows, max_bytes)
        return _shed(queue, planned, terms) or planned
    return planned


def drain_s(queue: Sequence[Waiting], lines: Lines, *, max_rows: int) -> float:
    """Return about how long the engine needs for what waits, 0 while nothing is known: when to come back."""
    if not queue:
        return 0.0
    line = lines.of(queue[0].shapes)
    rows = sum([waiting.rows for waiting in queue])
    return -(-rows // max_rows) * line.base_s + rows * line.row_s


def _expected(line: Line, now_s: float) -> tuple[float, float, bool]:
    """Return when a call of no rows would end, what each row adds, and whether somebody may be refused for it."""
    if line.calls < LEARNED_CALLS or now_s - line.seen_s > BELIEF_S:
        return now_s, 0.0, False
    return now_s + line.base_s + line.margin_s, line.row_s, not line.is_guess


class _Terms(msgspec.Struct, frozen=True):
    """Of one bucket: a call that starts now ends at `start_s` and `row_s` for each row; one behind it pays overhead."""

    start_s: float
    row_s: float
    overhead_s: float
    max_rows: int
    max_bytes: int

    def end_s(self, rows: int) -> float:
        return self.start_s + self.row_s * rows


def _shed(queue: Sequence[Waiting], gentle: Plan, terms: _Terms) -> Plan | None:
    """Return the plan that serves more in time by dropping some, None when `gentle` loses nobody or nothing is gained.

    Of all sets that end in time together the one with the latest deadlines is the largest: it says by when the call may
    end. Within that time the oldest go first.
    """
    shapes = queue[gentle.take[0]].shapes
    bucket = [
        (at, each)
        for at, each in enumerate(queue)
        if each.shapes == shapes and not each.alone and each.deadline_s > terms.end_s(each.rows)
    ]
    if not _loses([each for _, each in bucket[len(gentle.take) :]], gentle.rows, terms):
        return None
    latest_end_s = _latest_end_s([each for _, each in bucket], terms)
    take: list[int] = []
    rows = size_bytes = 0
    for at, each in bucket:
        fits = rows + each.rows <= terms.max_rows and size_bytes + each.size_bytes <= terms.max_bytes
        if each.deadline_s > latest_end_s >= terms.end_s(rows + each.rows) and (fits or not take):
            take.append(at)
            rows += each.rows
            size_bytes += each.size_bytes
    if rows <= gentle.rows:
        return None
    taken = set(take)
    free_s = terms.end_s(rows) + terms.overhead_s  # behind this call, the overhead of another one paid
    late = [at for at, each in bucket if at not in taken and free_s + terms.row_s * each.rows >= each.deadline_s]
    return Plan(tuple(take), tuple(sorted([*gentle.drop, *late])), rows, "shed")


def _loses(behind: Sequence[Waiting], rows: int, terms: _Terms) -> bool:
    """Return whether somebody of `behind` would be late, in full calls that follow one of `rows` rows."""
    end_s = terms.end_s(rows)
    rows = terms.max_rows  # the first of them begins a call
    earliest_s = NEVER
    for each in behind:
        if rows + each.rows > terms.max_rows:
            if end_s >= earliest_s:
                return True
            end_s += terms.overhead_s
            rows, earliest_s = 0, NEVER
        rows += each.rows
        end_s += terms.row_s * each.rows
        earliest_s = min(earliest_s, each.deadline_s)
    return end_s >= earliest_s


def _latest_end_s(bucket: Sequence[Waiting], terms: _Terms) -> float:
    """Return the end of the largest call in which everybody is in time."""
    rows = 0
    for each in sorted(bucket, key=lambda each: -each.deadline_s):
        joined = rows + each.rows
        if rows and (joined > terms.max_rows or terms.end_s(joined) >= each.deadline_s):
            break
        rows = joined
    return terms.end_s(rows)
