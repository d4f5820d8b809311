"""Rollouts over the control API: what it answers, as typed values, and what can be asked of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from stoker.client.connection import Connection, decode
from stoker.core.rollout.state import Entry
from stoker.core.rollout.table import ENDED, Phase
from stoker.core.verdict.odds import Tally
from stoker.types.rollouts import Arms, Rollout, Strategy

_JSON: Final = {"Content-Type": "application/json"}
Said = Literal["pause", "resume", "promote", "abort", "approve", "deny", "retry"]


class RolloutView(msgspec.Struct, frozen=True):
    """A rollout as lists show it.

    baseline, canary: revisions; …_model: the versions that they serve, "" of one that is gone. steps: percent of
    traffic; empty where nothing is compared. weight: percent that the canary has now. requests: that came to it in
    this step. requests_min, dwell_s: what a step needs. ordered: what somebody said that is yet to be done.
    """

    number: int
    project: str
    endpoint: str
    strategy: Strategy
    phase: Phase
    because: str
    baseline: str
    canary: str
    baseline_model: str = ""
    canary_model: str = ""
    steps: tuple[int, ...] = ()
    step: int = 0
    weight: int = 0
    requests: int = 0
    requests_min: int = 0
    dwell_s: float = 0.0
    began_s: float = 0.0
    since_s: float = 0.0
    ended_s: float = 0.0
    verdict: str = ""  # the newest sentence of who judges
    ordered: str = ""

    @property
    def is_ended(self) -> bool:
        """Whether nothing more comes."""
        return self.phase in ENDED


class LineView(msgspec.Struct, frozen=True):
    """What was seen of one metric of one cohort. e: its e-value; part: of what aborts, 1 aborts alone.

    canary, baseline: bad ones of how many; None where a metric is no share of bad ones (latencies), or has no
    baseline (answers to copies).
    """

    metric: str
    cohort: str
    e: float
    part: float
    because: str
    canary: Tally | None = None
    baseline: Tally | None = None


class RolloutDetail(RolloutView, frozen=True):
    """A rollout with all that its verdict is made of, the worst first, and its timeline, the oldest first.

    earlier: entries of the timeline that were not asked for.
    """

    spec: Rollout = Rollout()
    lines: tuple[LineView, ...] = ()
    part: float = 0.0  # of all lines together; 1 aborts
    posted: dict[str, Arms] = {}
    timeline: tuple[Entry, ...] = ()
    earlier: int = 0


class Told(msgspec.Struct, frozen=True):
    """What became of counts that a judge told: whether they count (a second delivery does not), and the sums now."""

    rollout: int
    counted: bool
    canary: Tally
    baseline: Tally


class _Items(msgspec.Struct, frozen=True):
    items: tuple[RolloutView, ...]


@dataclass(frozen=True, slots=True)
class RolloutClient:
    """Calls about rollouts. Every call raises the StokerError that control answered, or NotReachable."""

    connection: Connection

    def everything(
        self, project: str, endpoint: str | None = None, limit: int | None = None
    ) -> tuple[RolloutView, ...]:
        """Return the rollouts of a project or of one endpoint, newest first."""
        query = {"endpoint": endpoint, "limit": limit}
        return decode(
            self.connection.exchange("GET", f"/api/v1/projects/{project}/rollouts", query=query).body, _Items
        ).items

    def numbered(self, project: str, number: int, entries: int | None = None) -> RolloutDetail:
        """Return one rollout, with the newest `entries` of its timeline, or all."""
        return self._get(f"/api/v1/projects/{project}/rollouts/{number}", entries)

    def newest(self, project: str, endpoint: str, entries: int | None = None) -> RolloutDetail:
        """Return the newest rollout of an endpoint. Raises NotFound when there was none."""
        return self._get(f"/api/v1/projects/{project}/endpoints/{endpoint}/rollout", entries)

    def say(
        self, project: str, endpoint: str, order: Said, *, reason: str = "", over_budget: bool = False, rollout: int = 0
    ) -> RolloutView:
        """Have the endpoint's newest rollout paused, resumed, promoted, aborted, approved, denied or tried again.

        reason: for the journal. over_budget: also where the policy of an error budget freezes rollouts. rollout: its
        number, where that and no other is meant. Raises Conflict.
        """
        where = f"/api/v1/projects/{project}/endpoints/{endpoint}/rollout"
        said = {"order": order, "reason": reason, "over_budget": over_budget, "rollout": rollout}
        body = msgspec.json.encode(said)
        return decode(self.connection.exchange("POST", where, body=body, headers=_JSON).body, RolloutView)

    def judged(self, project: str, endpoint: str, counts: Mapping[str, object]) -> Told:
        """Tell what a judge counted since it told last."""
        where = f"/api/v1/projects/{project}/endpoints/{endpoint}/rollout/judged"
        return decode(
            self.connection.exchange("POST", where, body=msgspec.json.encode(counts), headers=_JSON).body, Told
        )

    def _get(self, path: str, entries: int | None) -> RolloutDetail:
        return decode(self.connection.exchange("GET", path, query={"entries": entries}).body, RolloutDetail)
