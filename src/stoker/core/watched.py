"""What is watched of a model, by its task: columns of its rows, and planes of its vectors.

A predict model's columns are its tensors'. Of a text they are properties that need no model (telemetry/profile.py): a
request is a row, and nothing of it can be read back.
"""

from typing import Final

import msgspec

from stoker.types.drift import FEATURES_MAX, WIDTH_MAX, Plane, Side
from stoker.types.models import Datatype, Signature, TensorSpec

BUCKETS: Final = 256  # that trigrams of letters fall into
TRIGRAMS: Final = tuple(f"{code:02x}" for code in range(64))  # those buckets again, fewer: one of a text, at random
WORDING: Final = "wording"  # the plane of a text: how often which bucket
EMBEDDING: Final = "embedding"
PROMPT: Final = "prompt"
ANSWER: Final = "answer"
TEXT: Final = "text"
# Columns that are categories however many values they have; the most frequent ones are told apart.
CATEGORIES: Final = frozenset(("script", "trigram", "system", "finish", "kind"))

_PROFILE: Final[tuple[tuple[str, Datatype], ...]] = (
    ("characters", "FP32"),
    ("digits", "FP32"),
    ("signs", "FP32"),
    ("variety", "FP32"),
    ("script", "BYTES"),
    ("trigram", "BYTES"),
)


class Seen(msgspec.Struct, frozen=True):
    """The columns, as a signature whose tensors they are, and the planes."""

    signature: Signature
    planes: tuple[Plane, ...] = ()


def seen_of(task: str, signature: Signature) -> Seen:
    """Return what is watched of a model with this signature."""
    texts = {"embed": EMBED, "chat": CHAT}
    return texts.get(task) or Seen(signature, planes_of(signature))


def planes_of(signature: Signature) -> tuple[Plane, ...]:
    """Return the first output of floats that is too wide for columns; beside many columns there is room for one."""
    for one in signature.outputs:
        wide = len(one.shape) == 2 and FEATURES_MAX < one.shape[1] <= WIDTH_MAX
        if wide and one.datatype in ("FP16", "FP32", "FP64"):
            return (Plane(one.name, "output", one.shape[1]),)
    return ()


def is_category(column: str) -> bool:
    """Return whether a column of a text is a category."""
    whose, _, what = column.partition(".")
    return whose in (PROMPT, ANSWER, TEXT) and what in CATEGORIES


def _columns(whose: str, *more: tuple[str, Datatype]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(f"{whose}.{name}", datatype, (-1, 1)) for name, datatype in (*more, *_PROFILE))


def _plane(whose: str, side: Side) -> Plane:
    return Plane(f"{whose}.{WORDING}", side, BUCKETS)


EMBED: Final = Seen(
    Signature(_columns(TEXT, ("tokens", "FP32")), (TensorSpec(f"{EMBEDDING}.norm", "FP32", (-1, 1)),)),
    (Plane(EMBEDDING, "output"),),
)
CHAT: Final = Seen(
    Signature(
        _columns(PROMPT, ("tokens", "FP32"), ("turns", "FP32"), ("system", "BYTES")),
        _columns(ANSWER, ("tokens", "FP32"), ("finish", "BYTES"), ("kind", "BYTES")),
    ),
    (_plane(PROMPT, "input"), _plane(ANSWER, "output")),
)
