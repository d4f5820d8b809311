"""What is known of an endpoint's load at one moment: the input of a scaling decision."""

from typing import Final

import msgspec

SHORT_S: Final = 6.0
LONG_S: Final = 60.0
COLD_START_S: Final = 40.0  # while none was measured


class Language(msgspec.Struct, frozen=True):
    """What the engines of language models say of themselves. None: nobody says.

    Means over the ready replicas that are not saturated, where not said otherwise.
    """

    kv_free_ratio: float | None = None  # of the key-value cache
    waiting: float | None = None  # requests that wait inside an engine, for each replica
    ttft_s: float | None = None  # time to first token of the last minute, at the objective's quantile
    ttft_target_s: float | None = None  # what the objective promises
    inter_token_s: float | None = None
    inter_token_target_s: float | None = None
    tokens_per_s: float | None = None  # that arrive to be worked on: prompt and answer together
    replica_tokens_per_s: float | None = None  # the most that one replica was seen to do


class Sight(msgspec.Struct, frozen=True):
    """An endpoint's load, all gateways together.

    at_s: when it was measured, on the clock of `decide`'s now_s. rate_short, rate_long: arrivals a second over the last
    6 s and 60 s; span_s: how far back the long window really reaches. arrived: in the since_s seconds since the sight
    before. service_s: mean seconds that the requests which ended since then held their place in a replica; ended: how
    many those were. places: requests that one replica works on at once; 0: unknown. waiting: for a place.
    is_expected: somebody was told to come back when a replica is loaded, and has yet to. pending: replicas that are
    starting. cold_start_s: from start to ready, measured (p90); 0: unknown. failures: times in a row that it could not
    be measured at all. offsets_s: local time less UTC, for each schedule of the policy. cpu_ratio,
    gpu_ratio: used share of what the ready replicas have. loaded_s: unix seconds when the newest of them was ready;
    is_failing: none is ready, and one crashes again and again.
    """

    at_s: float
    rate_short: float = 0.0
    rate_long: float = 0.0
    span_s: float = LONG_S
    arrived: int = 0
    since_s: float = 0.0
    service_s: float = 0.0
    ended: int = 0
    places: float = 0.0
    waiting: int = 0
    is_expected: bool = False
    in_flight: int = 0
    ready: int = 0
    pending: int = 0
    cold_start_s: float = 0.0
    failures: int = 0
    cpu_ratio: float | None = None
    gpu_ratio: float | None = None
    loaded_s: float = 0.0
    is_failing: bool = False
    language: Language = Language()
    offsets_s: tuple[float, ...] = ()


def cold_start_s(sight: Sight) -> float:
    """Return how long a replica takes to become ready."""
    return sight.cold_start_s or COLD_START_S
