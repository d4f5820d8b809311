"""Who sleeps so that who waits fits, where more endpoints are asked for than there is room. Pure.

An endpoint is worth its requests a second times the seconds of a start of it: what callers would wait if it were
gone. Those that wait come in the order of their waiting, and each takes, in this order,

1. room that is free, or will be as soon as what leaves idle has left
2. the room of idle endpoints, the least valuable first and of equals the least recently used: at once, unless they are
   worth KEPT_RATIO of who comes; then when it has waited as long as its own start takes
3. the room of one that finishes what it holds; nobody has to go for it
4. the room of busy ones that have had their turn, when it has waited FORCED_COLD_STARTS of its starts. They answer what
   they hold, and wait in line themselves for what comes later

Sheddable endpoints are behind all others: they wait last, go first and at once, busy or not, and come into the room of
others only when nobody asked for those as long as the sheddable one's start takes; that start is then left to end.

Who is busy stays for a turn. Who went is not loaded again before its start has passed since it was ready; were the idle
kept instead, everybody would wait for it. None waits for ever: when it has waited long, nobody behind it takes room.
Nobody goes where it would not be enough.
"""

from collections.abc import Sequence
from math import exp, inf
from typing import Final

import msgspec

from stoker.core import place
from stoker.core.capacity import Capacity, Demand, Held
from stoker.core.shortage import NoRoom

# Idle endpoints worth over so much of who comes stay until it has waited a start. Beside none that stay (bench/pooled,
# starts of 1.5 to 5 s) 2 saves 5 to 8 % of the loads and costs 8 to 40 % of the 95th percentile of waits.
KEPT_RATIO: Final = 8.0
FORCED_COLD_STARTS: Final = 2.0
TURN_COLD_STARTS: Final = 2.0  # how long one that is busy stays, when others wait for its room …
TURN_MIN_S: Final = 5.0  # … and at least: what waited for it is to be answered
REST_MIN_S: Final = 1.0
WAIT_MAX_S: Final = 60.0  # no start is so slow that who comes waits longer before the next step
RATE_MEMORY_S: Final = 300.0
RATE_LEAST_S: Final = 60.0  # one request in the first second is no rate of one a second
ABOUT_S: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600)  # a status that counted seconds would change each second


class Standing(msgspec.Struct, frozen=True):
    """What is remembered of an endpoint. waits_s: since when somebody waits while it has no replica, 0: nobody does.

    out: for whom it went to sleep, "" if for nobody. cold_start_s: as last measured, 0: never. arrivals, seconds: those
    of the last minutes, old ones counting less, until seen_s. loaded_s: when a replica was last ready, 0: never.
    """

    waits_s: float = 0.0
    out: str = ""
    cold_start_s: float = 0.0
    arrivals: float = 0.0
    seconds: float = 0.0
    seen_s: float = 0.0
    loaded_s: float = 0.0

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.arrivals / max(self.seconds, RATE_LEAST_S)


class Member(msgspec.Struct, frozen=True):
    """An endpoint at one moment.

    demand: of one replica. wanted: replicas that the load calls for. running: those that it has, starting ones too.
    can_sleep: whether none may run. cold_start_s: as measured, else as others start. loaded_s: when its newest replica
    was ready, inf: one still starts. is_failing: it does not start. is_known: whether all gateways said what waits and
    is in flight. used_s: of the last request.
    """

    demand: Demand
    wanted: int
    running: int
    can_sleep: bool
    standing: Standing
    waiting: int = 0
    in_flight: int = 0
    cold_start_s: float = 0.0
    loaded_s: float = 0.0
    used_s: float = 0.0
    is_failing: bool = False
    is_known: bool = True
    is_sheddable: bool = False

    @property
    def name(self) -> str:
        """`<project>.<name>`."""
        return self.demand.endpoint

    @property
    def is_idle(self) -> bool:
        """Whether nobody would notice if it went."""
        return not self.waiting and not self.in_flight

    @property
    def value(self) -> float:
        """Seconds that callers would wait in a second, were it always asleep."""
        return inf if not self.can_sleep else self.standing.rate * self.cold_start_s

    @property
    def words(self) -> str:
        """Return the arithmetic of its value."""
        if not self.can_sleep:
            return "one that may not sleep"
        about = "" if self.standing.cold_start_s else "about "
        return f"{self.standing.rate:.3g} requests/s x {about}{self.cold_start_s:.3g} s"


class Scene(msgspec.Struct, frozen=True):
    """All endpoints, the nodes, what holds room on them (of others too), and which of that is leaving.

    sheddable: endpoints that may not sleep, but whose replicas go for others."""

    members: tuple[Member, ...]
    capacities: tuple[Capacity, ...]
    held: tuple[Held, ...]
    leaving: tuple[Held, ...] = ()
    sheddable: frozenset[str] = frozenset()


class Turn(msgspec.Struct, frozen=True):
    """How many replicas an endpoint has from now on. because: "" when it is as the load says.

    out: for whom it sleeps. is_waiting: whether somebody waits for its replica, which has no room yet.
    """

    count: int
    because: str = ""
    out: str = ""
    is_waiting: bool = False


def noted(
    before: Standing,
    *,
    arrived: int,
    waiting: int,
    is_asked: bool,
    cold_start_s: float,
    loaded_s: float,
    now_s: float,
) -> Standing:
    """Return what is remembered after a look that saw so many arrive, and wait.

    A gateway counts from its first answer on: who waits by then has arrived too. loaded_s: when the replica that is
    there was ready, 0: there is none. now_s: at least that of the last look.
    """
    passed_s = max(now_s - before.seen_s, 0.0) if before.seen_s else 0.0
    kept = exp(-passed_s / RATE_MEMORY_S)
    return Standing(
        waits_s=(before.waits_s or now_s) if is_asked else 0.0,
        out=before.out,
        cold_start_s=cold_start_s or before.cold_start_s,
        arrivals=max(before.arrivals * kept + arrived, float(waiting)),
        seconds=before.seconds * kept + passed_s,
        seen_s=now_s,
        loaded_s=loaded_s or before.loaded_s,
    )


def pool(scene: Scene, now_s: float) -> dict[str, Turn]:
    """Return the turn of every member, by name. The order of members does not matter."""
    return _Pool(scene, now_s).turns()


def rest_s(member: Member) -> float:
    """Return how long after it was ready one that went is not loaded again."""
    return max(member.cold_start_s, REST_MIN_S)


def turn_s(member: Member) -> float:
    """Return how long one that was just loaded stays when busy."""
    return max(TURN_COLD_STARTS * member.cold_start_s, TURN_MIN_S)


class _Pool:
    """One decision: what was given so far."""

    def __init__(self, scene: Scene, now_s: float) -> None:
        self.scene = scene
        self.now_s = now_s
        self.members = {each.name: each for each in sorted(scene.members, key=lambda each: each.name)}
        self.found: dict[str, Turn] = {}
        busy = {each.name for each in scene.members if each.in_flight}
        self.slow = [each for each in scene.leaving if each.demand.endpoint in busy]
        leaving = list(scene.leaving)
        self.held = [each for each in scene.held if not _taken(each, leaving)]  # what stays, and what was given
        sleepers = {each.name for each in scene.members if each.can_sleep}
        self.fixed = [each for each in self.held if each.demand.endpoint not in sleepers]

    def turns(self) -> dict[str, Turn]:
        """Decide about those that wait, in their order; then about those that would only like to run, or to grow."""
        promised = {each.standing.out for each in self.members.values()}  # somebody went for them
        asked = sorted(
            (each for each in self.members.values() if _is_asked(each)),
            key=lambda one: (
                one.is_sheddable and one.name not in promised,
                one.standing.waits_s or self.now_s,
                one.name,
            ),
        )
        is_closed, line = False, 0
        for comer in asked:
            turn = self._rest(comer) or (None if is_closed else self._enter(comer))
            if turn is None and self._is_possible(comer):
                turn = self._wait(comer, line)
                line += 1
                is_closed = is_closed or self._waited_s(comer) >= self._limit_s(comer)
            self.found[comer.name] = turn or Turn(comer.wanted)  # reconcile says why not
        for each in self.members.values():
            others = any(comer is not each for comer in asked)
            if each.name not in self.found and each.wanted and not each.running:
                self.found[each.name] = self._warm(each, are_asked=others)
            elif each.name not in self.found or self.found[each.name].count:
                self.found[each.name] = self._grown(each, are_asked=others)
        return self.found

    def _rest(self, comer: Member) -> Turn | None:
        """Return the turn of one that was there a moment ago; None when it may be loaded again."""
        age_s = self.now_s - comer.standing.loaded_s
        if not comer.can_sleep or not 0.0 <= age_s < rest_s(comer):
            return None
        return Turn(0, f"waits: it is not loaded twice within its start of {comer.cold_start_s:.3g} s", is_waiting=True)

    def _enter(self, comer: Member) -> Turn | None:
        """Return the turn of `comer` if there is room for it, or will be; those that go for it get theirs."""
        if self._takes(comer, [*self.held, *self.scene.leaving]):
            return Turn(1)
        if self._takes(comer, [*self.held, *self.slow]):
            return Turn(1, "waits until what leaves has left", is_waiting=True)
        waited_s = self._waited_s(comer)
        able = [each for each in self.members.values() if each.running and each.can_sleep]
        able = [each for each in able if each.is_known and each.name not in self.found and self._may_go(each, comer)]
        failing = [each for each in able if each.is_failing]
        loaded = [each for each in able if each.loaded_s != inf and not each.is_failing]
        idle = [each for each in loaded if each.is_idle or _is_below(each, comer)]
        going = self._least(comer, failing + idle)
        kept = [each for each in going if not _is_below(each, comer)]
        if going and (_value(kept) <= KEPT_RATIO * comer.value or waited_s >= _bounded(comer.cold_start_s)):
            return self._swap(comer, going, waited_s)
        others = [each for each in self.held if each.demand.endpoint not in self.scene.sheddable]
        if not comer.is_sheddable and self._takes(comer, others):
            return Turn(1)  # the loop has them go (core/preemption.py)
        if self._takes(comer, self.held):
            names = ", ".join(sorted({_short(each.demand.endpoint, comer) for each in self.slow}))
            return Turn(1, f"waits until {names} has answered what it holds", is_waiting=True)
        if waited_s < self._limit_s(comer):
            return None
        had = [each for each in loaded if self._age_s(each) >= turn_s(each) or each in idle]
        going = self._least(comer, failing + had)
        return self._swap(comer, going, waited_s) if going else None

    def _may_go(self, member: Member, comer: Member) -> bool:
        """Return whether `member` may have to go for `comer` at all."""
        unused_s = self.now_s - member.used_s
        return not _is_below(comer, member) or (member.is_idle and unused_s >= max(comer.cold_start_s, REST_MIN_S))

    def _takes(self, comer: Member, held: Sequence[Held]) -> bool:
        where = place.choose(comer.demand, self.scene.capacities, held)
        if isinstance(where, NoRoom):
            return False
        self.held.append(Held(where.node, comer.demand, where.gpus))
        return True

    def _least(self, comer: Member, able: Sequence[Member]) -> list[Member]:
        """Return who of `able` goes so that `comer` fits: the least valuable, on the node where that is least.

        Empty where all of them would not be enough.
        """
        best: list[Member] = []
        ordered = sorted(able, key=_worth)
        for capacity in self.scene.capacities:
            here = {each.demand.endpoint for each in self.held if each.node == capacity.node}
            mine = [each for each in ordered if each.name in here]
            enough = next((at for at in range(1, len(mine) + 1) if self._fits(comer, mine[:at], capacity)), 0)
            going = mine[:enough]
            for each in reversed(going):
                rest = [one for one in going if one is not each]
                if rest and self._fits(comer, rest, capacity):
                    going = rest
            if going and (not best or _cost(going) < _cost(best)):
                best = going
        return best

    def _fits(self, comer: Member, going: Sequence[Member], capacity: Capacity) -> bool:
        names = {each.name for each in going}
        held = [each for each in (*self.held, *self.slow) if each.demand.endpoint not in names]
        return not isinstance(place.choose(comer.demand, (capacity,), held), NoRoom)

    def _swap(self, comer: Member, going: Sequence[Member], waited_s: float) -> Turn:
        against = f"{comer.words} and {waited_s:.0f} s of waiting"
        for each in going:
            busy = "" if each.is_idle else f" after a turn of {self._age_s(each):.0f} s"
            why = "it does not start" if each.is_failing else each.words
            because = f"asleep{busy} so that {_short(comer.name, each)} fits: {why} against {against}"
            self.found[each.name] = Turn(0, because, out=comer.name)
        names = {each.name for each in going}
        self.held = [each for each in self.held if each.demand.endpoint not in names]
        self._takes(comer, self.held)
        theirs = ", ".join(f"{_short(each.name, comer)} ({each.words})" for each in going)
        return Turn(1, f"takes the room of {theirs}: {against}", is_waiting=True)

    def _wait(self, comer: Member, line: int) -> Turn:
        """Return the turn of the one before whom so many others wait."""
        where = place.choose(comer.demand, self.scene.capacities, [*self.held, *self.slow])
        needs = where.message if isinstance(where, NoRoom) else "others wait longer"
        before = f"{line} before it, " if line else ""
        because = f"waits for room: {needs}; {before}its turn is in about {self._about_s(comer, line)} s"
        return Turn(0 if comer.can_sleep else comer.wanted, because, is_waiting=True)

    def _about_s(self, comer: Member, line: int) -> int:
        """Return when who waits as the `line`-th has been loaded, roughly."""
        able = [each for each in self.members.values() if each.running and each.can_sleep]
        ends = sorted(
            turn_s(each) + (-self._age_s(each) if each.loaded_s != inf else each.cold_start_s) for each in able
        )
        if not ends:
            return ABOUT_S[-1]
        rounds, at = divmod(line, len(ends))
        due_s = max(ends[at], self._limit_s(comer) - self._waited_s(comer), 0.0) + comer.cold_start_s
        due_s += rounds * (turn_s(comer) + comer.cold_start_s)
        return next((each for each in ABOUT_S if each >= due_s), ABOUT_S[-1])

    def _warm(self, member: Member, *, are_asked: bool) -> Turn:
        """Return the turn of one that would be loaded although nobody waits for it."""
        out = member.standing.out
        if out:
            return Turn(0, f"asleep: makes room for {_short(out, member)}; the next request wakes it", out=out)
        if self._takes(member, [*self.held, *self.scene.leaving]):
            self.found[member.name] = Turn(1)
            return self._grown(member, are_asked=are_asked)
        return Turn(0, "asleep: there is no room, and nobody asks; the next request wakes it")

    def _grown(self, member: Member, *, are_asked: bool) -> Turn:
        """Return the turn of one that runs, or will: it grows only into room that nobody waits for."""
        turn = self.found.get(member.name, Turn(min(member.running, member.wanted)))
        count = turn.count
        while count < member.wanted and (not are_asked or self._takes(member, [*self.held, *self.scene.leaving])):
            count += 1
        because = turn.because
        if count < member.wanted and not because:
            because = f"{member.wanted} are called for; others wait for the room"
        out = "" if count or member.running else member.standing.out
        return msgspec.structs.replace(turn, count=count, because=because, out=out)

    def _is_possible(self, comer: Member) -> bool:
        return not isinstance(place.choose(comer.demand, self.scene.capacities, self.fixed), NoRoom)

    def _waited_s(self, comer: Member) -> float:
        return max(self.now_s - comer.standing.waits_s, 0.0) if comer.standing.waits_s else 0.0

    def _limit_s(self, comer: Member) -> float:
        return _bounded(FORCED_COLD_STARTS * comer.cold_start_s)

    def _age_s(self, member: Member) -> float:
        age_s = self.now_s - member.loaded_s
        return age_s if age_s >= 0.0 else inf  # the clock was set back


def _is_asked(member: Member) -> bool:
    """Return whether somebody waits for it, or it may not sleep, and it has no replica."""
    return bool(member.wanted and not member.running and (member.waiting or not member.can_sleep))


def _is_below(member: Member, other: Member) -> bool:
    return member.is_sheddable and not other.is_sheddable


def _worth(member: Member) -> tuple[bool, bool, float, float, str]:
    """Return the order in which they go: who does not start, is sheddable, the least valuable, least recently used."""
    return (not member.is_failing, not member.is_sheddable, member.value, member.used_s, member.name)


def _bounded(wait_s: float) -> float:
    return min(max(wait_s, REST_MIN_S), WAIT_MAX_S)


def _value(members: Sequence[Member]) -> float:
    return sum(each.value for each in members if not each.is_failing)


def _cost(members: Sequence[Member]) -> tuple[float, float]:
    return (_value(members), max(each.used_s for each in members))


def _taken(each: Held, leaving: list[Held]) -> bool:
    """Return whether `each` is among `leaving`, and take it off."""
    if each in leaving:
        leaving.remove(each)
        return True
    return False


def _short(name: str, beside: Member) -> str:
    """Return an endpoint's name as somebody of the project of `beside` says it."""
    project, _, rest = name.partition(".")
    return rest if project == beside.name.partition(".")[0] else name
