"""Whether an audit is as it was written: its rows, the checkpoints kept with them, and those kept in a file elsewhere.

What each kind of manipulation meets:
- a row that was edited: its hash, or the next row's, or the checkpoint over it, even when all hashes were made anew;
- a row deleted, inserted, swapped or renumbered: the count, and the chain;
- rows cut off at the end: the checkpoint that says how many there were;
- rows cut off at the beginning: they may only go up to a checkpoint of the kind `root`;
- a checkpoint that was edited or made by another key: its signature; one deleted or moved: their count and chain, and
  the other place where the same checkpoints are.

Not found: that rows after the last checkpoint were cut off (`sealed` says which was the last under one), and that rows
and both places of checkpoints were put back together to an earlier state: for that, keep a copy elsewhere
(docs/explanation/audit.md).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from stoker.core.audit import chain
from stoker.types.audit import AuditVerdict, Checkpoint, Row

_HASH: Final = re.compile(r"[0-9a-f]{64}")
PROBLEMS_MAX: Final = 20  # what is told; after the first break the others follow from it

IsSigned = Callable[[Checkpoint], bool]


class _Findings:
    """Problems, in the order they were found."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def say(self, problem: str) -> None:
        if len(self.told) < PROBLEMS_MAX:
            self.told.append(problem)


def verify(
    rows: Iterable[Row],
    kept: Sequence[str] | None,
    filed: bytes | None,
    is_signed: IsSigned,
    *,
    key: str = "",
    witness: bytes = b"",
) -> AuditVerdict:
    """Return what an audit is worth.

    Args:
        rows: by their sequence.
        kept: the lines of the checkpoints that are stored with the rows, by their number; None for an export's.
        filed: the file of checkpoints, None where there is none to compare with.
        is_signed: whether the platform's key made a checkpoint's signature.
        key: its fingerprint, for the verdict.
        witness: a copy of the file that only grew, from elsewhere: what it knows must still be so.
    """
    found = _Findings()
    lines = _compared(kept, filed, found)
    checkpoints = _series(lines, is_signed, found)
    root = checkpoints[0] if checkpoints and checkpoints[0].kind == "root" else None
    start, before = (root.sequence, root.hash) if root is not None else (0, chain.ROOT)
    sealed = {each.sequence: each.hash for each in checkpoints if each.sequence > start}
    copied = {each.sequence: each.hash for each in _copied(witness, is_signed) if each.sequence > start}
    last = start
    first = 0
    for row in rows:
        first = first or row.sequence
        if row.sequence != last + 1:
            found.say(f"row {last + 1} is missing" if row.sequence > last else f"row {row.sequence} is out of order")
        if wrong := _wrong(row, before):
            found.say(f"row {row.sequence} {wrong}")
        if sealed.pop(row.sequence, row.hash) != row.hash:
            found.say(f"row {row.sequence} is not the one that was signed for")
        if copied.pop(row.sequence, row.hash) != row.hash:
            found.say(f"row {row.sequence} is not the one that was signed for, says the copy")
        last, before = row.sequence, row.hash if _HASH.fullmatch(row.hash) else chain.ROOT
    if beyond := [sequence for sequence in sealed if sequence > last]:
        found.say(f"rows {last + 1} to {max(beyond)} are missing at the end")
    elif sealed:
        found.say(f"row {min(sealed)} was signed for and is not there")
    if copied:
        found.say(f"rows {last + 1} to {max(copied)} are missing at the end, says the copy")
    end = checkpoints[-1] if checkpoints else None
    if end is None and last > start:
        found.say("there are rows and no checkpoint over them")
    return AuditVerdict(
        problems=tuple(found.told),
        first=first,
        last=last,
        sealed=end.sequence if end is not None else start,
        sealed_at_us=end.at_us if end is not None else 0,
        checkpoints=len(checkpoints),
        key=key,
    )


def _copied(witness: bytes, is_signed: IsSigned) -> Iterable[Checkpoint]:
    """Yield the checkpoints of a copy that are signed; what else is in it says nothing."""
    for text in witness.decode("utf-8", "replace").split("\n"):
        each = chain.checkpoint_of(text)
        if each is not None and is_signed(each):
            yield each


def _compared(kept: Sequence[str] | None, filed: bytes | None, found: _Findings) -> Sequence[str]:
    """Return the lines to go by, of two places that must have the same."""
    if filed is None:
        return kept or ()
    text = filed.decode("utf-8", "replace")
    lines = text.removesuffix("\n").split("\n") if text else []
    if text and not text.endswith("\n"):
        found.say("the file of checkpoints breaks off in its last line")
    if kept is None:
        return lines
    if lines != list(kept):
        same = sum(1 for _ in _alike(kept, lines))
        if same == len(lines):
            found.say(f"the file of checkpoints ends before number {same + 1} of those kept with the rows")
        elif same == len(kept):
            found.say(f"the file has checkpoints that are not kept with the rows, from line {same + 1}")
        else:
            found.say(f"line {same + 1} of the file is not the checkpoint that is kept with the rows")
    return lines if len(lines) > len(kept) else kept


def _alike(one: Sequence[str], other: Sequence[str]) -> Iterable[str]:
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            return
        yield mine


def _series(lines: Sequence[str], is_signed: IsSigned, found: _Findings) -> list[Checkpoint]:
    """Return the checkpoints that `lines` are, as far as each follows the one before."""
    series: list[Checkpoint] = []
    previous = ""
    for at, text in enumerate(lines):
        each = chain.checkpoint_of(text)
        if each is None:
            found.say(f"checkpoint {at + 1} of those that are there cannot be read")
            break
        if wrong := _misplaced(each, series, previous):
            found.say(f"checkpoint {each.number} {wrong}")
        if not is_signed(each):
            found.say(f"checkpoint {each.number} is not signed by the platform's key")
            break
        series.append(each)
        previous = chain.digest(text)
    return series


def _misplaced(each: Checkpoint, series: Sequence[Checkpoint], previous: str) -> str:
    """Return why a checkpoint cannot follow those before it; "" if it can."""
    if not series:
        is_first = each.number == 1 and not each.previous
        return "" if is_first or each.kind == "root" else "is the first that is there, and was not"
    before = series[-1]
    if each.number != before.number + 1 or each.previous != previous:
        return f"does not follow number {before.number}"
    if each.kind == "root":
        return "is a root and not the first"
    return "" if each.sequence > before.sequence else f"says {each.sequence} rows after {before.sequence}"


def _wrong(row: Row, before: str) -> str:
    """Return what is wrong with a row that follows the one with the hash `before`; "" for nothing."""
    if chain.next_hash(before, row.event) != row.hash:
        return "was changed, or what came before it"
    try:
        event = chain.event_of(row)
    except (msgspec.MsgspecError, UnicodeError):
        return "is no event"
    said = (event.sequence, event.at_us, event.actor, event.action, chain.listed(event))
    if said != (row.sequence, row.at_us, row.actor, row.action, row.resources):
        return "says something else beside its event than in it"
    return ""
