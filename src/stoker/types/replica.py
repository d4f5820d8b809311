"""What a replica process is told to run, and what it says about itself."""

from typing import Any, Literal

import msgspec

from stoker.types.engines import Goal
from stoker.types.ids import ReplicaId, RevisionId
from stoker.types.mapping import SchemaMapping
from stoker.types.models import VersionManifest
from stoker.types.resources import Pad, Task
from stoker.types.sandbox import Confinement, Sandbox
from stoker.types.shapes import Shape
from stoker.types.signing import SignedVersion

ReplicaState = Literal["loading", "ready", "draining", "failed"]


class ReplicaSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a replica needs to serve; written as JSON beside it and named in its arguments.

    `model_dir` holds the files of the version under their manifest paths (read-only); their digests are checked
    against `manifest` before the engine opens them.
    """

    replica: ReplicaId
    revision: RevisionId
    project: str
    endpoint: str
    task: Task
    model: str  # "digits@1"
    version: str  # the version number as the protocols show it, "1"
    engine: str
    model_dir: str
    manifest: VersionManifest
    address: str
    options: dict[str, Any] = {}
    cores: float = 1.0
    memory_bytes: int = 0
    max_rows: int = 64
    max_bytes: int = 64 * 2**20
    pad: dict[str, Pad] = {}
    mapping: SchemaMapping | None = None
    max_body_bytes: int = 32 * 2**20
    concurrency: int = 256
    error_file: str = ""  # on a failed load the reason is written here, atomically, before the exit
    # With the engine `auto`:
    goal: Goal | None = None
    measurements: str = ""  # the folder where what was measured is kept
    choice_file: str = ""  # where the choice and its reasons are written
    signed: SignedVersion = SignedVersion()  # whose signature is demanded before the files are opened
    shapes: tuple[Shape, ...] = ()  # of engine calls that are worth one each before anybody waits
    secrets: dict[str, str] = {}  # by place (core/secrets.named), references whose values gateways hand over
    sandbox: Sandbox = Sandbox()
    listen: str = ""  # HOST:PORT for gateways and control on another node; "" on theirs
    identity: str = ""  # the folder with its certificate, for those


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a request consumed. Tokens are zero for predictive requests, rows for language models.

    guessed_tokens: that the engine wrote ahead (speculative decoding), accepted_tokens: those of them that held; zero
    where it does not say. loops: of its choices, those that ended in a loop (core/repetition.py).
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    rows: int = 0
    guessed_tokens: int = 0
    accepted_tokens: int = 0
    loops: int = 0


class EngineCalls(msgspec.Struct, omit_defaults=True):
    """What engine calls there were since the last report; one answer carries it for all that were in them.

    by_reason: how many calls, by why no more was joined (core.batch.Because). Of an endpoint that pads: `values` that
    went in, `padding` among them.
    """

    by_reason: dict[str, int] = {}
    values: int = 0
    padding: int = 0


class Timings(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the time went inside the replica, in seconds."""

    queue_s: float = 0.0  # the engine was busy with others
    batch_wait_s: float = 0.0  # the engine was free, and the call that this request is part of had not begun
    compute_s: float = 0.0  # engine time of the batch this request was in, or prefill + decode
    prefill_s: float = 0.0  # of a language model, as its engine says
    decode_s: float = 0.0
    first_token_s: float = 0.0  # from arrival in the replica to its first token
    batch_rows: int = 0
    calls: EngineCalls | None = None


class ReplicaStats(msgspec.Struct, frozen=True, omit_defaults=True):
    """A replica's own view, in each PONG. `finished` and `tokens` only grow: progress is their change.

    others: requests of other connections than the one this goes to; the link writes it. is_severed: the server behind
    it is to be taken as out of reach, by gateways that speak to that themselves too (a game day). phases: see
    types.starts.Start; those that are over.
    """

    state: ReplicaState = "loading"
    queued: int = 0
    running: int = 0
    slots: int = 0  # requests it can work on at once; 0: unknown
    finished: int = 0
    tokens: int = 0
    kv_used_ratio: float = 0.0
    batch_rows_mean: float = 0.0
    stage: str = ""
    fraction: float = 0.0
    error: str = ""
    others: int = 0
    engine: str = ""  # how the engine was set up, such as the threads it chose, for people
    is_severed: bool = False
    phases: dict[str, float] = {}
    busy_s: float = 0.0  # time in which the engine worked on anything; only grows
    sandbox: Confinement | None = None  # as it was found before the model was opened
