"""Whether an objective is being missed so fast that somebody must know, and how much of its error budget is left.

The burn rate is the share of bad events over the share that is allowed: at 1 the budget lasts exactly the window. A
rule fires when the rate is exceeded over a long window (it matters) and over a short one (it goes on); the four rules
and their numbers are those of the SRE workbook (ch. 5), as Sloth ships them. Three things are added:

- Quick rules. After an outage begins, an hour's average takes 52 s to say so for 99.9 %, and 14 minutes for 99 %.
- Evidence. Of ten requests a day one failure is a burn rate of 100. A rule needs BAD_MIN bad events and an e-value
  that chance alone reaches at most once in EVIDENCE whole windows, counted over all of the rule's long windows in it.
- A top. For 90 %, 14.4 times the allowed share is more than everything: half way to all is taken instead.

What fires stays until the short window is clearly better (CLEAR) for a while: an alert does not flap at the edge.
"""

from collections.abc import Mapping
from math import log
from typing import Final

import msgspec

from stoker.core.evidence import log_evidence
from stoker.types.slos import TRACKED, URGENCY, BudgetStep, Move, Objective, Severity, Sli
from stoker.types.units import parse_seconds

EVERY_S: Final = 5.0  # between two looks; the shortest window too
MONTH_S: Final = 30 * 86_400.0  # the window that RULES are written for
BAD_MIN: Final = 5  # bad events in the long window; fewer wake nobody
EVIDENCE: Final = 20.0
PACE: Final = "fast"  # the rule whose long window says how fast the budget goes now
CLEAR: Final = 0.8  # of the rate that fires
CLEAR_MIN_S: Final = 15.0
CLEAR_MAX_S: Final = 300.0
BUDGET_BACK: Final = 0.05  # a step ends when so much more is left than what began it


# The metrics that count events: of an endpoint, and of one tenant of it.
METRICS: Final[dict[Sli, tuple[str, str]]] = {
    "availability": ("stoker_first_attempts_total", "stoker_tenant_first_attempts_total"),
    "freshness": ("stoker_first_attempts_total", ""),
    "latency": ("stoker_request_duration_seconds", "stoker_tenant_request_duration_seconds"),
    "ttft": ("stoker_time_to_first_token_seconds", "stoker_tenant_time_to_first_token_seconds"),
    "inter_token": ("stoker_time_per_output_token_seconds", "stoker_tenant_time_per_output_token_seconds"),
    "quality": ("stoker_prediction_score_ratio", ""),
    "drift": ("stoker_drift_shift", ""),
    "business": ("stoker_feedback_amount", ""),
}


# What only an answer has that is a stream of tokens, and the tasks that have such answers.
STREAMED: Final[tuple[Sli, ...]] = ("ttft", "inter_token")
STREAMING: Final = ("chat",)


class Rule(msgspec.Struct, frozen=True):
    """Fires at `burn` times the allowed share over both windows, but never under a share of `ratio_min`."""

    name: str
    severity: Severity
    burn: float
    long_s: float
    short_s: float
    ratio_min: float = 0.0
    is_scaled: bool = True  # with the objective's window: the same part of the budget

    def fires_at(self, allowed: float) -> float:
        """Return the share of bad events that it fires at where `allowed` may be bad."""
        return min(max(self.burn * allowed, self.ratio_min), (1.0 + allowed) / 2)


RULES: Final = (
    Rule("outage", "page", 14.4, 10.0, 5.0, ratio_min=0.4, is_scaled=False),  # 4 s of it: at the second look at most
    Rule("surge", "page", 14.4, 60.0, 15.0, is_scaled=False),
    Rule("tail", "page", 6.0, 120.0, 30.0, is_scaled=False),
    Rule("fast", "page", 14.4, 3600.0, 300.0),  # 2 % of the budget in an hour
    Rule("steady", "page", 6.0, 6 * 3600.0, 1800.0),  # 5 % in 6 hours
    Rule("slow", "ticket", 3.0, 86_400.0, 7200.0),  # 10 % in a day
    Rule("leak", "ticket", 1.0, 3 * 86_400.0, 6 * 3600.0),  # 10 % in 3 days
)


class Counts(msgspec.Struct, frozen=True):
    """Events of one window. `covered_s`: how much of the window was watched at all."""

    bad: float = 0.0
    total: float = 0.0
    covered_s: float = float("inf")

    @property
    def ratio(self) -> float:
        """The share of bad events; 0 without events."""
        return self.bad / self.total if self.total > 0 else 0.0


class Firing(msgspec.Struct, frozen=True):
    """A rule that fires: since when, and since when it has been quiet (0: it is not)."""

    since_s: float
    quiet_s: float = 0.0


class SloMemory(msgspec.Struct, frozen=True):
    """What the next look must know: the rules that fire, and the steps of the policy that are in force."""

    firing: dict[str, Firing] = {}
    steps: dict[int, float] = {}  # since when, by place in the policy


class Burn(msgspec.Struct, frozen=True):
    """What one rule sees. Rates are multiples of the allowed share."""

    rule: Rule
    threshold: float
    long: float
    short: float
    is_firing: bool


class Due(msgspec.Struct, frozen=True):
    """A step of the policy that is in force, and why."""

    move: Move
    because: str
    since_s: float


class SloDecision(msgspec.Struct, frozen=True):
    """How an objective stands. `severity` is the most urgent of what fires, held to what the objective may raise.

    attained: share of good events; None without events. budget_left: 1 is untouched, negative is overdrawn.
    exhausted_in_s: until nothing is left, at the burn rate of PACE; None: never.
    """

    severity: Severity
    because: str
    attained: float | None
    budget_left: float
    burn_rate: float
    exhausted_in_s: float | None
    burns: tuple[Burn, ...]
    due: tuple[Due, ...]
    memory: SloMemory


def objectives(promised: tuple[Objective, ...]) -> tuple[Objective, ...]:
    """Return what is tracked of an endpoint that promises `promised`."""
    return promised or TRACKED


def counted(objective: Objective) -> str:
    """Return the metric that counts the objective's events; that of a tenant has the label `tenant`."""
    whole, of_tenant = METRICS[objective.sli]
    return of_tenant if objective.tenant or objective.each == "tenant" else whole


def unmeasured(objective: Objective, task: str) -> str:
    """Return why an objective is never measured where callers do `task`, and what to write; "" where it can be."""
    if objective.sli not in STREAMED or task in STREAMING:
        return ""
    return (
        f"never measured: an answer of {task!r} comes whole, and {objective.sli} is of streams of tokens; "
        "write `sli: latency`, the time of the whole answer"
    )


def no_data(objective: Objective) -> str:
    """Return what has not come that would be judged, as far as the objective tells."""
    whose = f" of tenant {objective.tenant}" if objective.tenant else ""
    whose += f" of segment {objective.segment}" if objective.segment else ""
    match objective.sli:
        case "ttft" | "inter_token":
            words = f"no answer{whose} was streamed; only those with `stream: true` have a {objective.sli}"
        case "quality":
            words = f"no prediction{whose} got its first label; `stoker feedback` sends labels"
        case "business":
            words = f"no feedback{whose} told of an amount of {objective.metric}"
        case "drift":
            words = "no window was compared with a reference"
        case "freshness":
            words = "no version answered"
        case _:
            words = f"nobody{whose} asked"
    return f"no data: {words}"


def part(objective: Objective) -> str:
    """Return whose objective it is, of one that judges each tenant or segment by itself; else ""."""
    return {"": "", "tenant": objective.tenant, "segment": objective.segment}[objective.each]


def label(objective: Objective) -> str:
    """Return what an objective goes by at its endpoint, in metrics too."""
    whose = part(objective)
    return f"{objective.name}/{whose}" if whose else objective.name


def rules(window_s: float, slice_s: float = 0.0) -> tuple[Rule, ...]:
    """Return the rules of an objective over `window_s`; those with the classic windows spend the same share of it.

    slice_s: length of the slices that are its events, if they are. No rule looks over fewer than can say something.
    """
    scale = window_s / MONTH_S
    long_min_s = max(2 * EVERY_S, 2 * BAD_MIN * slice_s)
    short_min_s = max(EVERY_S, 2 * slice_s)
    return tuple(
        msgspec.structs.replace(
            rule, long_s=max(rule.long_s * scale, long_min_s), short_s=max(rule.short_s * scale, short_min_s)
        )
        if rule.is_scaled
        else rule
        for rule in RULES
        if rule.is_scaled or not slice_s
    )


def rules_of(objective: Objective) -> tuple[Rule, ...]:
    """Return the rules of an objective."""
    slice_s = parse_seconds(objective.slices.length) if objective.slices is not None else 0.0
    return rules(parse_seconds(objective.window), slice_s)


def windows(objective: Objective) -> tuple[float, ...]:
    """Return the windows, in seconds, whose counts `decide` needs."""
    whole_s = parse_seconds(objective.window)
    asked = {whole_s} | {length_s for rule in rules_of(objective) for length_s in (rule.long_s, rule.short_s)}
    return tuple(sorted(asked))


def decide(objective: Objective, counts: Mapping[float, Counts], memory: SloMemory, now_s: float) -> SloDecision:
    """Return how the objective stands, given the counts of each of its `windows`. `now_s`: seconds on any clock."""
    whole_s, allowed = parse_seconds(objective.window), 1.0 - objective.target
    firing: dict[str, Firing] = {}
    burns = []
    for rule in rules_of(objective):
        long, short = counts[rule.long_s], counts[rule.short_s]
        needed = rule.fires_at(allowed)
        held = _held(memory.firing.get(rule.name), rule, needed, long, short, now_s)
        if held is None and _fires(rule, needed, long, short, allowed, whole_s):
            held = Firing(now_s)
        if held is not None:
            firing[rule.name] = held
        burns.append(Burn(rule, needed / allowed, long.ratio / allowed, short.ratio / allowed, held is not None))
    whole = counts[whole_s]
    left = 1.0 - whole.ratio / allowed
    rate = next(burn.long for burn in burns if burn.rule.name == PACE)
    steps, due = _policy(objective.policy, left, whole.bad, memory.steps, now_s)
    severity, because = _worst(objective, burns, counts)
    return SloDecision(
        severity=severity,
        because=because,
        attained=1.0 - whole.ratio if whole.total > 0 else None,
        budget_left=left,
        burn_rate=rate,
        exhausted_in_s=max(left, 0.0) * whole_s / rate if rate > 1.0 else None,
        burns=tuple(burns),
        due=due,
        memory=SloMemory(firing, steps),
    )


def _fires(rule: Rule, needed: float, long: Counts, short: Counts, allowed: float, whole_s: float) -> bool:
    if not (long.bad >= BAD_MIN and long.ratio >= needed and short.ratio >= needed):
        return False
    chances = max(whole_s / rule.long_s, 1.0)  # long windows side by side in the whole one
    return log_evidence(long.bad, long.total, allowed) >= log(EVIDENCE * chances)


def _held(before: Firing | None, rule: Rule, needed: float, long: Counts, short: Counts, now_s: float) -> Firing | None:
    """Return what becomes of a rule that fired: it ends after it has been quiet for a while.

    Without requests nothing has got better: the long window says how it was. What was not watched says nothing.
    """
    if before is None:
        return None
    seen = short if short.total > 0 else long
    is_quiet = seen.ratio < CLEAR * needed and short.covered_s >= rule.short_s / 2
    if not is_quiet:
        return Firing(before.since_s)
    quiet_s = before.quiet_s or now_s
    wait_s = min(max(rule.short_s, CLEAR_MIN_S), CLEAR_MAX_S)
    return None if now_s - quiet_s >= wait_s else Firing(before.since_s, quiet_s)


def _worst(objective: Objective, burns: list[Burn], counts: Mapping[float, Counts]) -> tuple[Severity, str]:
    """Return the most urgent severity that fires and what it saw, the quickest rule first."""
    alight = [burn for burn in burns if burn.is_firing]
    if not alight or objective.alert == "none":
        return "none", "within its objective" if not alight else f"burns {alight[0].long:.3g} times its budget"
    worst = max(alight, key=lambda burn: URGENCY[burn.rule.severity])
    seen = counts[worst.rule.long_s]
    severity = min((worst.rule.severity, objective.alert), key=lambda each: URGENCY[each])
    what = "events" if objective.slices is None else f"slices of {_time(parse_seconds(objective.slices.length))}"
    because = (
        f"{seen.bad:.0f} of {seen.total:.0f} {what} were bad in {_time(worst.rule.long_s)}: {worst.long:.3g} times "
        f"what {objective.target:.10g} allows ({worst.short:.3g} in the last {_time(worst.rule.short_s)})"
    )
    if not seen.total:
        because = f"no {what} in {_time(worst.rule.long_s)}: it ends when that lasts, and nothing bad comes"
    return severity, because


def _policy(
    policy: tuple[BudgetStep, ...], left: float, bad: float, before: Mapping[int, float], now_s: float
) -> tuple[dict[int, float], tuple[Due, ...]]:
    """Return the steps in force. Fewer than BAD_MIN bad events begin none, however small the budget is."""
    steps: dict[int, float] = {}
    due = []
    for place, step in enumerate(policy):
        since_s = before.get(place)
        begins = since_s is None and left <= step.when_left and bad >= BAD_MIN
        if begins or (since_s is not None and left <= step.when_left + BUDGET_BACK):
            steps[place] = now_s if since_s is None else since_s
            because = f"{max(left, 0.0):.0%} of the error budget is left, at most {step.when_left:.0%} asks for it"
            due.append(Due(step.do, because, steps[place]))
    return steps, tuple(due)


def _time(seconds: float) -> str:
    for size, unit in ((86_400.0, "d"), (3600.0, "h"), (60.0, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"
