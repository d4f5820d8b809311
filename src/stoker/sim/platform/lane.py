"""One endpoint in one gateway: which replica takes a request, who waits, who is refused, what is tried again.

What `gateway/lane.py`, `gateway/admission.py` and `gateway/fleet/choice.py` do with sockets and futures, on virtual
time; every rule is the core's: route, concurrency, admit, fairness, retry, arms, sizes.
"""

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, NamedTuple

from stoker.core import admit, affinity, concurrency, fairness, retry, route, sizes
from stoker.sim.platform import plan
from stoker.sim.platform.arms import Watch
from stoker.sim.platform.cache import BLOCK_TOKENS
from stoker.sim.platform.clock import Clock
from stoker.sim.platform.replica import OPEN, Replica
from stoker.sim.platform.request import End, Request

BYTES_MAX: Final = 1 << 50  # bodies have no size here
SERVICE_SAMPLES: Final = 20  # as in gateway/admission.py
LEARN: Final = 0.05  # as in gateway/queue.py
FADE_S: Final = 1.0

Finished = Callable[[Request, End], None]


class Table(NamedTuple):
    """What a route table says of the endpoint beside its replicas. weights: of each revision, in percent."""

    weights: dict[str, int]
    holds: bool = True  # requests are waited with although nothing runs
    is_closed: bool = False  # no replica may be, by a schedule


class View:
    """A replica as one gateway sees it: what it has there itself, and what others had when it last heard."""

    __slots__ = ("busy", "cost", "in_flight", "is_ejected", "known", "others", "places", "replica")

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.in_flight = 0
        self.busy = 0.0
        self.others = 0
        self.places = 0
        self.cost = route.Cost()
        self.known = affinity.Known()  # prompts that were sent there
        self.is_ejected = False


class Lane:
    """The replicas and the queue of one endpoint in one gateway."""

    def __init__(
        self, kind: plan.EndpointPlan, clock: Clock, draws: Random, gateways: int, most: int, finished: Finished
    ) -> None:
        self.views: dict[Replica, View] = {}
        self.in_flight = 0
        self.watch: Watch | None = None  # while a rollout runs
        self._kind, self._clock, self._draws, self._gateways, self._most = kind, clock, draws, gateways, most
        self._finished = finished
        self._is_chat = isinstance(kind.engine, plan.Generating)
        self._line: fairness.Line[Request] = fairness.Line()
        self._listed: list[View] = []
        self._open: list[View] = []
        self._groups: dict[str, list[View]] = {}  # of `_open`, by revision
        self._table = Table({})
        self._places = 0
        self._service_s = 0.0
        self._samples = 0
        self._units = 1.0
        self._sizes = sizes.Sizes()
        self._budget = retry.Budget(0.0)
        self._faded_s = 0.0

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return self._line.count

    def follow(self, replicas: Sequence[Replica], table: Table, watch: Watch | None) -> None:
        """Take a new route table."""
        self._listed = [self.views.setdefault(each, View(each)) for each in replicas]
        listed = set(replicas)
        self.views = {key: view for key, view in self.views.items() if key in listed or view.in_flight}
        self._table, self.watch = table, watch
        self.refresh()
        self._sweep()

    def refresh(self) -> None:
        """Look again which replicas are open: gateways are connected to them, and see that themselves."""
        able = [each for each in self._listed if each.replica.state in OPEN and not each.is_ejected]
        self._open = [each for each in able if self._table.weights.get(each.replica.revision)]
        self._groups = {}
        for each in able:
            self._groups.setdefault(each.replica.revision, []).append(each)
        for each in able:
            self._count_places(each)
        self._places = sum(each.places for each in self._open)
        self.serve()

    def report(self, view: View) -> None:
        """Hear from a replica how many requests it has of all."""
        others = view.replica.in_flight - view.in_flight
        if others == view.others:
            return
        view.others, before = others, view.places
        self._count_places(view)
        self._places += view.places - before
        if view.places > before and self._line.count:
            self.serve()

    # ---- a request's way

    def come(self, request: Request) -> None:
        """Take a request that has just arrived."""
        now_s = self._clock.now_s
        request.lane = self
        self._budget.earn()
        if now_s - self._faded_s >= FADE_S:
            self._budget.fade(now_s)
            self._faded_s = now_s
        if self.watch is not None:
            request.arm = self.watch.draw(request)
        if self.in_flight < self._places and not self._line.count and self._send(request):
            return
        wait_s = admit.wait_s(self._line.ahead(request), self.in_flight, self._service_s)
        left_s = request.deadline_s - now_s
        answer = admit.decide(wait_s=wait_s, service_s=self._one_s, left_s=left_s, is_down=self._is_down())
        if answer != "wait":
            self._finished(request, self._unavailable() if answer == "down" else "refused")
            return
        victims = self._line.victims(request, self._kind.queue_max, BYTES_MAX)
        if victims is None:
            self._finished(request, "full")
            return
        for each in victims:
            self._line.withdraw(each)
            self._finished(each, "shed")
        request.version = request.arm  # who may go to one revision only is passed over while others have places
        self._line.put(request)
        if request.deadline_s < math.inf:
            self._clock.at(request.deadline_s, self._expire, request)
        self.serve()

    def serve(self) -> None:
        """Give free places to those who wait, in the core's order."""
        line = self._line
        closed: set[str] = set()
        while line.count and self._has_place():
            request = line.head(closed)
            if request is None:
                return
            left_s = request.deadline_s - self._clock.now_s
            if admit.is_lost(left_s=left_s, service_s=self._one_s, is_served=self.in_flight > 0):
                line.withdraw(request)
                self._finished(request, "late")
            elif self._send(request):
                line.go(request)
                line.charge(request.tenant, self._units, request.weight)
            else:
                closed.add(request.version)

    def ended(self, replica: Replica, request: Request, *, is_answered: bool, is_error: bool) -> None:
        """Take what became of a request in `replica`, learn from it, and give its place to the next."""
        now_s = self._clock.now_s
        took_s = now_s - request.sent_s
        view = self._release(replica, request)
        if self.watch is not None and request.tries == 0:
            self.watch.count(request, took_s, is_error=is_error or not is_answered)
        if not is_answered or is_error:
            self._finished(request, "failed" if is_error else "refused")
        else:
            self._learn(view, request, took_s, now_s)
            self._finished(request, "ok" if now_s <= request.deadline_s else "late")
        if self._line.count:
            self.serve()

    def lost(self, replica: Replica, request: Request) -> None:
        """Try a request elsewhere whose replica died, or is silent: once for nothing, then within the budget."""
        self._release(replica, request)
        if self.watch is not None and request.tries == 0:
            self.watch.count(request, self._clock.now_s - request.sent_s, is_error=True)
        request.tries += 1
        is_allowed = request.tries == 1 or self._budget.spend(self._clock.now_s)
        if request.tries >= retry.TRIES_MAX or not is_allowed:
            self._finished(request, "failed")
            return
        request.arm = request.version = ""
        if not self._send(request):
            self._line.put_again(request)
            if request.deadline_s < math.inf:
                self._clock.at(request.deadline_s, self._expire, request)
            self._sweep()

    def eject(self, view: View) -> None:
        """Send nothing more to a silent replica, and move what this gateway has there."""
        view.is_ejected = True
        self.refresh()
        replica = view.replica
        mine = [each for each in replica.held if each.lane is self]
        replica.held = [each for each in replica.held if each.lane is not self]
        for each in mine:
            self.lost(replica, each)

    # ---- nothing runs

    def _is_down(self) -> bool:
        """As gateway/lane.py; while the table lists a replica, it is taken to come back."""
        return admit.is_down(
            holds=self._table.holds,
            replaces=self.watch is not None,
            count=len(self._listed),
            gone=(False,),
        )

    def _unavailable(self) -> End:
        return "closed" if self._table.is_closed else "down"

    def _sweep(self) -> None:
        """Send away who waits for nothing: live within a second, and here at once."""
        while self._line.count and self._is_down():
            request = self._line.head(())
            assert request is not None
            self._line.withdraw(request)
            self._finished(request, self._unavailable())

    # ---- places and choice

    def _send(self, request: Request) -> bool:
        view = self._choose(request)
        if view is None:
            return False
        if self._is_chat:
            self._remember(view, request)
        view.in_flight += 1
        view.busy += request.share
        self.in_flight += 1
        request.sent_s = self._clock.now_s
        view.replica.take(request)
        return True

    def _choose(self, request: Request) -> View | None:
        """Return a replica with a free place, the cheaper of two drawn at random; None when there is none."""
        found = self._open
        if self.watch is not None:
            found = self._of_arm(request)
        count = len(found)
        if count < 2:
            return found[0] if count and found[0].in_flight < found[0].places else None
        if request.blocks:
            return self._by_prefix(request, found)
        chosen = self._cheaper(found)
        if chosen.in_flight >= chosen.places:
            chosen = min(found, key=_fullness)
        return chosen if chosen.in_flight < chosen.places else None

    def _cheaper(self, found: list[View]) -> View:
        first, second = route.pair(len(found), self._draws.random(), self._draws.random())
        one, other = found[first], found[second]
        price_s = route.price_s(one.cost.value_s, one.busy + one.others)
        return one if price_s <= route.price_s(other.cost.value_s, other.busy + other.others) else other

    def _by_prefix(self, request: Request, found: list[View]) -> View | None:
        """As gateway/fleet/choice.py: who knows the prompt's beginning and is not overloaded, else the cheaper."""
        free = [each for each in found if each.in_flight < each.places]
        if not free:
            return None
        index = self._owner(request, found)
        if index >= 0 and found[index].in_flight >= found[index].places:
            found, index = free, self._owner(request, free)
        if index >= 0:
            return found[index]
        return self._cheaper(free) if len(free) > 1 else free[0]

    def _owner(self, request: Request, found: list[View]) -> int:
        now_s = self._clock.now_s
        loads = [each.busy + each.others for each in found]
        prices_s = [route.price_s(each.cost.value_s, load) for each, load in zip(found, loads, strict=True)]
        matched = [each.known.matched(request.blocks, now_s) for each in found]
        spill = affinity.spill(found[0].replica.engine.slots)
        index, _ = affinity.by_prefix(matched, len(request.blocks), loads, prices_s, spill, self._draws.random())
        return index

    def _remember(self, view: View, request: Request) -> None:
        """Know what a replica gets of prompts, and how large the request is beside the usual."""
        known = 0
        if request.blocks:
            known = view.known.matched(request.blocks, self._clock.now_s) * BLOCK_TOKENS
            view.known.learn(request.blocks, self._clock.now_s)
        chars = sizes.CHARS_PER_TOKEN
        request.share = self._sizes.share(int(request.input_tokens * chars), int(known * chars), 0)

    def _of_arm(self, request: Request) -> list[View]:
        """As gateway/fleet/choice.py: a full canary's request goes to the baseline, a second try does too."""
        assert self.watch is not None
        found = self._groups.get(request.arm)
        if found is None:
            return self._groups.get(self.watch.baseline, self._open) if request.tries else self._open
        if request.arm == self.watch.canary and not any(each.in_flight < each.places for each in found):
            return self._groups.get(self.watch.baseline, found)
        return found

    def _has_place(self) -> bool:
        return any(each.in_flight < each.places for each in self._open)

    def _count_places(self, view: View) -> None:
        view.places = concurrency.places(
            slots=view.replica.engine.slots,
            others=view.others,
            in_flight=view.in_flight,
            kv_used_ratio=0.0,
            gateways=self._gateways,
            most=self._most,
        )

    def _release(self, replica: Replica, request: Request) -> View:
        view = self.views[replica]
        view.in_flight -= 1
        view.busy = view.busy - request.share if view.in_flight else 0.0
        self.in_flight -= 1
        request.replica = None
        replica.leave()
        return view

    def _learn(self, view: View, request: Request, took_s: float, now_s: float) -> None:
        if self._is_chat:
            units = sizes.units(request.input_tokens - request.cached_tokens, request.output_tokens)
            self._sizes.ended(request.output_tokens)
            view.cost.observe(took_s / units, now_s)
            served = fairness.token_units(request.input_tokens, request.cached_tokens, request.output_tokens)
        else:
            view.cost.observe(took_s, now_s)
            served = (now_s - request.begun_s) * 1000.0
        self._samples = min(self._samples + 1, SERVICE_SAMPLES)
        self._service_s += (took_s - self._service_s) / self._samples
        if self._line.count:
            self._line.charge(request.tenant, served - self._units, request.weight)
        self._units += LEARN * (served - self._units)

    @property
    def _one_s(self) -> float:
        return 0.0 if self._is_chat else self._service_s

    def _expire(self, request: Request) -> None:
        if request.is_waiting:
            self._line.withdraw(request)
            self._finished(request, "late")


def _fullness(view: View) -> int:
    return view.in_flight - view.places
