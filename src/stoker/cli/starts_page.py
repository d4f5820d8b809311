"""What starts took, as a table: phase by phase, the last one beside the median and the slow ones."""

from collections.abc import Sequence

import click

from stoker.cli.output import age, columns, duration
from stoker.types.starts import FIRST_ANSWER, TOTAL, StartTimes

SHOWN_MAX = 3  # revisions and engines


def starts_table(found: Sequence[StartTimes]) -> str:
    """Return a table for each of the revisions and engines that started last."""
    return "\n".join(_one(each) for each in found[:SHOWN_MAX])


def _one(times: StartTimes) -> str:
    count = max(each.starts for each in times.phases)
    head = f"{times.revision} with {times.engine}: {count} start{'s' if count > 1 else ''}"
    rows = [
        (
            click.style(each.phase, bold=True) if each.phase == TOTAL else each.phase,
            "-" if each.last_s is None else duration(each.last_s),
            duration(each.median_s),
            duration(each.p90_s),
            str(each.starts),
            _about(each.phase),
        )
        for each in times.phases
    ]
    dim = click.style(f", the last {age(times.last_at_s)} ago", dim=True)
    return f"{head}{dim}\n" + columns(("PHASE", "LAST", "MEDIAN", "P90", "STARTS", ""), rows)


def _about(phase: str) -> str:
    said = {
        "order": "decided, files laid out; not in the total",
        "process": "the interpreter",
        "forked": "of a process that has its modules",
        "imports": "modules, ours and the engine's",
        "verify": "signature and digests",
        TOTAL: "from the spawn until it is seen to be ready",
        FIRST_ANSWER: "of the first request; to its first token",
    }
    return click.style(said.get(phase, ""), dim=True)
