"""The resources a person writes: manifest schema, wire form and documentation in one place.

Every struct refuses unknown fields. Field comments become descriptions in the published JSON Schema through `Meta`.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from stoker.types.access import RoleSpec
from stoker.types.breaker import Breaker
from stoker.types.budgets import BudgetSpec
from stoker.types.engines import Goal
from stoker.types.feedback import PredictionKind
from stoker.types.fields import Bytes, Name, Seconds
from stoker.types.identity import IdentityProviderSpec
from stoker.types.ids import DEFAULT_PROJECT
from stoker.types.mapping import SchemaMapping
from stoker.types.notifiers import NotifierSpec
from stoker.types.placement import PlacementSpec
from stoker.types.policies import PolicySpec
from stoker.types.prices import Price
from stoker.types.projects import ProjectSpec
from stoker.types.releases import Gates
from stoker.types.remedies import Remedy
from stoker.types.rollouts import Rollout
from stoker.types.sandbox import Sandbox
from stoker.types.scaling import Scaling
from stoker.types.secrets import SecretRef
from stoker.types.slos import Objective

API_VERSION: Final = "stoker/v1"

Task = Literal["predict", "embed", "chat"]
Affinity = Literal["auto", "prefix", "session", "none"]
# error: the engine failed. unavailable: no replica can serve. timeout: too long without a first byte. overload: 429.
# budget: a budget with `on_limit: fallback` has no room for what it may cost.
FallbackReason = Literal["error", "unavailable", "timeout", "overload", "budget"]
FALLBACK_REASONS: Final[tuple[FallbackReason, ...]] = ("error", "unavailable", "timeout", "overload", "budget")
ResumeMode = Literal["exact", "best_effort", "never"]


class Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who a resource is."""

    name: Name
    project: Name = DEFAULT_PROJECT
    labels: Annotated[dict[str, str], Meta(description="your own words for it; policies may ask for some")] = {}


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one replica gets on its node."""

    cpu: Annotated[float, Meta(gt=0, le=1024, description="cores, for placement and thread counts")] = 1.0
    memory: Annotated[Bytes, Meta(description="memory a replica may use; over it the replica is killed")] = "1Gi"
    gpu: Annotated[
        float,
        Meta(ge=0, le=64, description="GPUs: below 1 a share of one, from 1 on so many whole ones; 0: none set aside"),
    ] = 0.0


class Replicas(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many replicas a revision runs."""

    min: Annotated[int, Meta(ge=0, le=1000, description="the fewest that run; 0: none while nobody asks")] = 1
    max: Annotated[
        int,
        Meta(ge=0, le=1000, description="the most that run, as `scaling` says; 0 keeps the endpoint without serving"),
    ] = 1


class Pad(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How requests that differ in one dimension are made equal, to be joined. It changes what a model sees."""

    to: Annotated[
        Literal["powers-of-two"] | list[int],
        Meta(description="the sizes it is padded to: the next power of two, or a list; a longer one stays as it is"),
    ] = "powers-of-two"
    values: Annotated[
        dict[str, bool | int | float | str], Meta(description="by input: what is put behind; by default zero")
    ] = {}
    axes: Annotated[
        dict[str, int | None],
        Meta(
            description="by input or output: which axis it is (0 is the rows), null for none; "
            "by default where an ONNX model names it"
        ),
    ] = {}


class Batching(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How requests are joined inside a replica (predict and embed)."""

    max_rows: Annotated[int, Meta(ge=1, le=65536, description="rows in one engine call")] = 64
    max_bytes: Annotated[Bytes, Meta(description="input bytes in one engine call; one row always goes")] = "64Mi"
    pad: Annotated[
        dict[str, Pad], Meta(description="by dimension, such as sequence: requests padded to be joined")
    ] = {}


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one endpoint takes before it refuses; queues are each gateway's own, and not divided."""

    max_body: Annotated[Bytes, Meta(description="largest request body; over it 413")] = "32Mi"
    timeout: Annotated[Seconds, Meta(description="deadline of a request that brings none")] = "60s"
    queue_max: Annotated[int, Meta(ge=0, le=100_000, description="requests that wait in each gateway; then 429")] = 512
    queue_bytes: Annotated[Bytes, Meta(description="bodies that may wait in each gateway; over it 429")] = "256Mi"
    concurrency: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="the most requests in flight in one replica, shared by the gateways (at least one each; of a "
            "remote server, each its own); what its engine can work on may keep it lower",
        ),
    ] = 256


class Routing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of several replicas a request goes to."""

    affinity: Annotated[
        Affinity,
        Meta(
            description="prefix: where the session, or else the beginning of the prompt, was before; session: sessions "
            "alone; none: by cost alone; auto: prefix for chat, none for others"
        ),
    ] = "auto"


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What happens beyond trying a failed request again, which every endpoint does."""

    hedge: Annotated[
        bool, Meta(description="send slow predict and embed requests to a second replica too; costs at most 5 % more")
    ] = False
    resume: Annotated[
        ResumeMode,
        Meta(
            description="which streams go on elsewhere when their replica dies: those whose rest is decided (exact: "
            "temperature 0 or a seed), also those drawn at random (best_effort), or none (never)"
        ),
    ] = "exact"


class Cache(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answers kept and given again to equal requests; only where an equal request has an equal answer."""

    ttl: Annotated[Seconds, Meta(description="how long an answer may be given again")] = "10m"
    max_bytes: Annotated[Bytes, Meta(description="what the answers may take in each gateway")] = "64Mi"
    shared: Annotated[
        bool, Meta(description="one key's answers serve every key that may call the endpoint; else only itself")
    ] = False


class Samples(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requests that are kept to be looked at and sent again, without what names a person (core/recognise)."""

    rate: Annotated[float, Meta(ge=0, le=1, description="share of requests that is kept, drawn by request id")] = 0.01
    errors: Annotated[bool, Meta(description="keep what was answered with an error too")] = True
    slow: Annotated[
        str | int | float,
        Meta(description="keep what took longer too: p99 of this endpoint, a time such as 2s, or never"),
    ] = "p99"
    max_bytes: Annotated[
        Bytes, Meta(description="largest request or answer that is kept; of a larger one only its size")
    ] = "64Ki"
    per_hour: Annotated[
        int, Meta(ge=1, le=100_000, description="the most that are kept in an hour by all gateways together")
    ] = 1000
    ttl: Annotated[Seconds, Meta(description="how long one is kept")] = "7d"
    keep: Annotated[
        Literal["request", "response", "both"], Meta(description="which side's words are kept; numbers always are")
    ] = "both"
    tensors: Annotated[
        bool, Meta(description="keep raw tensors (binary bodies, gRPC) too, as numbers and texts of JSON")
    ] = False
    patterns: Annotated[
        dict[str, str],
        Meta(max_length=16, description="more to hide, by name: regular expressions with bounded repeats"),
    ] = {}


class Traces(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which requests leave a trace, besides those that fail, are slow or are tried again."""

    rate: Annotated[float, Meta(ge=0, le=1, description="share of requests, by trace id")]


class Backend(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the endpoints that serve in the name of another."""

    endpoint: Annotated[Name, Meta(description="an endpoint of the same project and task")]
    weight: Annotated[int, Meta(ge=0, le=1000, description="share of what no `when` takes")] = 1
    when: Annotated[
        str, Meta(max_length=1000, description="a CEL rule over the request; the first that holds takes it")
    ] = ""


class Trigger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is told when an endpoint has drifted, such as the job that trains the model anew."""

    webhook: Annotated[str, Meta(max_length=2000, description="a URL that gets the event as JSON, if no secret")] = ""
    secret: Annotated[str, Meta(max_length=63, description="a file in the state folder's hooks/ that signs it")] = ""
    command: Annotated[str, Meta(max_length=63, description="a program in hooks/ that reads the event as JSON")] = ""
    cooldown: Annotated[Seconds, Meta(description="the least time between two events")] = "24h"
    webhook_from: Annotated[SecretRef | None, Meta(description="instead of webhook: where the address is")] = None
    sign_with: Annotated[SecretRef | None, Meta(description="instead of secret: where the key is")] = None


class Drift(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How what a model sees and says is compared with its reference."""

    every: Annotated[Seconds, Meta(description="between two verdicts")] = "60s"
    window: Annotated[Seconds, Meta(description="how far back rows count")] = "1h"
    rows_min: Annotated[int, Meta(ge=50, le=10_000_000, description="fewer rows in the window say nothing")] = 200
    threshold: Annotated[
        float, Meta(gt=0, le=10, description="the least PSI that is drift, once chance is ruled out")
    ] = 0.1
    thresholds: Annotated[dict[str, float], Meta(description="another threshold, by feature")] = {}
    false_alarms: Annotated[
        float, Meta(gt=0, le=0.5, description="share of windows without drift that may be called moved")
    ] = 0.01
    trigger: Annotated[Trigger | None, Meta(description="what is told when it has drifted")] = None


class Feedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How predictions wait for their labels, to tell how good the model is."""

    keep: Annotated[Seconds, Meta(description="how long a prediction waits for its label, and is counted")] = "7d"
    max: Annotated[int, Meta(ge=100, le=1_000_000, description="how many predictions are kept, the newest")] = 100_000
    kind: Annotated[PredictionKind, Meta(description="whether a prediction is a class or a value")] = "classification"
    output: Annotated[
        str, Meta(max_length=128, description="the output tensor that is the prediction; by default the first")
    ] = ""
    segment: Annotated[
        str,
        Meta(
            max_length=64,
            description="the request parameter that says a request's segment, where no x-stoker-segment header does",
        ),
    ] = ""
    tolerance: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="regression: a value this near the truth counts as right"),
    ] = None


class EndpointSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client calls: a model version, how it runs, and how much of it; or other endpoints behind one name."""

    model: Annotated[str, Meta(description="a registered version: NAME, NAME@2, NAME@sha256:… or NAME@ALIAS")] = ""
    task: Annotated[Task | None, Meta(description="what callers do with it; by default what the version says")] = None
    engine: Annotated[
        str | None,
        Meta(description="which engine runs it; by default the one of its format; auto: the better one, measured"),
    ] = None
    goal: Annotated[
        Goal, Meta(description="what engine: auto looks for: latency of one request, or throughput of many")
    ] = "throughput"
    options: Annotated[dict[str, Any], Meta(description="engine options, such as context: 4096")] = {}
    mapping: Annotated[
        SchemaMapping | None, Meta(description="how tensors that clients know become the version's, and back")
    ] = None
    env: Annotated[dict[str, str], Meta(description="environment of the replica, besides the scrubbed default")] = {}
    resources: Resources = Resources()
    sandbox: Annotated[Sandbox, Meta(description="what its replicas are kept from")] = Sandbox()
    placement: PlacementSpec = PlacementSpec()
    replicas: Replicas = Replicas()
    scaling: Annotated[Scaling, Meta(description="how many of them, where max is more than min")] = Scaling()
    batching: Batching = Batching()
    limits: Limits = Limits()
    routing: Routing = Routing()
    retry: Retry = Retry()
    cache: Annotated[Cache | None, Meta(description="keep answers and give them again; by default nothing is kept")] = (
        None
    )
    coalesce: Annotated[
        bool, Meta(description="equal predict and embed requests that are in flight at once share one call")
    ] = False
    backends: Annotated[
        tuple[Backend, ...], Meta(max_length=16, description="instead of `model`: endpoints that serve for this one")
    ] = ()
    fallback: Annotated[
        tuple[Name, ...], Meta(max_length=4, description="endpoints that answer, in this order, when this one cannot")
    ] = ()
    fallback_on: Annotated[tuple[FallbackReason, ...], Meta(description="what counts as cannot")] = FALLBACK_REASONS
    fallback_after: Annotated[
        Seconds, Meta(description="a timeout is this long without a first byte; 0: an even share of the deadline")
    ] = 0
    breaker: Breaker = Breaker()
    samples: Annotated[
        Samples | None, Meta(description="keep some requests and answers to be looked at; by default none")
    ] = None
    traces: Annotated[
        Traces | None, Meta(description="how many of its requests leave a trace; by default STOKER_TRACE_RATIO")
    ] = None
    gameday: Annotated[
        Literal["allowed", "refused"],
        Meta(description="whether faults may be put into it on purpose (stoker gameday)"),
    ] = "refused"
    gates: Annotated[Gates, Meta(description="what a new revision must pass before it gets traffic")] = Gates()
    rollout: Annotated[Rollout, Meta(description="how a new revision gets the traffic")] = Rollout()
    price: Annotated[
        Price | None,
        Meta(
            description="what its requests cost; by default as the platform's prices say (`stoker prices`), or nothing"
        ),
    ] = None
    slos: Annotated[
        tuple[Objective, ...],
        Meta(
            max_length=16, description="what callers are promised; by default 99.9 % availability, shown but no alert"
        ),
    ] = ()
    remedies: Annotated[
        tuple[Remedy, ...],
        Meta(
            max_length=8,
            description="what an incident may do by itself, the first that fits its cause; by default nothing",
        ),
    ] = ()
    drift: Annotated[Drift | None, Meta(description="watched where the model has a reference; null: not at all")] = (
        Drift()
    )
    feedback: Annotated[
        Feedback | None, Meta(description="keep predictions to be compared with labels; by default none")
    ] = None


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="Endpoint"):
    """An endpoint as a manifest."""

    metadata: Metadata
    spec: EndpointSpec
    apiVersion: Literal["stoker/v1"] = API_VERSION  # noqa: N815 - the wire name


class ProjectMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who a project is."""

    name: Name
    labels: dict[str, str] = {}


class Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="Project"):
    """A project as a manifest."""

    metadata: ProjectMetadata
    spec: ProjectSpec = ProjectSpec()
    apiVersion: Literal["stoker/v1"] = API_VERSION  # noqa: N815 - the wire name


class Notifier(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="Notifier"):
    """A receiver of alerts as a manifest."""

    metadata: Metadata
    spec: NotifierSpec
    apiVersion: Literal["stoker/v1"] = API_VERSION  # noqa: N815 - the wire name


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="Policy"):
    """An admission policy as a manifest."""

    metadata: Metadata
    spec: PolicySpec
    apiVersion: Literal["stoker/v1"] = API_VERSION  # noqa: N815 - the wire name


class Role(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="Role"):
    """A role of your own as a manifest."""

    metadata: Metadata
    spec: RoleSpec
    apiVersion: Literal["stoker/v1"] = API_VERSION  # noqa: N815 - the wire name


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="Budget"):
    """How much may be spent, as a manifest."""

    metadata: Metadata
    spec: BudgetSpec
    apiVersion: Literal["stoker/v1"] = API_VERSION  # noqa: N815 - the wire name


class IdentityProvider(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="IdentityProvider"
):
    """Who says who people are, as a manifest. It is the platform's, of no project."""

    metadata: ProjectMetadata
    spec: IdentityProviderSpec
    apiVersion: Literal["stoker/v1"] = API_VERSION  # noqa: N815 - the wire name


Resource = Endpoint | Project | Notifier | Policy | Role | Budget | IdentityProvider
