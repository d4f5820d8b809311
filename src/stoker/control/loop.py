"""The one loop that acts: observe, decide, apply; woken by every change, and every RESYNC_S without one.

Decisions look at levels, never at events: what was missed, lost in a crash or done twice is right after the next
turn. Only the holder of the lease acts; its token goes with every write and every call to an agent.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, cast

import msgspec

from stoker.control import apply, deaths
from stoker.control.apply import Effects
from stoker.control.observe import RESYNC_S, Observer, State, read_state
from stoker.control.ports import Folders
from stoker.control.routes import RoutePublisher, next_table, tuned
from stoker.control.scaling.gather import closed_of
from stoker.core import reconcile
from stoker.core.actions import Action, ChangeRollout, ForgetReplica, ForgetRevision, RemoveEndpoint
from stoker.core.enforce import Asked
from stoker.core.pooling import Turn
from stoker.core.reconcile import Plan
from stoker.core.rollout.table import Order
from stoker.core.secrets import Rules
from stoker.core.snapshot import EndpointKey, EndpointState, Snapshot
from stoker.store import leases
from stoker.store.engine import Connection, Database
from stoker.store.leases import Lease, LeaseLost
from stoker.store.versions import Versions
from stoker.telemetry.metrics import Registry
from stoker.types.loading import Usual
from stoker.types.remedies import Act
from stoker.types.rollouts import RolloutCounts
from stoker.types.routes import RouteTable
from stoker.types.tuning import Tuning

LEASE: Final = "control"
FOLLOW_S: Final = 2.0  # between two tries to get a lease that another holds
# Changes that come together are one turn; far below what a person or a rollout notices.
GATHER_S: Final = 0.01
ERROR_FIRST_S: Final = 0.2
ERROR_MAX_S: Final = 10.0

log = logging.getLogger(__name__)


class Decision(msgspec.Struct, frozen=True):
    """One turn's outcome, as stored."""

    plan: Plan
    state: State
    table: RouteTable
    encoded: bytes
    unread: tuple[str, ...]  # settings


class Loop:
    """Runs until stopped. `wake` says that something changed."""

    def __init__(
        self,
        database: Database,
        observer: Observer,
        effects: Effects,
        routes: RoutePublisher,
        folders: Folders,
        holder: str,
        metrics: Registry,
    ) -> None:
        self._database = database
        self._observer = observer
        self._effects = effects
        self._routes = routes
        self.folders = folders
        self._holder = holder
        self._metrics = metrics
        self._awake = asyncio.Event()
        self._turned: list[asyncio.Future[None]] = []
        self._lease: Lease | None = None
        self._renewed_s = 0.0
        self._errors = 0
        self._last: Plan = Plan()
        self._is_stopping = False
        # What objectives ask for, by endpoint; None while nobody has looked.
        self.asked: Callable[[], Mapping[EndpointKey, Asked] | None] = lambda: None
        self.acts: Callable[[], Mapping[EndpointKey, tuple[Act, ...]] | None] = dict  # of incidents, in force
        # What gateways counted of rollouts, by number and boot; requests a second of endpoints lately.
        self.readings: Callable[[], Mapping[int, Mapping[str, RolloutCounts]]] = dict
        self.rates: Callable[[], Mapping[EndpointKey, float]] = dict
        self.scaled: Callable[[], Mapping[EndpointKey, int] | None] = dict  # replicas that the load calls for
        self.starts: Callable[[Connection], Mapping[EndpointKey, Usual]] = lambda _: {}  # what they usually take
        self.rules = Rules("", "")  # which secrets projects may name
        self.rests: Callable[[], Mapping[EndpointKey, Turn]] = dict  # without a replica because of others
        # What tells gateways where replicas are, by the rows of a transaction.
        self.located: Callable[[Connection], Callable[[str], str]] = lambda _: self.folders.address
        self.spent: Callable[[Connection, float], Mapping[str, str]] = lambda _c, _n: {}  # projects without GPU-hours
        self.state: State | None = None  # what was stored after the last turn
        self.decided: Callable[[], None] = lambda: None  # called when a turn did something
        self._versions = Versions()  # of the thread that writes
        self._wanted: set[tuple[str, str]] = set()  # endpoints with that gauge
        self._told: dict[str, int] = {}  # restarts by replica that are in the journal
        self._unread: tuple[str, ...] = ()

    @property
    def lease(self) -> Lease | None:
        """The lease, while this process holds it."""
        return self._lease

    def wake(self) -> None:
        """Have a turn begin soon. Call it in the event loop's thread."""
        self._awake.set()

    async def turned(self, wait_s: float) -> bool:
        """Return when a turn that began after this call is over: what was written before is decided and published.

        Returns after `wait_s` in any case, then False: a write is done when it is stored, not when it is acted on.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turned.append(done)
        self.wake()
        await asyncio.wait((done,), timeout=wait_s)
        return not done.cancel()

    async def run(self) -> None:
        """Turn until `stop`; then give the lease back."""
        while not self._is_stopping:
            self._awake.clear()
            waiting, self._turned = self._turned, []
            wait_s = await self._turn_safely()
            for done in waiting:
                if not done.done():
                    done.set_result(None)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._awake.wait(), wait_s)
            if not self._is_stopping:
                await asyncio.sleep(GATHER_S)
        if self._lease is not None:
            lease, self._lease = self._lease, None
            await self._database.writing(lambda connection: leases.release(connection, lease))

    def stop(self) -> None:
        """Have `run` return after the turn that runs."""
        self._is_stopping = True
        self.wake()

    async def _turn_safely(self) -> float:
        """Turn once and return how long to wait for the next; whatever goes wrong, the loop goes on."""
        began_s = time.perf_counter()
        try:
            wait_s = await self._turn()
        except LeaseLost as lost:
            log.warning("another control acts now", extra={"reason": str(lost)})
            self._lease = None
            return FOLLOW_S
        except Exception:  # a bug in one decision must not end the control of all others
            self._errors += 1
            self._metrics.counter("stoker_loop_errors_total").add()
            log.exception("a turn of the loop failed", extra={"in_a_row": self._errors})
            return min(ERROR_FIRST_S * 2.0 ** min(self._errors, 16), ERROR_MAX_S)
        self._errors = 0
        self._metrics.histogram("stoker_loop_seconds").observe(time.perf_counter() - began_s)
        return wait_s

    async def _turn(self) -> float:
        lease = await self._hold()
        if lease is None:
            return FOLLOW_S
        seen = Snapshot(
            nodes=self._observer.nodes(),
            start_failures=self._effects.failures(),
            asked=self.asked(),
            acts=self.acts(),
            readings=self.readings(),
            rates=self.rates(),
            scaled=self.scaled(),
            rests=self.rests(),
        )
        decision, self._told = await self._database.writing(lambda connection: self._decide(connection, lease, seen))
        self.state = decision.state
        self._routes.publish(decision.table, decision.encoded)
        self._tell_unread(decision.unread)
        self._count_wanted(decision.state.endpoints)
        for action in decision.plan.actions:
            if isinstance(action, ChangeRollout) and not action.is_news:
                continue
            self._metrics.counter("stoker_decisions_total", action=type(action).__name__).add()
            log.info("decided", extra={"action": type(action).__name__, "because": action.because})
        if decision.plan.actions:
            self.decided()
        await self._effects.run(decision.plan, decision.state, lease)
        self._forget_gone(decision.plan.actions)
        return self._next_s(decision.plan)

    def _forget_gone(self, actions: Iterable[Action]) -> None:
        """Drop the series of what is no more: they would stay until those of new endpoints had no room."""
        for action in actions:
            match action:
                case RemoveEndpoint():
                    self._metrics.forget(project=action.project, endpoint=action.endpoint)
                case ForgetReplica():
                    self._metrics.forget(replica=action.replica)
                case ForgetRevision():
                    self._metrics.forget(project=action.project, endpoint=action.endpoint, revision=action.revision)

    def _decide(self, connection: Connection, lease: Lease, seen: Snapshot) -> tuple[Decision, dict[str, int]]:
        now_s = time.time()
        leases.guard(connection, lease)
        seen = msgspec.structs.replace(seen, spent=self.spent(connection, now_s))
        where = Late(lambda: self.located(connection))
        before = self._routes.table.tuning
        decision = decide(connection, seen, where, now_s, self.starts(connection), self._versions, self.rules, before)
        return decision, deaths.note(connection, seen.nodes, self._told, now_s)

    def _tell_unread(self, names: tuple[str, ...]) -> None:
        """Say once, and show as long as it lasts, which settings are kept that cannot be read."""
        self._metrics.gauge("stoker_settings_unread").set(float(len(names)))
        if names and names != self._unread:
            log.warning("settings are kept that this version cannot read", extra={"settings": ", ".join(names)})
        self._unread = names

    def _count_wanted(self, endpoints: Iterable[EndpointState]) -> None:
        wanted = {(str(each.project), str(each.name)): each.status.replicas_wanted for each in endpoints}
        for project, endpoint in self._wanted - wanted.keys():
            self._metrics.drop("stoker_replicas_wanted", project=project, endpoint=endpoint)
        for (project, endpoint), count in wanted.items():
            self._metrics.gauge("stoker_replicas_wanted", project=project, endpoint=endpoint).set(float(count))
        self._wanted = set(wanted)

    def _next_s(self, plan: Plan) -> float:
        due: list[float] = [RESYNC_S]
        news = [each for each in plan.actions if not isinstance(each, ChangeRollout) or each.is_news]
        if news and plan.actions != self._last.actions:  # the same again: its nodes have yet to answer
            due.append(0.0)
        self._last = plan
        due.extend(each for each in (plan.again_s, self._effects.due_in_s()) if each is not None)
        return min(due)

    async def _hold(self) -> Lease | None:
        """Return the lease, renewed when it is time."""
        now_s = time.time()
        if self._lease is None or not 0 <= now_s - self._renewed_s < leases.RENEW_S:
            held = await self._database.writing(
                lambda connection: leases.acquire(connection, LEASE, self._holder, now_s)
            )
            if held is not None and held != self._lease:
                log.info("acting", extra={"holder": held.holder, "token": held.token})
            self._lease, self._renewed_s = held, now_s
        fence = max((status.fence for status in self._observer.statuses), default=0)
        held = self._lease
        if held is not None and fence > held.token:
            outranked = held
            log.warning("a node obeyed a newer control than the database knows", extra={"fence": fence})
            self._lease = await self._database.writing(lambda connection: leases.outrank(connection, outranked, fence))
        return self._lease


class Late:
    """Looks where replicas are when that is first asked, after the plan has been written."""

    def __init__(self, look: Callable[[], Callable[[str], str]]) -> None:
        self._look = look
        self._found: Callable[[str], str] | None = None

    def __call__(self, replica: str) -> str:
        """Return the address of a replica."""
        if self._found is None:
            self._found = self._look()
        return self._found(replica)


def decide(
    connection: Connection,
    seen: Snapshot,
    address: Callable[[str], str],
    now_s: float,
    starts: Mapping[EndpointKey, Usual],
    kept: Versions,
    rules: Rules,
    before: Tuning,
) -> Decision:
    """Read, decide and store in one transaction: nobody else's write comes between what was seen and what is done.

    seen: what is known from elsewhere than the database. kept: the versions that were read before. before: settings
    that were. Guard the lease.
    """
    state = read_state(connection, kept)
    snapshot = msgspec.structs.replace(
        seen,
        endpoints=state.endpoints,
        revisions=state.revisions,
        assignments=state.assignments,
        targets=state.targets,
        rollouts=tuple(each.state for each in state.rollouts),
        orders={each.state.number: cast(Order, each.ordered) for each in state.rollouts if each.ordered},
        words={each.state.number: each.words for each in state.rollouts if each.ordered},
        posted={each.state.number: each.posted for each in state.rollouts},
        dossiers=state.dossiers,
        closed=closed_of(state.endpoints, now_s),
    )
    plan = reconcile.plan(snapshot, now_s)
    if not plan.is_empty:
        apply.write(connection, plan, now_s)
        state = read_state(connection, kept)
    kept_settings = tuned(connection, before)
    table, encoded = next_table(connection, state, address, now_s, starts, rules, snapshot.closed, kept_settings.tuning)
    return Decision(plan, state, table, encoded, kept_settings.unread)
