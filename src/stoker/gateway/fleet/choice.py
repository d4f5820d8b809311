"""Which replica of an endpoint takes a request: draws, looks and compares.

The rules are in core/route.py (cost), core/affinity.py (sessions, known prompts) and core/sizes.py (how much work).
"""

import random
import time
from collections import deque
from collections.abc import Collection, Sequence
from typing import Final

from stoker.core import affinity, route, sizes
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
        self._all: Collection[Replica] = ()
        self._weights: dict[str, int] = {}
        self._sizes = sizes.Sizes()
        self._meters = meters
        self._by_cost = meters.choice("two_choices")

    @property
    def asks(self) -> bool:
        """Return whether a request's wish makes a difference. Replicas that start or are out count: they come back."""
        return self.affinity != "none" and len(self._all) > 1

    def follow(self, endpoint: EndpointRoute) -> None:
        """Take what a new route table says."""
        self._weights = {str(revision.revision): revision.weight for revision in endpoint.revisions}
        self.affinity = affinity.kind(endpoint.affinity, endpoint.task)

    def refresh(self, replicas: Collection[Replica]) -> None:
        """Look again which of `replicas` are open."""
        self._all = replicas
        self.able = [replica for replica in replicas if replica.is_open]
        self.open = [replica for replica in self.able if self._weights.get(replica.revision)]

    def choose(self, exchange: Exchange) -> Replica | None:
        """Return a replica with a free place: where the request's wish falls, or the cheaper of two drawn at random.

        None when no place is free.
        """
        found = self.open
        if exchange.version or len(self._weights) > 1:
            found = self._candidates(exchange.version)
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

    def quietest(self) -> Replica | None:
        """Return the open replica with the fewest requests, for a trial."""
        return min(self.open, key=lambda replica: replica.load, default=None)

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
        may_be_tried = replica.is_ejected and not replica.is_reserved and replica.is_connected
        if not may_be_tried or replica.in_flight >= replica.places or not self._weights.get(replica.revision):
            return None
        self._meters.choice("probe").add(1)
        return replica

    def _candidates(self, version: str) -> list[Replica]:
        """Return the open replicas of one revision: the one asked for, or one drawn by weight."""
        if version:
            return [each for each in self._all if each.is_open and each.version == version]
        by_revision: dict[str, list[Replica]] = {}
        for replica in self.open:
            by_revision.setdefault(replica.revision, []).append(replica)
        if len(by_revision) < 2:
            return self.open
        names = list(by_revision)
        return by_revision[names[route.weighted([self._weights[name] for name in names], random.random())]]


def _fullness(replica: Replica) -> int:
    return replica.in_flight - replica.places
