"""Which replica of an endpoint takes a request: draws, looks and compares.

During a rollout the arm is chosen first. A request for a full canary goes to the baseline (of an A/B, it waits); one
for a full baseline waits, because the canary must not get more than its share. A second try goes to the baseline, where
that is ready, even if it has no weight any more (blue-green), and so do all while nothing that has a weight takes
requests. While a trial has the only replica of the baseline for itself, those that were drawn for it wait too.

The rules are in core/route.py (cost), core/affinity.py (sessions, known prompts) and core/sizes.py (how much work).
"""

import random
import time
from collections import deque
from collections.abc import Collection, Sequence
from typing import Final

from stoker.core import affinity, route, sizes
from stoker.core.occupants import PAST_MAX
from stoker.gateway.arms import Arms
from stoker.gateway.exchange import Exchange
from stoker.gateway.fleet.replica import Replica
from stoker.gateway.meters import Meters
from stoker.gateway.protocols.prefix import BLOCK_BYTES, Wish
from stoker.types.replica import Usage
from stoker.types.routes import EndpointRoute

PROBES_MAX: Final = 64


class Choice:
    """The replicas that take requests now, and the choice between them. The lane says when to look again."""

    def __init__(self, meters: Meters) -> None:
        self.able: list[Replica] = []  # that take requests now
        self.open: list[Replica] = []  # of them: those of revisions with a weight
        self.affinity: affinity.Kind = "none"
        self.probes: deque[Replica] = deque(maxlen=PROBES_MAX)  # that are out; each gets the next request
        self.arms: Arms | None = None  # while a rollout runs
        self.may_hedge = True  # every arm could
        self._all: Collection[Replica] = ()
        self._weights: dict[str, int] = {}
        self._groups: dict[str, list[Replica]] = {}  # those of `able` by revision
        self._drawn: list[str] = []  # revisions of `open`
        self._shares: list[int] = []  # their weights
        self._held: set[str] = set()  # revisions of which a trial has a replica for itself
        self._sizes = sizes.Sizes()
        self._meters = meters
        self._by_cost = meters.choice("two_choices")

    @property
    def asks(self) -> bool:
        """Return whether a request's wish makes a difference. Replicas that start or are out count: they come back."""
        return self.affinity != "none" and len(self._all) > 1

    def follow(self, endpoint: EndpointRoute, arms: Arms | None) -> None:
        """Take what a new route table says."""
        self.arms = arms
        self._weights = {str(revision.revision): revision.weight for revision in endpoint.revisions}
        self.affinity = affinity.kind(endpoint.affinity, endpoint.task)

    def refresh(self, replicas: Collection[Replica]) -> None:
        """Look again which of `replicas` are open."""
        self._all = replicas
        self.able = [replica for replica in replicas if replica.is_open]
        self.open = [replica for replica in self.able if self._weights.get(replica.revision)]
        self._groups = {}
        for replica in self.able:
            self._groups.setdefault(replica.revision, []).append(replica)
        if self.arms is not None and not self.open:  # rather the revision before, without a weight, than nobody
            self.open = self._groups.get(self.arms.baseline, [])
        self._drawn = [name for name in self._groups if self._weights.get(name)]
        self._shares = [self._weights[name] for name in self._drawn]
        self._held = {each.revision for each in replicas if each.is_reserved and each.is_connected}
        # Both arms are hedged, or neither: an arm of one replica would have the longer tail by its number alone.
        self.may_hedge = self.arms is None or all(len(self._groups[name]) > 1 for name in self._drawn)

    def has_able(self, revision: str) -> bool:
        """Return whether a replica of `revision` takes requests, whatever its weight."""
        return revision in self._groups

    def choose(self, exchange: Exchange) -> Replica | None:
        """Return a replica with a free place: where the request's wish falls, or the cheaper of two drawn at random.

        None when no place is free.
        """
        found = self.open
        if exchange.version or len(self._weights) > 1:
            found = self._candidates(exchange)
        if exchange.avoid is not None and len(found) > 1:
            found = [replica for replica in found if replica is not exchange.avoid]
        count = len(found)
        if count == 0:
            return None
        if self.probes and (probed := self._probed(exchange)) is not None:
            return probed
        if count == 1:
            return found[0] if found[0].in_flight < found[0].places else None
        if exchange.wish is not None:
            return self._wished(exchange.wish, found)
        chosen = self._cheaper(found)
        if chosen.in_flight >= chosen.places:
            chosen = min(found, key=_fullness)
            if chosen.in_flight >= chosen.places:
                return None
        self._by_cost.value += 1
        return chosen

    def choose_past(self, exchange: Exchange, most: int) -> Replica | None:
        """Return the emptiest replica for `exchange`, past its places; None when each holds all it may so.

        most: requests in one replica, whoever sent them.
        """
        found = self.open
        if exchange.version or len(self._weights) > 1:
            found = self._candidates(exchange)
        chosen = min(
            (each for each in found if each.places and each is not exchange.avoid), key=_fullness, default=None
        )
        if chosen is None or chosen.in_flight + chosen.others >= most:
            return None
        return chosen if chosen.in_flight < PAST_MAX * chosen.places else None

    def free(self, revision: str) -> Replica | None:
        """Return the emptiest replica of `revision` with a free place, whatever its weight."""
        found = min(self._groups.get(revision, ()), key=_fullness, default=None)
        return found if found is not None and found.in_flight < found.places else None

    def quietest(self) -> Replica | None:
        """Return the open replica with the fewest requests, for a trial: the baseline's, which is known to work."""
        found = self._groups.get(self.arms.baseline) if self.arms is not None else None
        return min(found or self.open, key=lambda replica: replica.load, default=None)

    def again_s(self, exchange: Exchange, full: Replica, told_s: float, now_s: float) -> float:
        """Return how long `exchange` waits when `full` refused it for `told_s`: until another takes requests."""
        others = (each for each in self.able if each is not full and exchange.version in ("", each.version))
        return min(max(min((each.paused_until_s - now_s for each in others), default=told_s), 0.0), told_s)

    def sent(self, exchange: Exchange, replica: Replica) -> None:
        """Remember that `replica` gets the prompt of `exchange`."""
        wish = exchange.wish
        if wish is None:
            return
        if wish.blocks:
            now_s = time.monotonic()
            wish.matched = replica.known.matched(wish.blocks, now_s)
            replica.known.learn(wish.blocks, now_s)
        if wish.prompt_bytes:
            exchange.share = self._sizes.share(wish.prompt_bytes, wish.matched * BLOCK_BYTES, exchange.max_tokens)

    def ended(self, exchange: Exchange, usage: Usage) -> None:
        """Compare with what was guessed when it was sent, and learn how long answers are."""
        wish = exchange.wish
        if wish is None:
            return
        self._sizes.ended(usage.output_tokens)
        if wish.blocks and usage.input_tokens:
            guessed = wish.matched >= max(1.0, affinity.MATCH_MIN_RATIO * len(wish.blocks))
            was = usage.cached_tokens >= affinity.MATCH_MIN_RATIO * usage.input_tokens
            self._meters.guess(guessed=guessed, was=was)

    def sweep(self, now_s: float) -> None:
        """Forget what is old. Called about once a second."""
        for replica in self._all:
            replica.known.sweep(now_s)

    def _wished(self, wish: Wish, found: list[Replica]) -> Replica | None:
        """Return where `wish` falls among those of `found` with a free place; None when there is none."""
        free = [replica for replica in found if replica.in_flight < replica.places]
        if not free:
            return None
        index, why = self._fallen(wish, found)
        if index >= 0 and found[index].in_flight >= found[index].places:
            found, why = free, "overloaded_owner"
            index, _ = self._fallen(wish, found)
        self._meters.choice(why).add(1)
        if index >= 0:
            return found[index]
        return self._cheaper(free) if len(free) > 1 else free[0]

    def _fallen(self, wish: Wish, found: Sequence[Replica]) -> tuple[int, affinity.Why]:
        """Return the index of the replica that `wish` falls on, -1 for none, and why."""
        spill = affinity.spill(found[0].stats.slots)
        loads = [replica.load for replica in found]
        if wish.session:
            return affinity.by_session(wish.session, [replica.node for replica in found], loads, spill)
        if not wish.blocks:
            return -1, "two_choices"
        now_s = time.monotonic()
        matched = [replica.known.matched(wish.blocks, now_s) for replica in found]
        prices_s = [route.price_s(replica.cost.value_s, replica.load) for replica in found]
        return affinity.by_prefix(matched, len(wish.blocks), loads, prices_s, spill, random.random())

    def _cheaper(self, found: Sequence[Replica]) -> Replica:
        first, second = route.pair(len(found), random.random(), random.random())
        one, other = found[first], found[second]
        # Of equals the first: the order of the two is random.
        if route.price_s(one.cost.value_s, one.busy + one.others) <= route.price_s(
            other.cost.value_s, other.busy + other.others
        ):
            return one
        return other

    def _probed(self, exchange: Exchange) -> Replica | None:
        """Return a replica that is out and gets this one request, to see how it does now."""
        if exchange.tries or exchange.version:
            return None
        replica = self.probes.popleft()
        if self.arms is not None and replica.revision != exchange.arm:
            self.probes.append(replica)  # for a request of its own arm
            return None
        may_be_tried = replica.is_ejected and not replica.is_reserved and replica.is_connected
        if not may_be_tried or replica.in_flight >= replica.places or not self._weights.get(replica.revision):
            return None
        self._meters.choice("probe").add(1)
        return replica

    def _candidates(self, exchange: Exchange) -> list[Replica]:
        """Return the open replicas of one revision: the one asked for, the arm's, or one drawn by weight."""
        if exchange.version:
            return [each for each in self._all if each.is_open and each.version == exchange.version]
        arms = self.arms
        if arms is not None and exchange.arm:
            return self._of_arm(exchange.arm, arms)
        if len(self._drawn) < 2:
            return self.open
        name = self._drawn[route.weighted(self._shares, random.random())]
        return self._groups[name]

    def _of_arm(self, arm: str, arms: Arms) -> list[Replica]:
        """Return the replicas of the arm that a request was given to; those that serve at all where it has none."""
        found = self._groups.get(arm)
        if found is None:
            return [] if arm in self._held else self.open
        if arm == arms.canary and not arms.rollout.sticky and not _has_place(found):
            return self._groups.get(arms.baseline, found)
        return found


def _has_place(found: Sequence[Replica]) -> bool:
    return any(replica.in_flight < replica.places for replica in found)


def _fullness(replica: Replica) -> int:
    return replica.in_flight - replica.places
