"""What a replica's kind of work (predict, embed, generate) is to its process: it takes requests and counts them."""

from typing import Final, Protocol, runtime_checkable

import msgspec

from stoker.protocol.link import Exchange
from stoker.types.replica import ReplicaSpec

QUEUE_FACTOR: Final = 4  # a gateway sends at most `concurrency` at once, and there may be a few gateways
QUEUE_MEMORY_SHARE: Final = 4  # what waits may take this fraction of the replica's memory
QUEUE_BYTES: Final = 256 << 20  # and this where the memory is not limited


def room(spec: ReplicaSpec) -> tuple[int, int]:
    """Return how many requests may wait in a replica, and how many bytes of them."""
    held_bytes = spec.memory_bytes // QUEUE_MEMORY_SHARE or QUEUE_BYTES
    return spec.concurrency * QUEUE_FACTOR, max(held_bytes, spec.max_body_bytes)


class WorkStats(msgspec.Struct, frozen=True):
    """What the work has to do and has done. `finished` and `tokens` only grow."""

    queued: int = 0
    running: int = 0
    slots: int = 0
    finished: int = 0
    tokens: int = 0
    kv_used_ratio: float = 0.0
    batch_rows_mean: float = 0.0
    busy_s: float = 0.0  # time in which the engine worked on anything; only grows


class Work(Protocol):
    """Requests in, answers out, of one task. All methods but `warm_up` run in the loop and must not block."""

    def warm_up(self) -> None:
        """Make the first engine calls, before any request; blocks, in the loading thread."""

    def take(self, exchange: Exchange) -> None:
        """Take a request; raise StokerError to refuse it, or answer through `exchange`."""

    def stats(self) -> WorkStats:
        """Return the numbers of now."""

    @property
    def is_idle(self) -> bool:
        """Nothing waits, runs, or is still being sent."""

    def close(self) -> None:
        """Stop the engine."""


@runtime_checkable
class Watched(Protocol):
    """Work whose inputs and outputs can be compared with a reference."""

    def watch(self, exchange: Exchange) -> None:
        """Answer a CALL of the method `drift`: a types.drift.Question and an Answer, as msgpack."""


@runtime_checkable
class CountsShapes(Protocol):
    """Work that can be warmed up with the shapes that are really asked for."""

    def tell_shapes(self, exchange: Exchange) -> None:
        """Answer a CALL of the method `shapes`: what was called since the last time (types/shapes.py)."""


@runtime_checkable
class HandsOver(Protocol):
    """Work whose predictions are kept until control has them."""

    def hand_over(self, exchange: Exchange) -> None:
        """Answer a CALL of the method `predictions`: a types.feedback.Demand and a Handover, as msgpack."""
