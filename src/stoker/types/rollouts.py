"""How an endpoint's traffic moves from one revision to the next: what a manifest says, and what gateways count.

Arms are the two revisions of a rollout: the *baseline*, which serves when it begins, and the *canary*, which shall.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from stoker.types.fields import Seconds
from stoker.types.secrets import SecretRef

Strategy = Literal["auto", "direct", "canary", "blue-green", "shadow", "a-b", "recreate"]
HookEvent = Literal["pre-release", "step", "verdict", "promoted", "rolled-back"]
HOOK_EVENTS: Final[tuple[HookEvent, ...]] = ("pre-release", "step", "verdict", "promoted", "rolled-back")
# error: the replica failed or broke off. timeout: nothing by the deadline. invalid: a text that is none (empty, or in
# circles). slow: later than `slow`. disagreement: a mirrored request that was
# answered differently; it has no baseline, and `disagree_max` stands for one.
BadEvent = Literal["error", "timeout", "invalid", "slow"]
BAD_EVENTS: Final[tuple[BadEvent, ...]] = ("error", "timeout", "invalid", "slow")
DISAGREEMENT: Final = "disagreement"
WRONG: Final = "wrong"  # a prediction that its label says was not right (spec.feedback); posted by control itself
COHORTS_MAX: Final = 20  # that a gateway counts for one rollout; requests of later ones count for everybody only
COHORT_NAME_MAX: Final = 64
POSTED_MAX: Final = 8  # metrics that a user's own judge may post, by name


class Hook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who is told what happens in a rollout."""

    webhook: Annotated[
        str, Meta(max_length=2000, description="an http or https URL that gets the event; if it is no secret")
    ] = ""
    secret: Annotated[
        str, Meta(max_length=63, description="a file in the state folder's hooks/; signs what is sent (HMAC-SHA256)")
    ] = ""
    events: Annotated[tuple[HookEvent, ...], Meta(min_length=1, description="which events are told")] = HOOK_EVENTS
    holds: Annotated[
        bool,
        Meta(description="a new revision takes no traffic until somebody who was told so approves it; of one hook"),
    ] = False
    within: Annotated[
        Seconds, Meta(description="holds: how long an answer is waited for once the gates are passed")
    ] = "1h"
    unanswered: Annotated[
        Literal["refuse", "release"], Meta(description="holds: what becomes of the revision without an answer")
    ] = "refuse"
    webhook_from: Annotated[SecretRef | None, Meta(description="instead of webhook: where the address is")] = None
    sign_with: Annotated[SecretRef | None, Meta(description="instead of secret: where the key is")] = None


class Mirror(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a shadow gets its traffic: copies of requests, whose answers nobody waits for."""

    ratio: Annotated[float, Meta(gt=0, le=1, description="share of requests that is copied to the canary")] = 0.1
    in_flight_max: Annotated[
        int, Meta(ge=1, le=1000, description="copies under way at once in one gateway; over it none is made")
    ] = 8
    disagree_max: Annotated[
        float, Meta(gt=0, lt=1, description="share of copies that may be answered differently; surely more aborts")
    ] = 0.02
    tolerance: Annotated[
        float, Meta(ge=0, description="numbers agree that differ by at most this, relative to the larger")
    ] = 0.01


class Rollout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a new revision gets the endpoint's traffic, and what takes it away again."""

    strategy: Annotated[
        Strategy,
        Meta(
            description="canary (a few percent first), blue-green (all at once, the old stays warm), shadow (copies "
            "first), a-b (a split that stays, and a report), recreate (the old one goes first: no room for "
            "both), direct (all at once); auto: canary where enough requests come to judge one, else direct"
        ),
    ] = "auto"
    steps: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=99)], ...],
        Meta(min_length=1, max_length=16, description="canary: percent of traffic, each more than the one before"),
    ] = (10, 50)
    dwell: Annotated[Seconds, Meta(description="the least time of a step")] = "60s"
    requests_min: Annotated[
        int, Meta(ge=1, le=10_000_000, description="requests that the canary must have had in a step before the next")
    ] = 200
    pause_at: Annotated[
        tuple[int, ...], Meta(max_length=16, description="percent at which it waits until somebody resumes it")
    ] = ()
    false_aborts: Annotated[
        float, Meta(gt=0, le=0.2, description="chance of aborting a canary that is as good as the baseline")
    ] = 0.01
    tolerated: Annotated[
        float, Meta(ge=1, le=100, description="odds of a bad event, in times the baseline's, that nobody minds")
    ] = 1.0
    slow: Annotated[
        Seconds | None,
        Meta(description="later than this is a bad event; by default what a latency or ttft objective allows; 0: none"),
    ] = None
    segments: Annotated[
        tuple[str, ...],
        Meta(
            max_length=4,
            description="judged beside the whole: tenant, size (of the body), or header:NAME (such as a region)",
        ),
    ] = ()
    first_failed: Annotated[
        int, Meta(ge=0, le=1000, description="so many first requests of the canary all failed: abort at once; 0: never")
    ] = 10
    analysis: Annotated[
        Seconds,
        Meta(description="how long a step may go on after its dwell without a verdict; then it is inconclusive"),
    ] = "24h"
    inconclusive: Annotated[
        Literal["abort", "promote", "hold"],
        Meta(
            description="what ends an inconclusive step, also one whose canary refuses most requests: abort, promote "
            "(to the next step), or hold (nothing does). An a-b is reported"
        ),
    ] = "abort"
    progress: Annotated[Seconds, Meta(description="a canary whose replicas are not ready after so long is aborted")] = (
        "30m"
    )
    unavailable_max: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="without room beside the old replicas so many of them go first, the last one never, and as "
            "many fewer new ones are enough; 0: it waits for room. From half of the replicas on it needs none",
        ),
    ] = 0
    quiet: Annotated[
        Literal["hold", "replay", "examples"],
        Meta(
            description="with too little traffic: hold; or send to both arms kept samples of the endpoint (replay), or "
            "the inputs of its examples, else of the version's (examples)"
        ),
    ] = "hold"
    keep: Annotated[
        Seconds | None,
        Meta(description="how long the old replicas stay warm after the last step; by default 10m for blue-green, 0"),
    ] = None
    mirror: Mirror = Mirror()
    sticky: Annotated[
        str,
        Meta(max_length=80, description="a-b: who stays in one arm: key, user, session or header:NAME"),
    ] = "session"
    hooks: Annotated[tuple[Hook, ...], Meta(max_length=8, description="who is told")] = ()


class RolloutRoute(msgspec.Struct, frozen=True):
    """How gateways watch an endpoint while a rollout runs; who gets how much is in the revisions' weights.

    baseline, canary: revisions. slow_s: later than this is a bad event, 0: none. segments: see Rollout. sticky: "" for
    every request by itself. mirror: None outside of a shadow. first_failed: so many first tries of the canary all
    failed, and this gateway gives it nothing more until a newer table says so (control may be gone).
    """

    number: int
    baseline: str
    canary: str
    slow_s: float = 0.0
    segments: tuple[str, ...] = ()
    sticky: str = ""
    mirror: Mirror | None = None
    first_failed: int = 0


class ArmCounts(msgspec.Struct):
    """What one arm did since a gateway heard of the rollout: tries that this arm is answerable for, each once.

    What the caller did wrong, refusals before a replica was chosen, and callers who left in good time are not there.
    bad: by BadEvent. unjudged: tries beside `total` that say nothing of the arm: it refused (429), or found the request
    at fault. latencies: tries answered well, by histogram bucket (telemetry/histogram.py); of a stream, until
    its first byte.
    """

    total: int = 0
    bad: dict[str, int] = {}
    latencies: dict[int, int] = {}
    unjudged: int = 0


class Arms(msgspec.Struct):
    """Both arms of a rollout, or of one cohort of it (latencies are empty there)."""

    canary: ArmCounts = msgspec.field(default_factory=ArmCounts)
    baseline: ArmCounts = msgspec.field(default_factory=ArmCounts)


class GoBack(msgspec.Struct, frozen=True):
    """What a gateway is told (CALL `revert`) when control cannot be: all traffic to the revision before.

    to: the revision; "" for the baseline of the rollout that runs or, with none, the newest before the one that serves.
    """

    project: str
    endpoint: str
    because: str
    to: str = ""


class Reverted(msgspec.Struct, frozen=True):
    """What a gateway gave all traffic of an endpoint to, on its own or because it was told.

    It holds until a newer table says something else than the one that it was done under: number is that of the rollout
    (0: none), weights are what decides (core/reverts.py).
    """

    project: str
    endpoint: str
    to: str
    because: str
    number: int
    weights: dict[str, int]


class RolloutCounts(msgspec.Struct):
    """What one gateway process has counted of one rollout. It only grows; a restarted gateway begins at nothing.

    An arm's tries are the first ones of its requests (core/arms.py). With number 0: no rollout runs, and the
    gateway went back because it was told so.
    cohorts: by `segment=value`, such as `tenant=acme`; at most COHORTS_MAX. copies, disagreements: of a shadow.
    reverted: why this gateway gives the canary nothing more by itself, "" while it does.
    """

    number: int
    arms: Arms = msgspec.field(default_factory=Arms)
    cohorts: dict[str, Arms] = {}
    copies: int = 0
    disagreements: int = 0
    reverted: str = ""
    project: str = ""
    endpoint: str = ""
