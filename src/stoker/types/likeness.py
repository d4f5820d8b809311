"""What a language model says of texts, and how alike two versions are by it."""

import msgspec

from stoker.types.models import VersionManifest


class ScoreJob(msgspec.Struct, frozen=True):
    """The model that a scoring process loads; its files are in `model_dir` under their paths."""

    model_dir: str
    manifest: VersionManifest
    cores: float
    seconds: float
    memory_bytes: int


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The model is there."""

    engine: str
    load_s: float


class Text(msgspec.Struct, frozen=True):
    """One text to be scored."""

    text: str


class Scored(msgspec.Struct, frozen=True, tag="scored"):
    """A text as the model read it, token by token, and how long that took.

    tokens: their numbers. losses: -ln of the probability of each token after the first, given those before it. best:
    the most probable token in each of those places. written, write_s: tokens that it went on with, one by one.
    """

    tokens: list[int]
    losses: list[float]
    best: list[int]
    read_s: float
    written: int
    write_s: float


class Estimate(msgspec.Struct, frozen=True):
    """A number with its 95 % interval over other texts of the same kind."""

    value: float
    low: float
    high: float


class Side(msgspec.Struct, frozen=True):
    """One of the two versions."""

    ref: str
    size_bytes: int
    engine: str
    load_s: float
    perplexity: Estimate
    read_tokens_per_s: float
    write_tokens_per_s: float


class Likeness(msgspec.Struct, frozen=True, tag="likeness"):
    """How `other` compares with `base` on the same texts. Ratios are other / base; of speed, above 1 is faster.

    agreement_ratio: in 0–1, of places where both find the same next token the most probable after the same text.
    """

    base: Side
    other: Side
    texts: int
    tokens: int
    perplexity_ratio: Estimate
    agreement_ratio: Estimate
    read_speed_ratio: Estimate
    write_speed_ratio: Estimate
    size_ratio: float
