"""What is remembered of one rollout: a value that is stored, so that whoever decides can die and go on."""

from typing import Final

import msgspec

from stoker.core.rollout.table import ENDED, Event, Phase
from stoker.core.verdict.judge import Finding, Memory
from stoker.core.verdict.odds import Tally
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.rollouts import Arms, Hook, Rollout, RolloutCounts, Strategy

FINDINGS_SHOWN: Final = 12  # of a judgement, the worst
GATEWAYS_MAX: Final = 256  # whose counts are remembered; those heard of last


class Read(msgspec.Struct, frozen=True):
    """What had been counted when the rollout was judged last.

    gateways: by the boot of a gateway process. posted: by metric, what a user's own judge has told.
    """

    gateways: dict[str, RolloutCounts] = {}
    posted: dict[str, Arms] = {}


class RolloutState(msgspec.Struct, frozen=True):
    """One rollout. Times are unix seconds.

    number: of all of the platform, 0 before it is stored. strategy: never auto. weight: percent of the traffic that
    the canary gets. held: the phase that `paused` and `returning` came from. step: which of the course's steps runs, or
    is prepared; as many as there are: all of the traffic. baseline_count: replicas of the baseline at the beginning.
    is_return: asked for by `stoker rollback`. holds: a hook must approve it before it takes traffic; approved: who did,
    and why. arrivals: the canary's requests in this step. asked: all tries of the canary and of the baseline in it; the
    bad ones of these said nothing of their arm. told_s: when the newest entry of its timeline was made.
    """

    project: ProjectName
    endpoint: EndpointName
    baseline: str
    canary: str
    spec: Rollout
    strategy: Strategy
    phase: Phase
    because: str
    began_s: float
    since_s: float  # its phase began
    number: int = 0
    slow_s: float = 0.0
    weight: int = 0
    step: int = 0
    held: Phase = "scaling"
    baseline_count: int = 1
    is_return: bool = False
    holds: bool = False
    approved: str = ""
    arrivals: Tally = Tally()
    asked: tuple[Tally, Tally] = (Tally(), Tally())
    read: Read = Read()
    memory: Memory = Memory()
    findings: tuple[Finding, ...] = ()
    told_s: float = 0.0
    ended_s: float = 0.0

    @property
    def is_ended(self) -> bool:
        """Whether nothing more comes."""
        return self.phase in ENDED

    @property
    def holder(self) -> Hook | None:
        """Who must approve it, where anybody must."""
        return next((each for each in self.spec.hooks if each.holds), None)

    @property
    def is_stepping(self) -> bool:
        """Whether the canary has the share of its step, also while it is paused there."""
        return self.phase == "stepping" or (self.phase == "paused" and self.held == "stepping")


class Entry(msgspec.Struct, frozen=True):
    """One moment of a rollout's timeline: what happened, why, and how things stood then.

    event: of the table; `began`, or `look` for what was seen on the way.
    """

    at_s: float
    event: Event | str
    phase: Phase
    because: str
    weight: int = 0
    step: int = 0
    canary_ready: int = 0
    baseline_ready: int = 0
    arrivals: Tally = Tally()
    findings: tuple[Finding, ...] = ()
