"""Admission policies: rules in CEL that a change is held to before it is stored, and all that a rule may look at.

The model is Kubernetes' ValidatingAdmissionPolicy: match, variables, rules with a message, what an error means.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from stoker.types.fields import Name
from stoker.types.placement import DEFAULT_POOL
from stoker.types.slos import Sli

POLICIES_MAX: Final = 200  # of the whole platform
RULES_MAX: Final = 16  # of one policy
VARIABLES_MAX: Final = 16  # of one policy
EXPRESSION_MAX: Final = 4_000  # characters
MESSAGE_MAX: Final = 500  # characters that are shown, of a message that CEL makes too

# deny: the change is refused. warn: it is made, and whoever asked is told. audit: it is made, and the journal says so.
Enforcement = Literal["deny", "warn", "audit"]
# create, update, delete: of a resource. push: of a model version. alias: one moves. release: a rollout may begin.
PolicyOperation = Literal["create", "update", "delete", "push", "alias", "release"]
JudgedKind = Literal["Endpoint", "Project", "Notifier", "Budget", "Model"]
Outcome = Literal["passed", "violated", "failed"]
CelText = Annotated[str, Meta(min_length=1, max_length=EXPRESSION_MAX)]
CelName = Annotated[
    str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}(?!\n)$", description="letters, digits and _, as a name in CEL")
]


class PolicyMatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which changes a policy looks at: all of these must fit."""

    kinds: Annotated[tuple[JudgedKind, ...], Meta(min_length=1, max_length=5, description="what is changed")] = (
        "Endpoint",
    )
    operations: Annotated[
        tuple[PolicyOperation, ...],
        Meta(
            min_length=1,
            max_length=6,
            description="what is done: create, update, delete; push and alias of a Model; release, once a dossier is "
            "there. A rollback is never held to a policy",
        ),
    ] = ("create", "update", "release")
    projects: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="with all_projects: only these; a name may end in *. Empty: every project",
        ),
    ] = ()
    labels: Annotated[
        dict[str, str],
        Meta(max_length=16, description="labels that the resource must have; a value may end in *"),
    ] = {}


class PolicyVariable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value that rules share, as `variables.NAME`; it may use those before it."""

    name: CelName
    expression: Annotated[CelText, Meta(description="CEL over the document")]


class PolicyRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One demand."""

    name: Name
    expression: Annotated[CelText, Meta(description="CEL over the document; true: the change may be made")]
    message: Annotated[
        str, Meta(max_length=MESSAGE_MAX, description="what is wrong and what to do; shown where the rule is broken")
    ] = ""
    message_expression: Annotated[
        str, Meta(max_length=EXPRESSION_MAX, description="CEL that makes the message; where it fails, `message` is it")
    ] = ""
    field: Annotated[
        str, Meta(max_length=200, description="the field it is about, such as metadata.labels.owner; errors show it")
    ] = ""
    enforcement: Annotated[
        Enforcement,
        Meta(description="deny: refuse the change; warn: tell whoever asked; audit: only write it into the journal"),
    ] = "deny"


class PolicySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What changes are held to."""

    rules: Annotated[tuple[PolicyRule, ...], Meta(min_length=1, max_length=RULES_MAX)]
    description: Annotated[str, Meta(max_length=MESSAGE_MAX)] = ""
    enabled: Annotated[bool, Meta(description="false: kept, and nothing is held to it")] = True
    all_projects: Annotated[bool, Meta(description="it holds in every project, not only in its own")] = False
    match: PolicyMatch = PolicyMatch()
    variables: Annotated[tuple[PolicyVariable, ...], Meta(max_length=VARIABLES_MAX)] = ()
    failure_policy: Annotated[
        Literal["fail", "ignore"],
        Meta(
            description="what a rule that gives no answer means: broken (fail), or only a line in the journal (ignore)"
        ),
    ] = "fail"


class Actor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who asks for a change."""

    key: Annotated[str, Meta(description="its id")] = ""
    project: Annotated[str, Meta(description="of the key")] = ""
    is_admin: bool = False


PLATFORM: Final = Actor(is_admin=True)  # its own user, over the socket


class ProjectFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The project that the resource is in."""

    name: str = "default"
    labels: dict[str, str] = {}
    signatures: Annotated[str, Meta(description="what it demands: off, warn or required")] = "off"


class FileFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a version."""

    path: str
    size_bytes: int = 0
    is_pickle: Annotated[bool, Meta(description="its bytes are a Python pickle, whatever it is called")] = False


class VersionFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model version that the endpoint would serve, or that is pushed."""

    ref: Annotated[str, Meta(description="such as digits@3")] = ""
    name: str = ""
    number: int = 0
    digest: str = ""
    format: Annotated[str, Meta(description="onnx, skops, python, gguf or remote")] = ""
    size_bytes: int = 0
    signature: Annotated[str, Meta(description="verified, unknown, bad or unsigned: by the trust of the project")] = (
        "unsigned"
    )
    signed_by: Annotated[tuple[str, ...], Meta(description="the names of the trusted keys whose signatures hold")] = ()
    tasks: tuple[str, ...] = ()
    files: Annotated[tuple[FileFacts, ...], Meta(description="empty: it is only the address of a server")] = ()
    lineage: Annotated[
        dict[str, Any], Meta(description="parent, run, data, code, source, pushed_by, pushed_from, trained_at_s")
    ] = {}
    metadata: Annotated[dict[str, Any], Meta(description="what was read from the model, or said at the push")] = {}
    age_s: Annotated[int, Meta(description="seconds since it was trained, or pushed")] = 0


class NodeFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One node's size, whatever runs on it."""

    name: str
    cores: float
    memory_bytes: int
    pool: str = DEFAULT_POOL


class PoolFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The nodes that replicas run on."""

    nodes: tuple[NodeFacts, ...] = ()
    cores: Annotated[float, Meta(description="of all of them")] = 0.0
    memory_bytes: int = 0


class SloFacts(msgspec.Struct, frozen=True):
    """An objective that the resource has."""

    name: str
    sli: Sli
    target: float
    tenant: str = ""


class Document(msgspec.Struct, frozen=True):
    """All that a rule may look at. What is not there is null: `old` at a creation, `resource` at a deletion, …

    `resource` and `old` are the manifest with every default written out; sizes are bytes and times seconds, as
    numbers. Of a Model they have `kind`, `metadata` (name, project, no labels) and `spec` (alias, number).
    """

    operation: Annotated[PolicyOperation, Meta(description="what is done")]
    resource: Annotated[dict[str, Any] | None, Meta(description="as it shall be; null at a deletion")]
    old: Annotated[dict[str, Any] | None, Meta(description="as it is now; null at a creation and a push")]
    actor: Actor
    project: ProjectFacts
    version: Annotated[
        VersionFacts | None, Meta(description="null where no model is served: backends, projects, receivers")
    ] = None
    dossier: Annotated[dict[str, Any] | None, Meta(description="what a release's gates found; null before one")] = None
    pool: PoolFacts = PoolFacts()
    slos: Annotated[tuple[SloFacts, ...], Meta(description="the objectives of `resource`")] = ()


class Verdict(msgspec.Struct, frozen=True):
    """What one rule says of one change. `failed`: it gave no answer, and `message` says why."""

    policy: str
    rule: str
    enforcement: Enforcement
    outcome: Outcome = "passed"
    message: str = ""
    field: str = ""
    project: str = ""  # the policy's own
    counts: bool = True  # false: it failed and its policy ignores that
