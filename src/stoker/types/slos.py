"""What an endpoint promises its callers, and what happens when the promise's budget of failures runs out.

Which requests count. One call of a person is one event, whatever was tried to answer it:

- The platform's own retries, hedges and fallbacks are part of the answer; only what the client got at last counts.
- A request that a client library sends again (`x-stainless-retry-count` over 0: the OpenAI and Anthropic libraries)
  is no new event. Two retries after a failure would make one unhappy caller three bad events; and the retry that
  succeeds would be a good event that hides the failure before it. The first attempt has said how the platform was.
- Neither good nor bad: what the caller did wrong (4xx), a caller's own rate limit, and callers who went away (499).
- Bad: every 5xx, a stream that ended in an error, and 429 because the platform was too full (`queue_full`, `shed`,
  `out_of_time`): the caller kept within its limits and got no answer.
- While a policy sheds the sheddable band, that band is promised nothing: neither good nor bad. Were it bad, shedding
  would use up the budget whose end it waits for.
- While a schedule closes an endpoint (`max: 0`) it promises nothing: its owner said so beforehand.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from stoker.types.fields import Name, Seconds

Sli = Literal["availability", "latency", "ttft", "inter_token", "freshness", "quality", "drift", "business"]
Part = Literal["", "tenant", "segment"]
Severity = Literal["page", "ticket", "none"]
Move = Literal["freeze-rollouts", "shed-sheddable", "scale-up"]

METRIC_PATTERN: Final = r"^[a-z][a-z0-9_]{0,62}(?!\n)$"
# Kinds that call an event good when a time is under a limit; the others have their own field, availability has none.
TIMED: Final[tuple[Sli, ...]] = ("latency", "ttft", "inter_token", "freshness")
URGENCY: Final[dict[Severity, int]] = {"none": 0, "ticket": 1, "page": 2}
DEFAULT_WINDOW: Final = "30d"
EACH_MAX: Final = 20


class BudgetStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that is done while little of the error budget is left."""

    do: Annotated[Move, Meta(description="what is done")]
    when_left: Annotated[float, Meta(ge=0, lt=1, description="share of the budget, 0 to 1; done at or under it")] = 0.0


class MoveInForce(msgspec.Struct, frozen=True):
    """A move that an endpoint is under, why it began, and when (unix seconds)."""

    move: Move
    because: str
    since_s: float


class Slices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Time in slices that count alike, instead of events: Timeslices of OpenSLO, RatioTimeslices without `target`."""

    length: Annotated[Seconds, Meta(description="of a slice, in whole minutes up to an hour")] = "1m"
    target: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(description="share of good events that makes a slice good; left out: it counts with its share"),
    ] = None
    mean: Annotated[
        bool,
        Meta(
            description="a slice is good when the mean of its times, scores or amounts keeps the limit (`under`, "
            "`at_least`, `at_most`), however single ones were; without `target`"
        ),
    ] = False


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A share of events that shall be good over a window."""

    name: Name
    target: Annotated[float, Meta(gt=0, lt=1, description="share of events that shall be good, such as 0.999")]
    sli: Annotated[
        Sli,
        Meta(
            description="what is judged: availability (answered without a fault of the platform), latency (whole "
            "answer), ttft (first token), inter_token (time per token after it), freshness (age of the version that "
            "answers), quality (each first label), drift (each verdict), business (each amount of `metric` that "
            "feedback tells)"
        ),
    ] = "availability"
    tenant: Annotated[
        str,
        Meta(
            max_length=64,
            description="availability, latency, ttft, inter_token: only for requests of this tenant (a key's `tenant`, "
            "or the id of a key without)",
        ),
    ] = ""
    segment: Annotated[
        str,
        Meta(
            max_length=64,
            description="quality, business: only predictions of this segment (`x-stoker-segment`, or the parameter "
            "that `feedback.segment` names)",
        ),
    ] = ""
    each: Annotated[
        Part,
        Meta(
            description="tenant or segment: an objective, with a budget and alerts of its own, for each of the busiest "
            "that `tenant` or `segment` could name"
        ),
    ] = ""
    each_max: Annotated[int, Meta(ge=1, le=50, description="for how many at most, with `each`")] = EACH_MAX
    metric: Annotated[
        Annotated[str, Meta(pattern=METRIC_PATTERN)] | None,
        Meta(description="business: which of the metrics that feedback tells, such as revenue"),
    ] = None
    under: Annotated[
        Seconds | None, Meta(description="latency, ttft, inter_token, freshness: good is a time, or an age, up to this")
    ] = None
    at_least: Annotated[
        float | None, Meta(description="quality, business: good is a score, or an amount, of at least this")
    ] = None
    at_most: Annotated[
        float | None, Meta(description="drift, business: good is a shift, or an amount, of at most this")
    ] = None
    window: Annotated[Seconds, Meta(description="how far back the budget reaches")] = DEFAULT_WINDOW
    slices: Annotated[Slices | None, Meta(description="budget by slices of time; by default by events")] = None
    alert: Annotated[
        Severity, Meta(description="the most urgent alert it may raise: page, ticket, or none (only shown)")
    ] = "page"
    policy: Annotated[
        tuple[BudgetStep, ...], Meta(max_length=8, description="what is done while the budget is used up")
    ] = ()
    owner: Annotated[str, Meta(max_length=128, description="who is told; a label of its alerts")] = ""
    runbook: Annotated[str, Meta(max_length=1024, description="where it says what to do; in its alerts")] = ""


# What is tracked for an endpoint that promises nothing: shown on screens, with a budget, but it wakes nobody.
# Somebody's first endpoint would otherwise page over an objective that nobody chose.
TRACKED: Final = (Objective(name="availability", target=0.999, alert="none"),)
