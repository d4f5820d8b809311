"""How an endpoint scales, as its manifest says it, and what gateways count for that."""

from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta

from stoker.types.fields import Seconds

# requests: arrivals x service time, and the queue. tokens: the same in tokens. forecast: where arrivals will be when a
# replica that starts now is ready. yesterday: what came at that time the day before. season: bursts that came again and
# again. kv, engine-queue: room inside the engines. ttft, inter-token: objectives at risk. cpu, gpu: how busy the
# replicas are.
Signal = Literal[
    "requests", "tokens", "forecast", "yesterday", "season", "kv", "engine-queue", "ttft", "inter-token", "cpu", "gpu"
]
SIGNALS: Final[tuple[Signal, ...]] = get_args(Signal)
# An engine that batches, or generates, uses all of its processor for one request too: busy says little of full.
USUAL_SIGNALS: Final = tuple(each for each in SIGNALS if each not in ("cpu", "gpu"))
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: Final[tuple[Weekday, ...]] = get_args(Weekday)
TIME_PATTERN: Final = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stretch of some days with other bounds."""

    begin: Annotated[str, Meta(pattern=TIME_PATTERN, description="time of day, such as 08:00")]
    end: Annotated[str, Meta(pattern=TIME_PATTERN, description="time of day; not after begin: on the next day")]
    days: Annotated[
        tuple[Weekday, ...], Meta(min_length=1, max_length=7, description="on which it begins; by default every day")
    ] = WEEKDAYS
    zone: Annotated[str, Meta(max_length=64, description="whose clock, such as Europe/Berlin")] = "UTC"
    min: Annotated[
        Annotated[int, Meta(ge=0, le=1000)] | None, Meta(description="instead of replicas.min; by default that")
    ] = None
    max: Annotated[
        Annotated[int, Meta(ge=0, le=1000)] | None, Meta(description="instead of replicas.max; by default that")
    ] = None

    @property
    def name(self) -> str:
        """What people know it by: `mon-fri 08:00 to 18:00 Europe/Berlin`."""
        at = [WEEKDAYS.index(each) for each in self.days]
        is_row = at == list(range(at[0], at[0] + len(at))) and len(at) > 2
        days = f"{self.days[0]}-{self.days[-1]}" if is_row else ",".join(self.days)
        return f"{days} {self.begin} to {self.end} {self.zone}"


class Scaling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the number of replicas follows the load, between replicas.min and replicas.max."""

    signals: Annotated[
        tuple[Signal, ...],
        Meta(
            min_length=1, max_length=len(SIGNALS), description="what is looked at; the one that calls for most counts"
        ),
    ] = USUAL_SIGNALS
    utilization: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(description="share of its places that a replica fills; by default all but what chance may fill"),
    ] = None
    drain: Annotated[
        Seconds, Meta(description="a queue shall be gone so long after the replicas that are added for it are ready")
    ] = "5s"
    down_window: Annotated[
        Seconds,
        Meta(description="what was needed within it stays; 0: learned, from three cold starts to fifteen"),
    ] = 0
    idle_timeout: Annotated[
        Seconds, Meta(description="without a request until nothing runs, where replicas.min is 0; 0: never")
    ] = "10m"
    waiting_worth: Annotated[
        float,
        Meta(
            ge=0,
            le=10_000,
            description="seconds of an idle replica that a second of a caller's waiting is worth; the idle time-out is "
            "then learned from the pauses; 0: idle_timeout is kept",
        ),
    ] = 0.0
    fallback_replicas: Annotated[
        int, Meta(ge=0, le=1000, description="at least so many when nothing can be measured; 0: as many as there are")
    ] = 0
    schedules: Annotated[
        tuple[Schedule, ...],
        Meta(max_length=32, description="stretches of the week with other bounds; where several are on, the largest"),
    ] = ()


class LaneLoad(msgspec.Struct, frozen=True):
    """What a gateway has counted of one endpoint since it began, and holds now.

    arrived: requests that wanted a place, each once however often it is tried. served: those that were answered,
    served_s: how long places were held for them, by tries that came to nothing too. tokens: of their prompts and
    answers. places, kv_used_ratio, engine_queue: of one replica, as the mean over
    those that are open; None: nobody says. is_expected: somebody was told to come back when a
    replica is loaded, and has yet to.
    """

    project: str
    endpoint: str
    arrived: int
    served: int
    served_s: float
    tokens: int
    waiting: int
    in_flight: int
    ready: int
    places: float
    kv_used_ratio: float | None = None
    engine_queue: float | None = None
    is_expected: bool = False
