"""What is broken on purpose on a game day, which cause should be found, and how well it was found and healed.

A run is a row of seconds (what callers saw) and a few marks (when an alert fired, which causes were named). Scores
are 0–1; one that does not apply is None and does not count. Where callers saw nothing, there is nothing to be woken
for: such a fault was absorbed, and neither detection nor diagnosis is asked for.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Final, Literal

import msgspec

from stoker.core.diagnose.causes import CauseKind
from stoker.types.faults import FaultKind

GOOD_FOR_S: Final = 10  # seconds in a row without harm, and the endpoint is good again
SLOW_TIMES: Final = 3.0  # a second is slow when its slowest twentieth takes so many times that of before …
SLOW_MORE_S: Final = 0.1  # … and so much more, so that noise of a fast model is none
HARMED_MIN: Final = 3  # harmed seconds before callers can be said to have seen something …
HARMED_RATIO: Final = 0.1  # … and this share of those until it was good again, so that noise is none
DETECT_GOOD_S: Final = 30.0  # full score up to here, none from the other on
DETECT_BAD_S: Final = 300.0
REMEDY_GOOD_S: Final = 30.0
REMEDY_BAD_S: Final = 300.0
FAILED_BAD_RATIO: Final = 0.1  # of the requests from injection to recovery
TOP: Final = 3  # causes a person reads first

# healed: good again while the fault lasted (or, of a kill, at all). outlasted: only once it was over.
# found, missed: of what callers cannot see.
Outcome = Literal["absorbed", "healed", "outlasted", "not healed", "found", "missed"]
LoadKind = Literal["none", "noisy_tenant", "retry_storm", "long_prompts", "drifted_inputs"]


class Scenario(msgspec.Struct, frozen=True):
    """One thing that goes wrong: a fault in replicas, a revision that fails, or load of the one who runs it.

    expects: causes (core/diagnose) that are right; the first is the usual one. None where diagnoses know no such cause:
    the score says so. tasks: of endpoints it makes sense for.
    is_everywhere: `fault` is put into every replica that is ready and not into one. engine: the endpoint's must be it.
    rate_times: the load, in multiples of the probes. is_silent: callers cannot see it, so that somebody must be told
    of it all the same, and there is nothing to heal.
    """

    name: str
    does: str
    expects: tuple[CauseKind, ...]
    fault: FaultKind | None = None
    is_everywhere: bool = False
    is_bad_revision: bool = False
    load: LoadKind = "none"
    engine: str = ""
    replicas_min: int = 1
    tasks: tuple[str, ...] = ("predict", "embed", "chat")
    rate_times: float = 0.0
    is_silent: bool = False


SCENARIOS: Final = (
    Scenario("replica-kill", "SIGKILL to one replica", ("bad_replica", "cold_start"), fault="kill"),
    # Of a single replica there are no peers to be worse than; that it was started again is what is left to be seen.
    Scenario("replica-hang", "one replica stands still (SIGSTOP)", ("bad_replica", "cold_start"), fault="hang"),
    Scenario(
        "replica-slow",
        "one replica runs a tenth of the time",
        ("bad_replica",),
        fault="slow",
        replicas_min=2,
    ),
    Scenario(
        "memory-pressure",
        "one replica takes memory until it is over its limit",
        ("memory", "bad_replica", "cold_start"),
        fault="memory",
    ),
    Scenario(
        "corrupt-artifact",
        "one replica is started again from a copy of its model with one byte changed",
        ("bad_replica", "cold_start"),
        fault="corrupt",
    ),
    Scenario(
        "bad-revision",
        "a revision goes out that fails half of the requests",
        ("change",),
        is_bad_revision=True,
    ),
    Scenario(
        "dependency-down",
        "the server behind the endpoint refuses connections",
        ("dependency",),
        fault="dependency",
        is_everywhere=True,
        tasks=("chat", "embed"),
        engine="openai",
    ),
    Scenario("disk-full", "the replicas can write to no file", ("disk_full",), fault="disk", is_everywhere=True),
    Scenario(
        "clock-step",
        "the replicas' wall clock is an hour ahead at once",
        ("clock",),
        fault="clock",
        is_everywhere=True,
    ),
    Scenario(
        "slow-network",
        "what gateways and replicas send each other is 0.1 s late each way, and one piece of twenty 0.3 s more",
        ("network",),
        fault="network",
        is_everywhere=True,
    ),
    Scenario(
        "noisy-tenant",
        "a second key asks twenty times as much",
        ("noisy_tenant", "overload"),
        load="noisy_tenant",
        rate_times=20.0,
    ),
    Scenario(
        "retry-storm",
        "callers send twenty times as much, and say that they ask again",
        ("retry_storm",),
        load="retry_storm",
        rate_times=20.0,
    ),
    Scenario(
        "long-prompts",
        "the callers' prompts become forty times as long",
        ("length", "request_mix"),
        load="long_prompts",
        tasks=("chat",),
        rate_times=1.0,
    ),
    Scenario(
        "drifted-inputs",
        "ten times as many requests, of 64 rows with values the model was never made for",
        ("model_behaviour", "request_mix"),
        load="drifted_inputs",
        tasks=("predict",),
        rate_times=10.0,
        is_silent=True,
    ),
)
BY_NAME: Final = {each.name: each for each in SCENARIOS}


class Second(msgspec.Struct, frozen=True):
    """What callers saw of the requests they sent in one second. at_s: since the run began; slow_s: of the slowest
    twentieth that was answered, 0 for none; ready: replicas that were ready (-1: not known)."""

    at_s: float
    requests: int = 0
    failed: int = 0
    slow_s: float = 0.0
    ready: int = -1


class Marks(msgspec.Struct, frozen=True):
    """What happened when, in seconds since the run began. ended_s: of the fault, None for one that has no duration.

    causes: likeliest first, of the incident or, without one, of `stoker why`.
    """

    injected_s: float
    ended_s: float | None = None
    detected_s: float | None = None
    detected_by: str = ""
    incident: int = 0
    causes: tuple[CauseKind, ...] = ()


class Card(msgspec.Struct, frozen=True):
    """How it went. Times are from the injection, None for never. rank: of the right cause, 0 for not among them.

    requests, failed: from the injection until the endpoint was good again.
    """

    outcome: Outcome
    requests: int
    failed: int
    detected_after_s: float | None
    rank: int
    recovered_after_s: float | None
    detection: float | None
    diagnosis: float | None
    remediation: float | None
    protection: float

    @property
    def score(self) -> float:
        """The mean of what counts."""
        counted = [
            each for each in (self.detection, self.diagnosis, self.remediation, self.protection) if each is not None
        ]
        return sum(counted) / len(counted)


def harmed(second: Second, limit_s: float, ready: int) -> bool:
    """Return whether callers saw harm in a second (`limit_s`: slower is slow), or a replica of `ready` is missing."""
    if second.failed or 0 <= second.ready < ready:
        return True
    return second.slow_s > limit_s


def parted(seconds: Sequence[Second], injected_s: float) -> tuple[list[Second], list[Second]]:
    """Return the seconds that were over before the injection, and the others; that of the injection is one of them."""
    before = [each for each in seconds if each.at_s + 1 <= injected_s]
    return before, list(seconds[len(before) :])


def normal(seconds: Sequence[Second]) -> tuple[float, int]:
    """Return from when on a second is slow, and how many replicas are usual (-1: not known).

    What nineteen of twenty normal seconds stayed under is not slow: a machine that others use has its own noise.
    """
    slow = sorted(each.slow_s for each in seconds if each.requests > each.failed)
    known = [each.ready for each in seconds if each.ready >= 0]
    median_s, most_s = (slow[len(slow) // 2], slow[int(len(slow) * 0.95)]) if slow else (0.0, 0.0)
    return max(SLOW_TIMES * median_s, median_s + SLOW_MORE_S, most_s), (known[-1] if known else -1)


def recovered_s(seconds: Sequence[Second], limit_s: float, ready: int) -> float | None:
    """Return when the endpoint was good again: after the last harm before GOOD_FOR_S good seconds in a row.

    `seconds` are those from the injection on. Their first is the answer when none was harmed; None when it never was
    good for long enough, or nothing was seen.
    """
    start_s: float | None = None
    good, was_harmed, found = 0, False, None
    for each in seconds:
        if harmed(each, limit_s, ready):
            good, start_s, was_harmed = 0, None, True
            continue
        if not each.requests:
            continue  # nobody asked: it says neither
        start_s = each.at_s if start_s is None else start_s
        good += 1
        if good >= GOOD_FOR_S and found is None and was_harmed:
            found = start_s
    if not was_harmed:
        return seconds[0].at_s if good else None
    return found


def rank_of(causes: Sequence[CauseKind], expects: Sequence[CauseKind]) -> int:
    """Return the place of the first right cause, from 1 on; 0 when none is right."""
    return next((place for place, kind in enumerate(causes, 1) if kind in expects), 0)


def judge(scenario: Scenario, seconds: Sequence[Second], marks: Marks) -> Card:
    """Return how the platform did. `seconds` are the whole run's, those before the injection say what is normal."""
    before, after = parted(seconds, marks.injected_s)
    limit_s, ready = normal(before)
    until_s = recovered_s(after, limit_s, ready)
    window = [each for each in after if until_s is None or each.at_s <= until_s]
    requests, failed = sum(each.requests for each in window), sum(each.failed for each in window)
    felt = sum(harmed(each, limit_s, -1) for each in window)  # a missing replica alone is felt by nobody
    is_felt = failed > 0 or felt >= max(HARMED_MIN, HARMED_RATIO * len(window))
    outcome = _outcome(scenario, marks, until_s, is_felt=is_felt)
    is_asked = outcome != "absorbed"  # where nothing was felt, nobody is to be told
    detected = None if marks.detected_s is None else max(marks.detected_s - marks.injected_s, 0.0)
    recovered = None if until_s is None else max(until_s - marks.injected_s, 0.0)
    rank = rank_of(marks.causes, scenario.expects)
    remediation = 0.0 if outcome == "outlasted" else _soon(recovered, REMEDY_GOOD_S, REMEDY_BAD_S)
    return Card(
        outcome=outcome,
        requests=requests,
        failed=failed,
        detected_after_s=detected,
        rank=rank,
        recovered_after_s=recovered,
        detection=_soon(detected, DETECT_GOOD_S, DETECT_BAD_S) if is_asked else None,
        # Where an alarm saw what no caller felt there is no harm, and causes are of harm.
        diagnosis=_placed(rank) if is_asked and (is_felt or scenario.is_silent) else None,
        remediation=None if scenario.is_silent else remediation,
        protection=1.0 - min(failed / requests / FAILED_BAD_RATIO, 1.0) if requests else 1.0,
    )


def _outcome(scenario: Scenario, marks: Marks, until_s: float | None, *, is_felt: bool) -> Outcome:
    if scenario.is_silent:
        return "missed" if marks.detected_s is None else "found"
    if until_s is None:
        return "not healed"
    if not is_felt and marks.detected_s is None:
        return "absorbed"
    # The second in which the fault ended is a good one if all of it that is looked at came after that.
    return "outlasted" if marks.ended_s is not None and until_s + 1 > marks.ended_s else "healed"


def _placed(rank: int) -> float:
    return 1.0 if rank == 1 else 0.5 if 1 < rank <= TOP else 0.0


def obstacle(scenario: Scenario, task: str, engine: str, replicas: int) -> str:
    """Return why a scenario cannot be run on an endpoint and what to do about it, "" when it can."""
    if task not in scenario.tasks:
        return f"{scenario.name} is for endpoints of {', '.join(scenario.tasks)}; this one's task is {task}"
    if scenario.engine and engine != scenario.engine:
        return f"{scenario.name} is for endpoints with the engine {scenario.engine}; this one has {engine}"
    if replicas < scenario.replicas_min:
        return (
            f"{scenario.name} needs {scenario.replicas_min} ready replicas to tell one from its peers, and there "
            f"{'is' if replicas == 1 else 'are'} {replicas}; raise spec.replicas.min"
        )
    return ""


def _soon(after_s: float | None, good_s: float, bad_s: float) -> float:
    """Return 1 up to `good_s`, 0 from `bad_s` on and for never."""
    if after_s is None or not isfinite(after_s):
        return 0.0
    return min(max((bad_s - after_s) / (bad_s - good_s), 0.0), 1.0)
