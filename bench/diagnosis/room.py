"""The room of the benchmark: every fault, seeds that were looked at and seeds that were not, and quiet hours."""

from collections import Counter
from collections.abc import Iterable, Sequence

from bench.diagnosis.trial import HELD_OUT, Trial, healthy, run
from bench.figures import Figure
from bench.report import Section
from bench.rounds import say
from stoker.core.diagnose.causes import KINDS

FIRST_MIN = 0.90
THREE_MIN = 0.98


def measure(*, seeds: int, hours: float) -> Section:
    """Return how often the cause is named first and among three, for both kinds of seeds, and the false alarms."""
    seen = list(_trials(range(seeds)))
    held_out = list(_trials(range(HELD_OUT, HELD_OUT + seeds)))
    wrong = sum(len(healthy(seed, hours / 2)) for seed in (1, 2))
    return Section(
        "Diagnosis",
        [
            *_figures("", seen),
            *_figures(", held out", held_out),
            Figure("incidents in healthy hours", wrong, "", 0, "at most", f"{hours:g} h simulated, asked every 5 min"),
        ],
        {"Named first, for each fault": table(seen), "The same, held out": table(held_out)},
    )


def _trials(seeds: Iterable[int]) -> Iterable[Trial]:
    for seed in seeds:
        trials = [run(kind, seed) for kind in KINDS]
        say(f"  seed {seed}: {sum(trial.rank == 1 for trial in trials)} of {len(trials)} named first")
        yield from trials


def _figures(which: str, trials: Sequence[Trial]) -> list[Figure]:
    first = sum(trial.rank == 1 for trial in trials) / len(trials)
    three = sum(1 <= trial.rank <= 3 for trial in trials) / len(trials)
    note = f"{len(trials)} faults"
    return [
        Figure(f"true cause named first{which}", first, "", FIRST_MIN, "at least", note),
        Figure(f"true cause among three{which}", three, "", THREE_MIN, "at least", note),
    ]


def table(trials: Sequence[Trial]) -> list[list[str]]:
    """Return what was named first for each fault: the confusion table, without its zeros."""
    rows = [["fault", "right", "named instead"]]
    for kind in KINDS:
        mine = [trial for trial in trials if trial.kind == kind]
        named = Counter(first_named(trial) for trial in mine)
        others = ", ".join(f"{name} {count}" for name, count in named.most_common() if name != kind)
        rows.append([kind, f"{named[kind]} of {len(mine)}", others])
    return rows


def first_named(trial: Trial) -> str:
    """Return the first cause; "unexplained" or "healthy" where there is none."""
    diagnosis = trial.found.diagnosis
    if diagnosis.causes:
        return diagnosis.causes[0].kind
    return "unexplained" if diagnosis.is_wrong else "healthy"
