"""One endpoint in this gateway: its replicas and the places in them.

A request holds a place in a replica from the moment it is sent until it ended. How many places a replica has is in
core/concurrency.py; who finds none waits (admission.py).
"""

import time
from collections.abc import Callable
from typing import Final

from stoker.core import admit, breaker, concurrency, hedge, poison, retry, reverts, sampling, tracing
from stoker.core.circuit import Circuit
from stoker.core.fairness import Ticket
from stoker.core.fallback import Step
from stoker.core.occupants import PAST_MAX, Occupants
from stoker.core.quota import Expectation
from stoker.core.turns import AHEAD
from stoker.gateway import arms
from stoker.gateway.admission import Admission
from stoker.gateway.elsewhere import Elsewhere, Standing, places_of_all, tenants
from stoker.gateway.exchange import Exchange
from stoker.gateway.fleet.choice import Choice
from stoker.gateway.fleet.health import Evidence, evidence
from stoker.gateway.fleet.replica import Replica
from stoker.gateway.fleet.starting import Starting, unavailable
from stoker.gateway.fleet.suspects import Suspects
from stoker.gateway.meters import Meters
from stoker.gateway.reverts import Reverts
from stoker.gateway.tier import Tier
from stoker.protocol.frames import EndHead
from stoker.types.errors import NotFound, StokerError, Unavailable
from stoker.types.loading import Loading
from stoker.types.rollouts import Reverted
from stoker.types.routes import EndpointRoute

EVIDENCE_S: Final = 0.1  # all replicas' looks within so long share what was seen of all
Convicted = Callable[["Lane", Exchange, str], None]  # the request, and the replica that died last


class Lane:
    """An endpoint's replicas and queue (fleet/replica.Watcher).

    Args:
        gateways: how many processes share the replicas' places.
        asleep: told when somebody waits where nothing runs that could be waited for.
        tell: told when somebody waits, where there are other gateways to tell (telling.py).
    """

    def __init__(
        self,
        endpoint: EndpointRoute,
        meters: Meters,
        convicted: "Convicted",
        gateways: int = 1,
        reverts: Reverts | None = None,
        asleep: Callable[[], None] | None = None,
        tell: "Callable[[Lane], None] | None" = None,
    ) -> None:
        self._convicted = convicted
        self._asleep = asleep
        self._tell = tell
        self._reverts = reverts or Reverts()
        self._told = endpoint
        self._gateways = gateways
        self.route = endpoint
        self.task: str = endpoint.task
        self.meters = meters
        self.book = poison.Book()
        self.budget = retry.Budget(time.monotonic())
        self.circuit = Circuit(endpoint.breaker, time.monotonic())
        self.tier: Tier | None = None  # of an endpoint with backends: it has no replicas
        self.plan: tuple[int, list[Step], list[Lane]] | None = None  # of layers/fallback.py, for one route table
        self.exchanges: set[Exchange] = set()  # those that hold a place
        self._occupants = Occupants()  # for whom
        self.elsewhere = Elsewhere()  # and in other gateways
        self.sampled: sampling.Sampled | None = None  # of an endpoint of which samples are kept
        self.hedges: hedge.Hedges | None = None  # of an endpoint that wants them
        self.arms: arms.Arms | None = None  # while a rollout runs
        self.suspects = Suspects()
        self.expectation = Expectation()  # what its requests cost in tokens
        self.pace = tracing.Pace()  # how long its requests take
        self.down_since_s = time.monotonic()
        self._replicas: dict[str, Replica] = {}
        self.choice = Choice(meters)
        self._starting = Starting()
        self._evidence, self._evidence_s = Evidence(), 0.0
        self.admission = Admission(self, tells=tell is not None)
        self._places = 0  # in all open replicas
        self._shared = 0  # places that parts are of: all gateways' where the others were heard
        self.placed = 0  # requests that got a place at their first try, ever
        self.update(endpoint)

    @property
    def replicas(self) -> list[Replica]:
        """Every replica in the table, open or not."""
        return list(self._replicas.values())

    @property
    def ready_count(self) -> int:
        """Replicas that take requests now."""
        return len(self.choice.open)

    def is_deserted(self) -> bool:
        """Return whether no replica takes requests; sees a death before the count of ready ones does."""
        return not any(replica.is_open for replica in self.choice.open)

    def versions(self) -> list[str]:
        """Return the versions that serve now, oldest first."""
        return sorted({each.version for each in self._replicas.values() if each.is_open}, key=lambda v: (len(v), v))

    def has_version(self, version: str) -> bool:
        """Return whether the table has a revision with `version`."""
        return any(revision.version == version for revision in self.route.revisions)

    def update(self, endpoint: EndpointRoute) -> None:
        """Follow a new route table: new replicas are connected, gone ones retire."""
        self._told = endpoint
        self.reverted = self._reverts.of(endpoint)
        if self.reverted is not None:
            endpoint = reverts.applied(self.reverted, endpoint)
        self.meters.reverted(is_reverted=self.reverted is not None)
        self.route = endpoint
        self.circuit.follow(endpoint.breaker)
        self.tier = Tier.following(self.tier, endpoint.backends)
        # Whether requests may be served by other endpoints, or refused by the breaker: layers/fallback.py.
        self.is_chained = bool(endpoint.fallback or endpoint.backends or endpoint.breaker.refuse)
        ratio = endpoint.trace_ratio
        self.traced_from = None if ratio is None else tracing.threshold(ratio)  # trace ids; None: the platform's
        self.hedges = (self.hedges or hedge.Hedges()) if endpoint.hedge else None
        self.sampled = sampling.following(self.sampled, endpoint.samples, self._gateways, time.monotonic())
        revisions = {str(revision.revision) for revision in endpoint.revisions}
        self.meters.keep(revisions, time.monotonic())
        self.meters.promise(endpoint.promised_to, endpoint.timed_for)
        self.arms = arms.following(self.arms, endpoint, self.meters, self.go_back)
        if self.arms is not None:
            self.arms.reverted = self.reverted.because if self.reverted is not None else ""
        self.choice.follow(endpoint, self.arms)
        wanted = {
            str(replica.replica): (replica, revision)
            for revision in endpoint.revisions
            for replica in revision.replicas
        }
        for name in [name for name in self._replicas if name not in wanted]:
            self._replicas.pop(name).retire()
            self.meters.forget_replica(name)
        for name, (replica, revision) in wanted.items():
            known = self._replicas.get(name)
            if known is None or known.address != replica.address or known.revision != revision.revision:
                if known is not None:
                    known.retire()
                self._replicas[name] = Replica(replica, str(revision.revision), revision.version, self)
            self._replicas[name].secrets, self._replicas[name].key = revision.secrets, revision.key
        self.refresh()

    def go_back(self, because: str, to: str = "") -> Reverted | None:
        """Give all traffic to `to`, or to the revision before, until a newer table says otherwise; None: to nobody."""
        told = self._told
        found = reverts.target(told, {each.revision for each in self.choice.able}, to)
        if not found:
            return None
        number = told.rollout.number if told.rollout is not None else 0
        because = because[: reverts.BECAUSE_MAX]
        reverted = Reverted(told.project, told.endpoint, found, because, number, reverts.weights(told))
        self._reverts.put(reverted)
        self.update(told)
        return reverted

    def close(self) -> list[Replica]:
        """Let the endpoint go: nobody waits any more, replicas retire; return them."""
        gone = NotFound(f"the endpoint {self.route.endpoint} was deleted", field="model")
        self.admission.refuse_all(gone)
        retired = list(self._replicas.values())
        self._replicas.clear()
        for replica in retired:
            replica.retire()
        self.choice.refresh(())
        return retired

    # ---- places

    def is_full(self) -> bool:
        """Return whether a request that comes now has to wait."""
        return len(self.exchanges) >= self._places or bool(self.admission)

    def take(self, exchange: Exchange) -> Replica | None:
        """Take a place for `exchange` if one is free, where the choice falls."""
        chosen = self.choice.choose(exchange)
        if chosen is not None:
            if exchange.wish is not None:
                self.choice.sent(exchange, chosen)
            self.hold(exchange, chosen)
        return chosen

    def may_pass(self) -> bool:
        """See admission.Places. A language model's requests join no call that waits."""
        if self.task == "chat" or len(self.exchanges) >= PAST_MAX * self._places:
            return False
        return self._occupants.may_be_below(self._shared)

    def is_owed(self, ticket: Ticket) -> bool:
        """See admission.Places."""
        return self._occupants.is_below(ticket.tenant, ticket.weight, self._shared)

    def take_past(self, exchange: Exchange) -> Replica | None:
        """Take a place for `exchange` past those of a replica: there it goes before what waits."""
        chosen = self.choice.choose_past(exchange, self.route.concurrency)
        if chosen is not None:
            exchange.turn = AHEAD
            self.hold(exchange, chosen)
        return chosen

    def hold(self, exchange: Exchange, replica: Replica) -> None:
        """Give `exchange` a place in `replica`."""
        if exchange.key is not None and self.task != "chat":  # of which nobody goes past
            limits = exchange.key.limits
            tenant, weight = limits.tenant or exchange.key.key, limits.weight
            if self.admission.is_asked and self._occupants.is_below(tenant, weight, self._shared):
                exchange.turn = exchange.turn or AHEAD  # a place is free here, but elsewhere somebody waits for one
            exchange.occupant = self._occupants.took(tenant, weight)
        self.placed += not exchange.tries
        replica.in_flight += 1
        replica.busy += exchange.share
        exchange.replica = replica
        exchange.revision = replica.revision
        self.exchanges.add(exchange)

    def release(self, exchange: Exchange) -> None:
        """Give the place of `exchange` to the next in the queue."""
        replica = exchange.replica
        if replica is not None:
            exchange.replica = None
            if exchange.occupant is not None:
                self._occupants.left(exchange.occupant)
                exchange.occupant = None
            self.exchanges.discard(exchange)
            replica.in_flight -= 1
            replica.busy = replica.busy - exchange.share if replica.in_flight else 0.0
            self.admission.serve()

    def convicted(self, exchange: Exchange, replica: str) -> None:
        """Tell what is around this gateway that requests like `exchange` kill; `replica` died last."""
        self._convicted(self, exchange, replica)

    def finished(self, exchange: Exchange, end: EndHead, took_s: float) -> None:
        """Learn from an answer: what a request takes, and what its replica can do."""
        self.admission.finished(exchange, end, took_s)
        replica = exchange.replica
        if replica is not None and not replica.stats.slots and not exchange.resume:
            now_s = time.monotonic()
            first_s = exchange.first_byte_s - now_s + took_s if exchange.first_byte_s else took_s
            replica.learned.sample(first_s, end.usage.input_tokens, replica.in_flight, now_s)

    # ---- what other gateways tell

    def waits(self) -> None:
        """See admission.Places."""
        if self._tell is not None and self.task != "chat":
            self._tell(self)

    def standing(self) -> Standing:
        """Return what others are told."""
        waiting, given = len(self.admission), self.admission.given
        return Standing(self.route.project, self.route.endpoint, waiting, tenants(self._occupants, given))

    def hear(self, gateway: str, standing: Standing, now_s: float) -> None:
        """Take what another gateway tells, and have those go who are owed a place by it."""
        self.admission.hear(self.elsewhere.hear(gateway, standing, now_s))
        self._heard()

    def _heard(self) -> None:
        self._occupants.hear(self.elsewhere.held())
        self.admission.is_asked = self.elsewhere.waiting > 0
        for replica in self.choice.open:
            replica.recount()
        self.refresh()

    # ---- what replicas tell (fleet/replica.Watcher)

    def replica_changed(self, replica: Replica) -> None:
        """See fleet/replica.Watcher."""
        self.refresh()

    def places(self, replica: Replica) -> int:
        """See fleet/replica.Watcher."""
        stats = replica.stats
        return concurrency.places(
            slots=stats.slots or replica.learned.limit,
            others=replica.others,
            in_flight=replica.in_flight,
            kv_used_ratio=stats.kv_used_ratio,
            gateways=self._gateways,
            most=self.route.concurrency,
            waiting=self.elsewhere.waiting,
        )

    def may_eject(self) -> bool:
        """See fleet/replica.Watcher: at most half of those that are connected."""
        up = [replica for replica in self._replicas.values() if replica.is_connected and replica.state == "ready"]
        return breaker.may_eject(sum(replica.is_ejected for replica in up), len(up))

    def evidence(self, now_s: float, *, is_fresh: bool) -> Evidence:
        """See fleet/replica.Watcher."""
        if is_fresh or now_s - self._evidence_s > EVIDENCE_S:
            self._evidence, self._evidence_s = evidence(self._replicas.values(), now_s), now_s
        return self._evidence

    def probe(self, replica: Replica) -> None:
        """See fleet/replica.Watcher."""
        if replica not in self.choice.probes:
            self.choice.probes.append(replica)

    def ejected(self, replica: Replica, reason: str) -> None:
        """Interrupt what can go elsewhere; the retry layer moves it. What answers, if badly, may finish."""
        self.meters.ejection(reason)
        if reason not in ("silent", "stuck"):
            return
        for exchange in [each for each in self.exchanges if each.replica is replica]:
            relay = exchange.relay
            if relay is None or (relay.is_direct and reason == "silent"):
                continue  # a silent replica says nothing of the server behind it
            if not exchange.is_started or exchange.transcript is not None:
                relay.abandon(Unavailable(f"the replica makes no progress ({reason})", retry_after_s=1.0))

    def refused(self) -> None:
        """See fleet/replica.Watcher: who waits and will not until then is told so."""
        wait_s = self.pause_s("", time.monotonic())
        if wait_s:
            self.admission.give_up(wait_s)

    def is_wanted(self) -> bool:
        """See fleet/replica.Watcher."""
        return bool(self.admission)

    def quietest(self) -> Replica | None:
        """Return the open replica with the fewest requests, for a trial."""
        return self.choice.quietest()

    def refresh(self) -> None:
        """Look again which replicas are open, and serve the queue from them."""
        self.choice.refresh(self._replicas.values())
        self._places = sum(replica.places for replica in self.choice.open)
        is_heard, most = self.elsewhere.is_heard, self.route.concurrency
        self._shared = places_of_all(self.choice.open, most) if is_heard else self._places
        if self.choice.open:
            self._starting.over()
        else:
            self.admission.move_on()
        self.admission.serve()

    def sweep(self, now_s: float) -> None:
        """Give up on what waits for nothing; forget what is old. Called about once a second."""
        self.budget.fade(now_s)
        if self.elsewhere.fade(now_s):
            self._heard()
        self.admission.sweep()
        self.choice.sweep(now_s)
        if self.book:
            self.book.sweep(now_s)
        if self.arms is not None:
            self.arms.sweep(now_s)
        if self.admission and self.is_down(now_s):
            self.admission.refuse_all(self.unavailable())
        elif self.admission and not self.choice.open:
            self.admission.tell(self.loading(now_s), now_s)

    def has_place(self) -> bool:
        """See admission.Places."""
        return any(replica.in_flight < replica.places for replica in self.choice.able)

    def pause_s(self, version: str, now_s: float) -> float:
        """Return how long nothing can be sent to replicas of `version` ("": any), because all of them are full."""
        able = (each for each in self.choice.able if version in ("", each.version))
        return max(min((each.paused_until_s for each in able), default=0.0) - now_s, 0.0)

    def is_down(self, now_s: float) -> bool:
        """Return whether no replica runs or loads, and none has for long enough to stop hoping."""
        return admit.is_down(
            holds=self.route.holds,
            replaces=self.arms is not None,
            count=len(self._replicas),
            gone=(
                (not each.is_connected and now_s - each.down_since_s > admit.DOWN_WAIT_S) or each.state == "failed"
                for each in self._replicas.values()
            ),
        )

    def loading(self, now_s: float) -> Loading | None:
        """Return how far the replicas are that are waited for; None while any is ready."""
        return None if self.choice.open else self._starting.look(self.route, self._replicas.values(), now_s)

    def cold(self) -> None:
        """Count a request that comes while no replica is ready, and have the endpoint wake if it sleeps."""
        self.meters.cold()
        if self.route.holds and self._asleep is not None:
            self._asleep()

    def unavailable(self) -> StokerError:
        """Return why nothing can serve, as far as known."""
        return unavailable(self.route, self._replicas.values())
