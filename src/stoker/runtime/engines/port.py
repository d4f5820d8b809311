"""What every engine is to the replica that runs it: three shapes of work behind one way to load.

An engine module offers `load(spec, progress) -> Engine`. It is called once, in a thread of its own, in a process that
serves nothing yet; it may block for as long as the model needs and reports stages through `progress`. It raises
RefusedArtifact for a file it cannot read and InvalidInput for options it does not know, with the engine's own words.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import msgspec
import numpy.typing as npt

from stoker.protocol.direct import Direct
from stoker.protocol.openai import ChatRequest, CompletionRequest
from stoker.types.generation import Delta, Final, Finish, Resume, TokenLogprob, ToolCallDelta
from stoker.types.models import Signature
from stoker.types.replica import ReplicaSpec

__all__ = [
    "Array",
    "CanResume",
    "Delta",
    "Describes",
    "EmbedEngine",
    "Embeddings",
    "Engine",
    "Final",
    "Finish",
    "GenerateEngine",
    "HasServer",
    "Load",
    "NamesAxes",
    "PredictEngine",
    "Progress",
    "Resume",
    "TokenLogprob",
    "ToolCallDelta",
]

Array = npt.NDArray[Any]
Progress = Callable[[str, float], None]  # stage, fraction in 0–1


class PredictEngine(Protocol):
    """Runs arrays through a model, in batches the replica puts together."""

    signature: Signature
    batches: bool  # whether requests may be joined along the first dimension
    may_inline: bool  # whether short calls may run in the event loop: only for code that never waits for anything

    def predict(self, inputs: Mapping[str, Array], outputs: tuple[str, ...]) -> dict[str, Array]:
        """Return the named outputs (all when empty) for `inputs`; blocks. Raises EngineFailed with the engine's words.

        Arrays have the signature's datatypes and shapes; BYTES are object arrays of bytes. Called by one thread at a
        time.
        """

    def close(self) -> None:
        """Give back what the process' end would not."""


@runtime_checkable
class NamesAxes(Protocol):
    """A PredictEngine whose model names its free sizes: `axis_names` has a name for each axis, "" for one without."""

    axis_names: Mapping[str, tuple[str, ...]]


@runtime_checkable
class Describes(Protocol):
    """An engine that chose how to run: `about` says what and why, in one line for people."""

    about: str


class Embeddings(msgspec.Struct, frozen=True):
    """vectors: float32 [n, dim], one row a text. tokens: how many tokens each text had, after truncation."""

    vectors: Array
    tokens: list[int]


class EmbedEngine(Protocol):
    """Turns texts into vectors, in batches the replica puts together."""

    dimensions: int

    def embed(self, texts: list[str]) -> Embeddings:
        """Return one vector a text; blocks. Raises InvalidInput for a text over the model's length limit."""

    def close(self) -> None:
        """Give back what the process' end would not."""


class GenerateEngine(Protocol):
    """A language model that batches on its own (continuous batching); the replica only hands requests over."""

    slots: int  # requests it works on at once; 0 when it cannot say, and gateways learn it
    context_tokens: int

    def generate(self, request: ChatRequest | CompletionRequest) -> AsyncIterator[Delta | Finish | Final]:
        """Yield the answer as it is made. Closing the iterator aborts the work.

        Raises InvalidInput before the first item for what the model cannot take (too long, bad schema), Unsupported
        for what it cannot do, EngineFailed when the engine breaks.
        """

    def kv_used_ratio(self) -> float:
        """Return the share of the context memory in use, 0 when unknown. Must not block."""

    def close(self) -> None:
        """Stop the engine."""


@runtime_checkable
class HasServer(Protocol):
    """A GenerateEngine in front of a server that gateways may speak to themselves, past the replica."""

    direct: Direct


@runtime_checkable
class TakesKey(Protocol):
    """An engine that calls a server of others with a key, which may be another one from some moment on."""

    def rekey(self, key: str) -> None:
        """Use `key` for what is sent from now on. Called by the event loop; does not block."""


@runtime_checkable
class CallsOut(Protocol):
    """An engine that calls a server of others. `is_severed`: it is to do as if nobody answered there (a game day)."""

    is_severed: bool


@runtime_checkable
class CanResume(Protocol):
    """What a GenerateEngine offers besides when it can go on with an answer that another replica began."""

    def resume(self, request: ChatRequest | CompletionRequest, so_far: Resume) -> AsyncIterator[Delta | Finish | Final]:
        """Yield what follows `so_far`, as `generate` would; `max_tokens` counts from the answer's beginning.

        The usage is that of the whole answer: the prompt once, and all tokens of the output. `request` asks for one
        choice of plain text (core/failover.py). Raises Unsupported for what cannot be continued exactly.
        """


Engine = PredictEngine | EmbedEngine | GenerateEngine
Load = Callable[[ReplicaSpec, Progress], Engine]
