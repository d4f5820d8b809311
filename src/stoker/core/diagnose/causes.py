"""Which causes are told apart, what each makes another look like, and what is to be done about it."""

from typing import Final, Literal, get_args

import msgspec

CauseKind = Literal[
    "request_mix", "length", "batching", "overload", "saturation", "memory", "network", "scale_lag", "cold_start",
    "change", "retry_storm", "noisy_tenant", "bad_replica", "dependency", "poison", "model_behaviour",
    "gpu_saturation", "disk_full", "clock",
]  # fmt: skip
KINDS: Final[tuple[CauseKind, ...]] = get_args(CauseKind)

Remedy = Literal["none", "eject", "roll_back", "scale", "shed", "restart"]

EVIDENCE_MAX: Final = 6  # lines of one cause


class Cause(msgspec.Struct, frozen=True):
    """One explanation. confidence: 0–1, after what explains it away; evidence: lines with numbers, strongest first.

    where: the replica, node, tenant or revision it is tied to, "" for all. affected_ratio: share of the requests.
    """

    kind: CauseKind
    confidence: float
    evidence: tuple[str, ...]
    since_s: float
    where: str = ""
    affected_ratio: float = 1.0
    remedy: Remedy = "none"

    @property
    def runbook(self) -> str:
        """The section of docs/how-to/runbooks.md about it."""
        return self.kind.replace("_", "-")


TITLES: Final[dict[CauseKind, str]] = {
    "request_mix": "other kinds of requests come than before",
    "length": "prompts or answers are longer",
    "batching": "the engine runs less together than before",
    "overload": "more requests come than the replicas can serve",
    "saturation": "the processors are saturated",
    "memory": "memory (the key-value cache) is short",
    "network": "the network between gateway and replicas is slow",
    "scale_lag": "scaling up is slower than the load grows",
    "cold_start": "requests wait for replicas to start",
    "change": "a new version or configuration is worse",
    "retry_storm": "clients retry more than the platform can serve",
    "noisy_tenant": "one tenant takes the capacity of the others",
    "bad_replica": "one replica or node is worse than its peers",
    "dependency": "something the model calls is slow or fails",
    "poison": "a request kills the replicas that run it",
    "model_behaviour": "the model answers differently than before",
    "gpu_saturation": "a GPU is saturated",
    "disk_full": "a disk is full",
    "clock": "a clock was set",
}

REMEDIES: Final[dict[CauseKind, Remedy]] = {
    "request_mix": "scale",
    "length": "scale",
    "batching": "roll_back",
    "overload": "scale",
    "saturation": "scale",
    "memory": "restart",
    "network": "none",
    "scale_lag": "scale",
    "cold_start": "scale",
    "change": "roll_back",
    "retry_storm": "shed",
    "noisy_tenant": "shed",
    "bad_replica": "eject",
    "dependency": "none",
    "poison": "none",
    "model_behaviour": "roll_back",
    "gpu_saturation": "scale",
    "disk_full": "none",
    "clock": "none",
}

# A cause, and what it also looks like: where the first is seen, the second is its consequence and loses by as much.
# The graph has no cycle (a test walks it), so one pass in topological order settles every score.
MAKES: Final[dict[CauseKind, tuple[CauseKind, ...]]] = {
    "disk_full": (
        "poison",
        "bad_replica",
        "change",
        "dependency",
        "cold_start",
        "scale_lag",
        "overload",
        "retry_storm",
    ),
    "clock": ("poison", "bad_replica", "change", "dependency", "overload", "retry_storm"),
    "poison": (
        "bad_replica",
        "cold_start",
        "scale_lag",
        "retry_storm",
        "change",
        "overload",
        "saturation",
        "gpu_saturation",
    ),
    "model_behaviour": ("length", "change", "memory", "overload"),
    "batching": ("change", "overload", "retry_storm", "scale_lag"),
    "dependency": ("change", "overload", "retry_storm", "scale_lag"),
    "network": ("bad_replica", "change", "overload", "retry_storm"),
    "noisy_tenant": ("request_mix", "length", "overload", "scale_lag", "retry_storm", "memory"),
    "request_mix": ("length", "memory", "overload", "scale_lag", "saturation", "gpu_saturation", "change"),
    "change": ("bad_replica", "retry_storm"),
    "memory": ("saturation", "gpu_saturation", "change", "overload", "retry_storm", "scale_lag"),
    "length": ("memory", "overload", "scale_lag", "saturation", "gpu_saturation", "retry_storm", "change"),
    "gpu_saturation": ("bad_replica", "change", "overload", "retry_storm", "scale_lag"),
    "saturation": ("bad_replica", "change", "overload", "retry_storm", "scale_lag"),
    "bad_replica": ("retry_storm",),
    "cold_start": ("scale_lag", "overload", "change", "retry_storm"),
    "scale_lag": ("overload", "retry_storm", "change"),
    "overload": ("retry_storm", "change"),
    "retry_storm": (),
}
