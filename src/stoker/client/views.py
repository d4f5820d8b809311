"""What the control API answers, as typed values. Unknown fields are ignored: an older client reads a newer control."""

import msgspec

from stoker.client.rollouts import RolloutView
from stoker.core.drift import Shift
from stoker.telemetry.spans import Span
from stoker.types.access import USUAL, KeyAccess
from stoker.types.engines import EngineChoice
from stoker.types.keys import UNLIMITED, KeyLimits
from stoker.types.loading import Progress
from stoker.types.models import ModelVersion
from stoker.types.policies import Verdict
from stoker.types.quotas import Use
from stoker.types.shapes import ShapeUse
from stoker.types.signing import SignatureState
from stoker.types.starts import StartTimes
from stoker.types.statuses import EndpointView
from stoker.types.traces import Trace


class FieldChange(msgspec.Struct, frozen=True):
    """One changed field of a resource; the values are JSON, None where there was or is nothing."""

    path: str
    old: object = None
    new: object = None


class TakenBack(msgspec.Struct, frozen=True):
    """A revision that a spec asks for, which was rolled back or refused when it was tried last.

    begins: it is tried again now; else only when somebody says so. serving: the revision that serves meanwhile.
    """

    revision: str
    model: str
    rollout: int
    phase: str
    because: str
    ended_s: float
    serving: str
    begins: bool


class ApplyResult(msgspec.Struct, frozen=True):
    """What applying did to one resource. `action` is created, updated or unchanged."""

    kind: str
    name: str
    action: str
    project: str = ""
    diff: tuple[FieldChange, ...] = ()
    warnings: tuple[str, ...] = ()  # of quotas and admission policies
    taken_back: TakenBack | None = None


class PolicyFinding(msgspec.Struct, frozen=True):
    """What one rule says of one resource that is there now."""

    kind: str
    project: str
    name: str
    verdict: Verdict


class SignatureView(msgspec.Struct, frozen=True):
    """One signature of a version, and what it is worth to the project that was asked for (see types/signing.py)."""

    state: SignatureState
    signer: str = ""
    fingerprint: str = ""
    why: str = ""
    bundle: str = ""


class RevisionView(msgspec.Struct, frozen=True):
    """One revision of an endpoint."""

    revision: str
    number: int
    model: str
    created_at_s: float = 0.0
    serving: bool = False


class ReplicaView(msgspec.Struct, frozen=True):
    """One replica of an endpoint, as its agent reports it."""

    replica: str
    revision: str = ""
    phase: str = ""
    node: str = ""
    restarts: int = 0
    last_error: str = ""
    progress: Progress = Progress()
    rss_bytes: int = 0
    engine: str = ""  # how its engine was set up, in its own words
    choice: EngineChoice | None = None  # with the engine `auto`, once it is chosen
    gpus: tuple[int, ...] = ()  # of its node


class JournalEntry(msgspec.Struct, frozen=True):
    """One decision of control and why it was made."""

    at_s: float = 0.0
    endpoint: str = ""
    action: str = ""
    because: str = ""


class EndpointDetail(EndpointView, frozen=True):
    """An endpoint with its revisions, its replicas, the rollout that runs and the last decisions about it."""

    revisions: tuple[RevisionView, ...] = ()
    replicas: tuple[ReplicaView, ...] = ()
    journal: tuple[JournalEntry, ...] = ()
    rollout: RolloutView | None = None
    starts: tuple[StartTimes, ...] = ()  # of revision and engine; the one that started last comes first
    shapes: tuple[ShapeUse, ...] = ()  # of engine calls, the most called first


class ProjectView(msgspec.Struct, frozen=True):
    """One project. uses: of its quota, what that limits."""

    name: str
    description: str = ""
    endpoints: int = 0
    created_at_s: float = 0.0
    uses: tuple[Use, ...] = ()


class KeyView(msgspec.Struct, frozen=True):
    """One key, without its secret."""

    id: str
    project: str
    name: str = ""
    admin: bool = False
    created_at_s: float = 0.0
    expires_at_s: float = 0.0  # 0: never
    limits: KeyLimits = UNLIMITED
    access: KeyAccess = USUAL
    subject: str = ""
    old_until_s: float = 0.0  # until then the secret before the last rotation works
    last_used_at_s: float = 0.0  # to the minute; 0: never


class NewKey(KeyView, frozen=True):
    """A key just made; `key` is shown this once. behind: gateways that are connected and do not know it yet."""

    key: str = ""
    behind: tuple[str, ...] = ()


class EndpointStats(msgspec.Struct, frozen=True):
    """What one endpoint did in the last seconds, over all gateways."""

    project: str
    endpoint: str
    task: str = ""
    requests_per_s: float = 0.0
    errors_per_s: float = 0.0
    p50_s: float = 0.0
    p99_s: float = 0.0
    tokens_per_s: float = 0.0
    queued: int = 0
    running: int = 0
    replicas_ready: int = 0
    replicas_wanted: int = 0
    serving: str = ""
    ready: bool = False
    reason: str = ""
    rollout: RolloutView | None = None  # that runs
    progress: Progress = Progress()  # of the replica that will be ready first, while none is
    newer: str = ""  # what keeps the revision that is asked for from traffic while another serves


class GatewayStats(msgspec.Struct, frozen=True):
    """One gateway process."""

    index: int
    rss_bytes: int = 0
    build: str = ""  # compiled or interpreted (telemetry/build.py)


class Stats(msgspec.Struct, frozen=True):
    """The whole platform at one moment."""

    endpoints: tuple[EndpointStats, ...] = ()
    gateways: tuple[GatewayStats, ...] = ()


class Line(msgspec.Struct, frozen=True):
    """One line of a chart: a value for each of the chart's moments, None where nothing is known."""

    labels: dict[str, str]
    values: list[float | None]


class Chart(msgspec.Struct, frozen=True):
    """Lines over the same moments. `times` are unix seconds, each the end of the step that its value is of."""

    times: list[float]
    lines: list[Line]


class DriftFeature(msgspec.Struct, frozen=True):
    """One feature of an endpoint, and the shares of its slots (types/drift.py) in the reference and in the window."""

    shift: Shift
    before: tuple[float, ...] = ()
    now: tuple[float, ...] = ()


class DriftView(msgspec.Struct, frozen=True):
    """How an endpoint's data compares with its reference, the feature that moved most first.

    rows, refused: of the window; refused requests did not fit the model's signature. Times are unix seconds, 0: never.
    """

    project: str
    endpoint: str
    revision: str = ""
    is_watched: bool = False
    is_drifted: bool = False
    since_s: float = 0.0
    because: str = ""
    judged_s: float = 0.0
    triggered_s: float = 0.0
    rows: int = 0
    refused: int = 0
    source: str = ""
    source_rows: int = 0
    learning_until_s: float = 0.0
    features: tuple[DriftFeature, ...] = ()


class PushedVersion(msgspec.Struct, frozen=True):
    """A version after a push. `is_new` is false when the same content was registered before."""

    version: ModelVersion
    is_new: bool


class FeedbackResult(msgspec.Struct, frozen=True):
    """What became of a label: joined, duplicate (there was one already) or unknown."""

    id: str
    outcome: str


class QualityPart(msgspec.Struct, frozen=True):
    """How good some predictions were: of all (`name` is ""), of a segment, a revision, or from `start_s` (unix) on.

    accuracy: mean score, in 0–1, of those that could be judged; mae: mean absolute error. None: nothing to tell it by.
    """

    name: str = ""
    start_s: float = 0.0
    predictions: int = 0
    labelled: int = 0
    accuracy: float | None = None
    mae: float | None = None


class QualityAmount(msgspec.Struct, frozen=True):
    """A business metric: of how many answers it is known, and its mean."""

    name: str
    rows: int
    mean: float


class QualityView(msgspec.Struct, frozen=True):
    """How good an endpoint's predictions were over the last `window_s`, by what turned out to be true.

    estimated: the accuracy to expect of the `estimated_rows` without a label; None: `because` says why not.
    calibration_error: of the calibration it is made by, on labels that were held out; by_chance: what it would be were
    the calibration perfect. problem: why replicas have
    none.
    """

    project: str
    endpoint: str
    kind: str
    window_s: float
    whole: QualityPart
    estimated: float | None = None
    estimated_rows: int = 0
    calibration_error: float | None = None
    by_chance: float | None = None
    because: str = ""
    segments: tuple[QualityPart, ...] = ()
    revisions: tuple[QualityPart, ...] = ()
    windows: tuple[QualityPart, ...] = ()
    problem: str = ""
    amounts: tuple[QualityAmount, ...] = ()


class BurnView(msgspec.Struct, frozen=True):
    """What one rule of an objective sees; rates are multiples of what is allowed."""

    rule: str
    severity: str
    long_s: float
    short_s: float
    threshold: float
    long: float
    short: float
    firing: bool


class StepView(msgspec.Struct, frozen=True):
    """A step of a budget's policy that is in force."""

    do: str
    because: str
    since_s: float


class SloView(msgspec.Struct, frozen=True):
    """How one objective stands. `state` is ok, ticket or page; `part` whose it is where each has one by itself."""

    project: str
    endpoint: str
    name: str
    sli: str
    target: float
    window_s: float
    alert: str
    state: str
    because: str = ""
    attained: float | None = None
    budget_left: float = 1.0
    burn_rate: float = 0.0
    exhausted_in_s: float | None = None
    burns: tuple[BurnView, ...] = ()
    in_force: tuple[StepView, ...] = ()
    part: str = ""


class AlertView(msgspec.Struct, frozen=True):
    """One alert. `told` are the receivers that heard of it and when, in unix seconds."""

    id: str
    labels: dict[str, str]
    severity: str
    state: str
    summary: str = ""
    because: str = ""
    runbook: str = ""
    began_s: float = 0.0
    since_s: float = 0.0
    acknowledged_by: str = ""
    muted_by: str = ""
    told: dict[str, float] = {}


class SilenceView(msgspec.Struct, frozen=True):
    """Alerts with these labels are told to nobody until it ends."""

    id: str
    match: dict[str, str]
    until_s: float
    by: str = ""
    why: str = ""


class Alerts(msgspec.Struct, frozen=True):
    """Alerts, the most urgent first, and silences. `undelivered`: notices that wait, by receiver."""

    items: tuple[AlertView, ...] = ()
    silences: tuple[SilenceView, ...] = ()
    undelivered: dict[str, int] = {}


class TracedRequest(msgspec.Struct, frozen=True):
    """What is kept of one request, and as spans: parents first, then in time."""

    trace: Trace
    spans: tuple[Span, ...]
