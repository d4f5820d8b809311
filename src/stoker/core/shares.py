"""How a key's limit is split between gateways, so that all together never let through more than it says.

Each gateway holds a share of every limited key and asks once a second. It gets what its traffic needs against the
others', but never more than what the others do not hold: a share grows only after another gateway has said that it
holds less. What nobody said anything about is held evenly. Whoever is not heard of falls back to its even share at
most (`fallback`), on both sides by the clock, so that even without control the sum stays within the limit; it may then
be less than the limit for uneven traffic.

Limits of requests at once are split by the same rules, in whole places (core/places.py) and by what each gateway needs.
A place that a request is in is held until it ends: a gateway says that it holds at least what runs there. So the sum
stays within the limit here too, but where a gateway was not heard for FORGET_S while more ran there than its even part:
these then run to their end beside what others were given.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from stoker.core import places

# A gateway that got no answer for so long holds its even share at most.
LEASE_S: Final = 8.0
# And control counts on that only after so long: its clock starts when the question arrives, the gateway's when it left.
FORGET_S: Final = 10.0
# After so long without one complete answer a new gateway takes its even share: by then control counts on it and the
# others have heard so, or their leases have ended.
GIVE_UP_S: Final = FORGET_S + LEASE_S
FLOOR_RATIO: Final = 0.1  # of the even share, kept by a gateway without traffic: its first requests need no round trip
KEYS_MAX: Final = 10_000  # in one answer
SAME: Final = 1e-6
NOTHING: Final[Mapping[str, tuple[int, int]]] = {}


def even(gateways: int) -> float:
    """Return the share of each of `gateways`."""
    return 1.0 / gateways


def floor(gateways: int) -> float:
    """Return the share that a gateway keeps without traffic, and has until it heard anything."""
    return FLOOR_RATIO / gateways


class Question(msgspec.Struct, frozen=True):
    """What a gateway asks once a second; see Teller.answer. places: the limit of what is split in whole places."""

    gateway: int
    is_new: bool
    held: dict[str, float]
    asked: dict[str, float]
    places: dict[str, int] = {}


class Answer(msgspec.Struct, frozen=True):
    """Shares by key, of each key that is used, or held unevenly, somewhere; all others are held evenly if it is
    complete. Control that is new has not heard of everybody, and cannot say so yet.
    """

    shares: dict[str, float]
    is_complete: bool


class Teller:
    """Who holds what, on control's side. Knows nothing after a restart, and then lets nobody grow until FORGET_S."""

    def __init__(self, gateways: int, now_s: float) -> None:
        self.gateways = gateways
        self._began_s = now_s
        self._held: dict[int, dict[str, float]] = {}
        self._asked: dict[int, dict[str, float]] = {}
        self._heard_s: dict[int, float] = {}
        self._limits: dict[str, int] = {}  # of what is split in whole places, as gateways said last

    def answer(self, question: Question, now_s: float) -> Answer:
        """Return what the gateway that asks holds from now on.

        `held` are its shares now, where they are not even; `asked` is what came to it of each key lately, let through
        or not. One that `is_new` has had no complete answer yet, and holds its floor of what it was told nothing of;
        of what is in whole places none, for others may have all.
        """
        gateway, held, asked = question.gateway, question.held, question.asked
        self._learn(question.places)
        was_forgotten = gateway in self._heard_s and not self._is_heard(gateway, now_s)
        self._asked[gateway] = asked
        self._heard_s[gateway] = now_s
        names = {name for each in (held, *self._held.values(), *self._asked.values()) for name in each}
        given: dict[str, float] = {}
        for name in sorted(names)[:KEYS_MAX]:
            has = held.get(name, self._usual(gateway, name, is_new=question.is_new))
            if was_forgotten:  # others may have grown meanwhile into what was over its even share
                has = min(has, self._even(gateway, name))
            share = self._share(gateway, name, has, now_s)
            if not self._is_settled(gateway, name, share, now_s):
                given[name] = share
        # It holds the old or the new until it says so: what counts against the others is the larger. A new one may
        # give up waiting for an answer at any moment, and holds its even share then.
        self._held[gateway] = {
            name: max(
                given.get(name, self._even(gateway, name)),
                held.get(name, self._usual(gateway, name, is_new=question.is_new)),
                self._even(gateway, name) if question.is_new else 0.0,
            )
            for name in {*given, *held}
        }
        return Answer(given, all(self._is_known(each, now_s) for each in range(self.gateways)))

    def _share(self, gateway: int, name: str, has: float, now_s: float) -> float:
        others = [each for each in range(self.gateways) if each != gateway]
        free = 1.0 - sum(self._counted(each, name, now_s) for each in others)
        limit = self._limits.get(name)
        if limit is not None:
            wanted_places = places.split(limit, self._needs(name, now_s), int(now_s / places.TURN_S))[gateway]
            return min(wanted_places, places.whole(max(free, has), limit)) / limit
        mine = self._asked[gateway].get(name, 0.0)
        total = mine + sum(self._asked.get(each, {}).get(name, 0.0) for each in others if self._is_heard(each, now_s))
        least = floor(self.gateways)
        wanted = least + (1.0 - least * self.gateways) * mine / total if total > 0.0 else even(self.gateways)
        return min(wanted, max(free, has))

    def _counted(self, gateway: int, name: str, now_s: float) -> float:
        """Return the most that `gateway` may hold of `name` now."""
        share = self._even(gateway, name)
        if self._is_heard(gateway, now_s):
            return self._held.get(gateway, {}).get(name, share)
        return share if self._is_known(gateway, now_s) else 1.0

    def _is_known(self, gateway: int, now_s: float) -> bool:
        """Return whether it can be said what `gateway` holds; not while control is new and has not heard of it."""
        return gateway in self._heard_s or now_s - self._began_s >= FORGET_S

    def _is_heard(self, gateway: int, now_s: float) -> bool:
        return gateway in self._heard_s and now_s - self._heard_s[gateway] < FORGET_S

    def _is_settled(self, gateway: int, name: str, share: float, now_s: float) -> bool:
        """Return whether nobody uses `name` and all hold it evenly: then nobody needs to hear of it."""
        every = range(self.gateways)
        return (
            abs(share - self._even(gateway, name)) < SAME
            and not any(asked.get(name) for asked in self._asked.values())
            and all(abs(self._counted(each, name, now_s) - self._even(each, name)) < SAME for each in every)
        )

    def _learn(self, limits: Mapping[str, int]) -> None:
        """Know which limits are in whole places. Gateways of another table may say another number for a moment."""
        self._limits |= {name: limit for name, limit in limits.items() if limit > 0}
        while len(self._limits) > 2 * KEYS_MAX:
            del self._limits[next(iter(self._limits))]

    def _needs(self, name: str, now_s: float) -> list[float]:
        return [
            self._asked.get(each, {}).get(name, 0.0) if self._is_heard(each, now_s) else 0.0
            for each in range(self.gateways)
        ]

    def _even(self, gateway: int, name: str) -> float:
        limit = self._limits.get(name)
        return even(self.gateways) if limit is None else places.even(limit, gateway, self.gateways) / limit

    def _usual(self, gateway: int, name: str, *, is_new: bool) -> float:
        """Return what a gateway holds of `name` that was told nothing of it."""
        if not is_new:
            return self._even(gateway, name)
        limit = self._limits.get(name)
        return floor(self.gateways) if limit is None else 0.0


class Holder:
    """What one gateway, number `index`, holds, on its own side."""

    def __init__(self, gateways: int, index: int = 0) -> None:
        self._gateways = gateways
        self._index = index
        self._shares: dict[str, float] = {}
        self._asked_s = float("-inf")  # when the question left whose answer is held
        self.is_new = True

    def share(self, name: str, now_s: float) -> float:
        """Return the part of `name`'s limit that this gateway may let through."""
        if self._gateways == 1:
            return 1.0
        share = self._shares.get(name, floor(self._gateways) if self.is_new else even(self._gateways))
        return share if now_s - self._asked_s < LEASE_S else min(share, even(self._gateways))

    def places(self, name: str, limit: int, now_s: float) -> int:
        """Return how many requests of `name` may run here at once, of `limit` in all gateways."""
        if self._gateways == 1:
            return limit
        usual = places.even(limit, self._index, self._gateways)
        share = self._shares.get(name)
        untold = 0 if self.is_new else usual  # others may have all of them: whole places have no floor
        held = untold if share is None else places.whole(share, limit)
        return held if now_s - self._asked_s < LEASE_S else min(held, usual)

    def held(self, now_s: float, running: Mapping[str, tuple[int, int]] = NOTHING) -> dict[str, float]:
        """Return the shares that are not even, for the next question.

        running: of what is split in places, how many requests run now, and the limit; by name.
        """
        found = {name: self.share(name, now_s) for name in self._shares if name not in running}
        for name, (count, limit) in running.items():
            places_here = self.places(name, limit, now_s)
            if name in self._shares or count > places_here:
                found[name] = max(places_here, count) / limit
        return found

    def take(self, answer: Answer, asked_s: float) -> None:
        """Hold what the answer to a question that left at `asked_s` says."""
        self.is_new = self.is_new and not answer.is_complete
        self._asked_s = asked_s
        self._shares = answer.shares

    def give_up(self) -> None:
        """Hold the even share: there was no complete answer for GIVE_UP_S since the start."""
        self.is_new = False
