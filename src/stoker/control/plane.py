"""The control plane as one value: what the API asks and tells."""

import asyncio
from dataclasses import dataclass

from stoker.control.ahead import AheadWatch
from stoker.control.audit.auditor import Auditor
from stoker.control.boundary import BoundaryWatch
from stoker.control.budgets import Budgets
from stoker.control.costs.book import CostBook
from stoker.control.drift.watch import DriftWatch
from stoker.control.feedback import FeedbackWatch
from stoker.control.gauges import Gauges
from stoker.control.hooks import HookPost
from stoker.control.identity.signing_in import SignIn
from stoker.control.loop import Loop
from stoker.control.models import ModelRegistry
from stoker.control.nodes import Nodes
from stoker.control.numbers import Numbers
from stoker.control.observe import Observer
from stoker.control.policies import Admission
from stoker.control.quiet import Quiet
from stoker.control.releases.runner import Releases
from stoker.control.remedies import Remedies
from stoker.control.replay import Replayer
from stoker.control.rollouts import RolloutWatch
from stoker.control.routes import RoutePublisher
from stoker.control.scaling.watch import ScalingWatch
from stoker.control.secrets import SecretWatch
from stoker.control.shapes import ShapeWatch
from stoker.control.starts import StartWatch
from stoker.control.stats import StatsReader
from stoker.control.traces import Traces
from stoker.control.usage import UsageBook
from stoker.control.used import KeyUse
from stoker.core.shares import Teller
from stoker.observe.history.collect import Collector
from stoker.observe.history.history import History
from stoker.observe.incidents.incidents import Incidents
from stoker.observe.notify.post import Post
from stoker.observe.objectives.watch import Watch
from stoker.observe.samples import SampleStore
from stoker.placement.port import Driver
from stoker.store.engine import Database
from stoker.telemetry.metrics import Registry
from stoker.types.tuning import Tuning


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Everything that one control process is made of. `process` is its name in metrics."""

    database: Database
    driver: Driver
    observer: Observer
    models: ModelRegistry
    admission: Admission
    routes: RoutePublisher
    loop: Loop
    history: History
    collector: Collector
    stats: StatsReader
    gauges: Gauges
    incidents: Incidents
    remedies: Remedies
    rollouts: RolloutWatch
    quiet: Quiet
    replayer: Replayer
    shares: Teller
    budgets: Budgets
    watch: Watch
    post: Post
    metrics: Registry
    samples: SampleStore
    numbers: Numbers
    drift: DriftWatch
    traces: Traces
    feedback: FeedbackWatch
    hooks: HookPost
    releases: Releases
    scaling: ScalingWatch
    starts: StartWatch
    shapes: ShapeWatch
    boundary: BoundaryWatch
    used: KeyUse
    usage: UsageBook
    ahead: AheadWatch
    audit: Auditor
    costs: CostBook
    sign_in: SignIn
    secrets: SecretWatch
    usual: Tuning  # the settings that can be changed, as it was started
    nodes: Nodes
    process: str = "control"

    async def published(self, wait_s: float) -> tuple[str, ...]:
        """Return when what was written before is in the table that every connected gateway follows.

        After `wait_s` in any case: then the gateways that do not, by name.
        """
        clock = asyncio.get_running_loop().time
        end_s = clock() + wait_s
        is_decided = await self.loop.turned(wait_s)
        version = self.routes.table.version if is_decided else self.routes.table.version + 1
        return await self.routes.followers.follow(version, end_s - clock())

    @property
    def is_ready(self) -> bool:
        """Whether gateways can be served: there is a route table."""
        return self.routes.is_ready
