"""Which replica of an endpoint takes a request: draws, looks and compares. The rules are in core/route.py."""

import random
from collections.abc import Iterable

from stoker.core import route
from stoker.gateway.exchange import Exchange
from stoker.gateway.fleet import Replica
from stoker.types.routes import EndpointRoute


class Choice:
    """The replicas that take requests now, and the choice between them. The lane says when to look again."""

    def __init__(self) -> None:
        self.open: list[Replica] = []  # that take requests now, of revisions with a weight
        self._all: Iterable[Replica] = ()
        self._weights: dict[str, int] = {}

    def follow(self, endpoint: EndpointRoute) -> None:
        """Take the weights of a new route table."""
        self._weights = {str(revision.revision): revision.weight for revision in endpoint.revisions}

    def refresh(self, replicas: Iterable[Replica]) -> None:
        """Look again which of `replicas` are open."""
        self._all = replicas
        self.open = [replica for replica in replicas if replica.is_open and self._weights.get(replica.revision)]

    def choose(self, exchange: Exchange) -> Replica | None:
        """Return a replica with a free place: the cheaper of two drawn at random. None when no place is free."""
        found = self.open
        if exchange.version or len(self._weights) > 1:
            found = self._candidates(exchange.version)
        if exchange.avoid is not None and len(found) > 1:
            found = [replica for replica in found if replica is not exchange.avoid]
        count = len(found)
        if count == 0:
            return None
        chosen = found[0]
        if count > 1:
            one, other = route.pair(count, random.random(), random.random())
            chosen = found[one] if found[one].load <= found[other].load else found[other]
        if chosen.in_flight >= chosen.places:
            chosen = min(found, key=lambda replica: replica.in_flight - replica.places)
            if chosen.in_flight >= chosen.places:
                return None
        return chosen

    def quietest(self) -> Replica | None:
        """Return the open replica with the fewest requests, for a trial."""
        return min(self.open, key=lambda replica: replica.load, default=None)

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
