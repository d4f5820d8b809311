"""What a version must pass before it takes traffic, as a manifest says it; and what became of it: its dossier."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from stoker.types.ids import Digest, EndpointName, ProjectName, RevisionId

GOLDEN_FILE: Final = "stoker.golden.jsonl"  # in a version's files
GOLDEN_BYTES_MAX: Final = 8 << 20
GOLDEN_ROWS_MAX: Final = 5_000
DOSSIERS_MAX: Final = 50  # kept of one endpoint, besides those of revisions that are kept
BECAUSE_MAX: Final = 1_000
LIKENESS_TEXTS: Final = 48  # as many as are built in

Metric = Literal["accuracy", "f1", "rmse", "exact", "cosine", "logprob", "perplexity"]
GateKind = Literal["signature", "schema", "likeness", "golden", "profile", "policy"]
GateState = Literal["pending", "passed", "failed", "skipped"]
ReleaseState = Literal["pending", "complete", "refused"]
# What the condition Released says of each gate that fails.
REASONS: Final[dict[str, str]] = {
    "signature": "SignatureRefused",
    "schema": "SchemaIncompatible",
    "likeness": "LikenessWorse",
    "golden": "GoldenFailed",
    "profile": "ProfileWorse",
    "policy": "PolicyDenied",
}


class GoldenGate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a version is checked by examples with known answers."""

    set: Annotated[
        Literal["auto", "version", "endpoint", "off"],
        Meta(
            description="which examples: those pushed with the version, those that the endpoint holds (`stoker golden "
            "set`), each where there are any (auto), or none (off); version and endpoint refuse a version without"
        ),
    ] = "auto"
    metric: Annotated[
        Metric | None,
        Meta(
            description="what is compared; by default accuracy for labels, rmse for numbers, cosine for vectors, exact "
            "for texts. perplexity: how likely a language model (GGUF) finds each prompt with its expected answer"
        ),
    ] = None
    output: Annotated[
        str, Meta(max_length=128, description="the output tensor that is compared; by default the first")
    ] = ""
    at_least: Annotated[float | None, Meta(description="the least that it must reach, whatever serves now")] = None
    at_most: Annotated[
        Annotated[float, Meta(ge=0)] | None, Meta(description="of rmse and perplexity: the most that it may be")
    ] = None
    worse_max: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(
            description="how much worse than what serves it may be, where chance alone does not explain it: a "
            "difference (0.02), of rmse and perplexity a share of theirs (0.05); by default 0.02 and 0.05"
        ),
    ] = None


class LikenessGate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much worse than the one that it was made from a language model may be: both read the same texts."""

    when: Annotated[
        Literal["quantized", "always", "off"],
        Meta(
            description="which versions are compared: those that `stoker quantize` made, with what they were made "
            "from; every one, others with what serves; or none"
        ),
    ] = "quantized"
    perplexity_worse_max: Annotated[
        float, Meta(ge=0, le=100, description="share by which its perplexity may be higher: 0.1 is a tenth")
    ] = 0.1
    agreement_min: Annotated[
        float,
        Meta(ge=0, le=1, description="the least share of places where both find the same next token most probable"),
    ] = 0.8
    slower_max: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None,
        Meta(description="share of the other's tokens a second that it may read or write less; by default not judged"),
    ] = None
    texts: Annotated[int, Meta(ge=5, le=LIKENESS_TEXTS, description="how many both read")] = LIKENESS_TEXTS
    texts_of: Annotated[
        Literal["built-in", "golden"],
        Meta(
            description="which texts: those that are built in, or the examples of the endpoint, else of the version, "
            "each prompt with its expected answer"
        ),
    ] = "built-in"


class ProfileGate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much slower and larger than the serving revision's replicas those of a new one may be."""

    latency_worse_max: Annotated[
        float, Meta(ge=0, le=100, description="share by which its median and p95 may be longer: 0.5 is half as long")
    ] = 0.5
    memory_worse_max: Annotated[
        float, Meta(ge=0, le=100, description="share by which its process may be larger: 1 is twice")
    ] = 1.0
    requests: Annotated[
        int, Meta(ge=20, le=2_000, description="that are sent to either, one at a time and in turns")
    ] = 100


class Gates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a new revision must pass before it takes traffic. A return to one that served is never held up."""

    schema: Annotated[
        Literal["required", "off"],
        Meta(description="whether what clients of the serving revision send and read must go on to work"),
    ] = "required"
    golden: Annotated[GoldenGate, Meta(description="examples with known answers")] = GoldenGate()
    profile: Annotated[
        ProfileGate | None, Meta(description="time and memory beside the serving revision; by default not compared")
    ] = None
    likeness: Annotated[
        LikenessGate, Meta(description="what a language model says of texts, beside the one that it was made from")
    ] = LikenessGate()
    policy: Annotated[Literal["on", "off"], Meta(description="whether the project's policies judge the dossier")] = "on"


class GoldenSet(msgspec.Struct, frozen=True):
    """The examples that an endpoint holds: a blob by its digest."""

    digest: Digest
    rows: int
    size_bytes: int
    set_at_s: float


class GateResult(msgspec.Struct, frozen=True):
    """What one gate found. `numbers` are measurements, by name with their unit last."""

    kind: GateKind
    state: GateState
    because: str
    about: str = ""  # of several of a kind: which
    numbers: dict[str, float] = {}
    seconds: float = 0.0


class Dossier(msgspec.Struct, frozen=True):
    """Everything that was found out about one revision before it took traffic. Never changed once it is decided.

    parent: the revision it was compared with, "" where nothing served. gates: the spec by which it was judged.
    born_s: when the revision was made, which tells it from one of the same name of an endpoint that was deleted.
    swapped: what serves had to go before the gates that need a replica (the strategy recreate).
    """

    project: ProjectName
    endpoint: EndpointName
    revision: RevisionId
    born_s: float
    model: str  # name@number
    digest: Digest  # of the version
    config_digest: Digest  # of all that decides how a replica behaves
    parent: str
    parent_model: str
    gates: Gates
    state: ReleaseState
    because: str
    results: tuple[GateResult, ...] = ()
    decided_at_s: float = 0.0
    swapped: bool = False

    @property
    def failed(self) -> GateResult | None:
        """The first gate that was not passed."""
        return next((each for each in self.results if each.state == "failed"), None)


class ReleaseView(msgspec.Struct, frozen=True):
    """A dossier with what proves it: a signed statement of the gates and, once it is known, of the rollout's end.

    statements: Sigstore bundles as JSON text, each a DSSE envelope around an in-toto statement, by the platform's key;
    none while it is pending.
    """

    number: int
    dossier: Dossier
    statements: tuple[str, ...] = ()
    fingerprint: str = ""
    verdict: str = ""  # how its rollout ended


class PlatformKey(msgspec.Struct, frozen=True):
    """The public key of the platform that signs dossiers (PEM), and the SHA-256 that names it."""

    public_key: str
    fingerprint: str
