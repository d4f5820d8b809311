"""What was measured of the engines that can run one model, and which of them was taken."""

from typing import Final, Literal

import msgspec

Goal = Literal["latency", "throughput"]
AUTO: Final = "auto"  # as an endpoint's engine: measure the candidates, take the better


class EngineMeasurement(msgspec.Struct, frozen=True):
    """One candidate on one machine, with one request alone and with as many as it has slots.

    `error` says why it could not be measured; the numbers are then 0.
    """

    engine: str
    version: str = ""  # of its package
    error: str = ""
    load_s: float = 0.0
    first_token_s: float = 0.0  # alone
    answer_s: float = 0.0  # alone, to the last token
    tokens_per_s: float = 0.0  # of all answers together, all slots busy
    slots: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0


class EngineChoice(msgspec.Struct, frozen=True):
    """The engine a replica runs, why it, and what it was compared with. Times are unix time."""

    engine: str
    goal: Goal
    because: str
    rows: tuple[EngineMeasurement, ...] = ()
    measured_at_s: float = 0.0
