"""Control on virtual time: looks at each endpoint, asks its policy, places and drains replicas, publishes tables."""

from collections.abc import Iterable
from random import Random
from typing import Final

from stoker.core import backoff, place
from stoker.core.capacity import Capacity, Held
from stoker.core.shortage import NoRoom
from stoker.sim.calendar import MINUTE_S
from stoker.sim.platform import plan
from stoker.sim.platform.clock import Clock
from stoker.sim.platform.lane import Table
from stoker.sim.platform.replica import Ended, Replica
from stoker.sim.platform.rollouts import TURN_S, Course
from stoker.sim.platform.site import Site
from stoker.types.ids import NodeName

ANYWHERE: Final = "anywhere"  # the node of a platform without nodes
WAKE_S: Final = 0.01  # from who waits where nothing runs until control looks, asked by a gateway (gateway/wakes.py)
WOKEN_S: Final = 0.2  # between two looks, however often somebody asks (control/scaling/watch.py)


class Control:
    """What is wanted, made true: the loop of one control process."""

    def __init__(
        self, what: plan.PlatformPlan, clock: Clock, sites: dict[str, Site], ended: Ended, draws: Random
    ) -> None:
        self._plan, self._clock, self._sites, self._ended, self._draws = what, clock, sites, ended, draws
        self._nodes: dict[str, Capacity] = {str(each.node): each for each in what.nodes}
        self._ordered = 0

    def begin(self, until_s: float) -> None:
        """Start what is there at the beginning, ready, and look from then on."""
        for site in self._sites.values():
            site.follow_clock(site.kind.terms.bounds(0.0), 0.0)
            self._reconcile(site, is_there=True)
            self.publish(site)
            if site.kind.terms.can_close:
                self._clock.at(_minute_s(site, 0.0), self._follow_clock, site, until_s)
            self._clock.at(site.kind.looks_from_s, self._tick, site, site.looks)
        for kind in self._plan.rollouts:
            if kind.at_s < until_s:
                self._clock.at(kind.at_s, self._roll_out, kind)

    # ---- scaling

    def wake(self, site: Site) -> None:
        """Look soon, if nothing takes requests: somebody waits. Whoever scales to zero has something that asks."""
        if site.closed is None and not site.is_woken and all(each.state == "draining" for each in site.replicas):
            site.is_woken = True
            soon_s = max(self._clock.now_s + WAKE_S, site.looked_s + WOKEN_S)
            self._clock.at(soon_s, self._tick, site, site.looks)

    def _tick(self, site: Site, looks: int) -> None:
        """Look, unless it was looked since this was asked for: each look asks for the next."""
        if looks != site.looks:
            return
        self._look(site)
        self._clock.at(self._clock.now_s + site.policy.every_s, self._tick, site, site.looks)

    def _look(self, site: Site) -> None:
        site.is_woken = False
        now_s = site.looked_s = self._clock.now_s
        site.looks += 1
        least, most = site.kind.terms.bounds(now_s)
        is_turned = site.follow_clock((least, most), now_s)
        wanted = min(max(site.policy.tick(site.observe(now_s)), least), most)
        if wanted != site.wanted:
            site.wanted = wanted
            site.changes += now_s < site.kind.arrivals.duration_s
        self._reconcile(site)
        if is_turned:
            self.publish(site)

    def _follow_clock(self, site: Site, until_s: float) -> None:
        """Have gateways know whether schedules close an endpoint, however seldom its policy looks."""
        now_s = self._clock.now_s
        if site.follow_clock(site.kind.terms.bounds(now_s), now_s):
            self.publish(site)
        if now_s < until_s:
            self._clock.at(_minute_s(site, now_s), self._follow_clock, site, until_s)

    def _reconcile(self, site: Site, *, is_there: bool = False) -> None:
        """Order what is missing where it fits, and drain what is too much. is_there: it is ready at once."""
        self._bury(site)
        counts = site.counts()
        is_changed, blocked = False, ""
        for revision, count in counts.items():
            mine = [each for each in site.replicas if each.revision == revision and each.state != "draining"]
            for _ in range(count - len(mine)):
                blocked = self._order(site, revision, 0.0 if is_there else site.start_s(self._clock.now_s))
                is_changed |= not blocked
                if blocked:
                    break
            for each in _surplus(mine, len(mine) - count):
                self._let_go(site, each)
                is_changed = True
        for each in [each for each in site.replicas if each.revision not in counts and each.state != "draining"]:
            self._let_go(site, each)
            is_changed = True
        self._note_blocked(site, blocked)
        site.most_replicas = max(site.most_replicas, len(site.replicas))
        if is_changed:
            self.publish(site)

    def _order(self, site: Site, revision: str, cold_start_s: float) -> str:
        """Start one more replica; return why there is no room for it, "" when there is."""
        node = ANYWHERE
        if self._plan.nodes:
            found = place.choose(site.demand(revision), self._nodes.values(), self._held())
            if isinstance(found, NoRoom):
                return found.message
            node = str(found.node)
        self._ordered += 1
        slower = site.slower.get(revision, 1.0)
        replica = Replica(self._ordered, revision, node, self._clock, site.kind.engine, slower, self._ended)
        site.replicas.append(replica)
        self._load(site, replica, cold_start_s)
        return ""

    def _held(self) -> Iterable[Held]:
        for site in self._sites.values():
            for each in site.replicas:
                yield Held(NodeName(each.node), site.demand(each.revision))

    def _load(self, site: Site, replica: Replica, cold_start_s: float) -> None:
        replica.started_s = self._clock.now_s
        if cold_start_s <= 0.0:
            self._become_ready(site, replica, replica.boot)
        else:
            self._clock.at(self._clock.now_s + cold_start_s, self._become_ready, site, replica, replica.boot)

    def _become_ready(self, site: Site, replica: Replica, boot: int) -> None:
        if replica.state != "starting" or replica.boot != boot:
            return
        replica.become_ready()
        took_s = self._clock.now_s - replica.started_s
        if took_s:
            site.starts_s.append(took_s)
        self.refresh(site)

    def _let_go(self, site: Site, replica: Replica) -> None:
        """A replica that has not been ready stops at once; another one first ends what it has."""
        if replica.state == "starting":
            replica.stop()
        else:
            replica.drain()
        self._bury(site)

    def _bury(self, site: Site) -> None:
        for each in site.replicas:
            if each.state == "dead":
                site.paid_s += max(min(each.stopped_s, site.paid_until_s) - each.ordered_s, 0.0)
        site.replicas = [each for each in site.replicas if each.state != "dead"]

    def _note_blocked(self, site: Site, blocked: str) -> None:
        now_s = self._clock.now_s
        if site.blocked_since_s >= 0.0:
            site.blocked_s += now_s - site.blocked_since_s
        site.blocked_since_s = now_s if blocked else -1.0
        site.blocked = blocked or site.blocked

    # ---- tables

    def publish(self, site: Site) -> None:
        """Tell gateways which replicas there are and who gets how much; they hear of it `table_lag_s` later.

        What is there at the beginning they know.
        """
        self._bury(site)
        listed = [each for each in site.replicas if each.state != "draining"]
        heard_s = self._clock.now_s + self._plan.table_lag_s if self._clock.now_s else 0.0
        table = Table(site.weights(), site.holds(bool(listed)), is_closed=site.closed is not None)
        self._clock.at(heard_s, _follow, site, listed, table)

    def refresh(self, site: Site) -> None:
        """Let gateways see what they see by themselves: a replica that is ready, or whose connection broke."""
        for lane in site.lanes:
            lane.refresh()

    # ---- faults

    def crash(self, target: str) -> None:
        """Kill the process of one ready replica of an endpoint; its agent starts it again."""
        site = self._sites[target]
        ready = [each for each in site.replicas if each.state == "ready"]
        if not ready:
            return
        replica = self._draws.choice(ready)
        restart = backoff.after_death(
            replica.crashes, ready_s=self._clock.now_s - replica.ready_s, jitter=self._draws.random()
        )
        replica.crashes = restart.crashes_in_row
        lost = replica.crash()
        self.refresh(site)
        for request in lost:
            assert request.lane is not None
            request.lane.lost(replica, request)
        self._clock.at(self._clock.now_s + restart.delay_s, self._load, site, replica, site.start_s(self._clock.now_s))

    def darken(self, node: str) -> None:
        """Let a node go dark with all that runs there."""
        self._nodes.pop(node, None)
        for site in self._sites.values():
            for each in [each for each in site.replicas if each.node == node]:
                each.lose()
        self._clock.at(self._clock.now_s + self._plan.node_lost_s, self._give_up, node)

    def brighten(self, node: str) -> None:
        """Let a node come back, empty."""
        self._give_up(node)
        self._nodes[node] = next(each for each in self._plan.nodes if each.node == node)

    def _give_up(self, node: str) -> None:
        """Stop counting on what went dark with a node, and start it elsewhere."""
        for site in self._sites.values():
            gone = [each for each in site.replicas if each.node == node and each.state == "lost"]
            if not gone:
                continue
            had = [(each, request) for each in gone for request in each.stop()]
            self.refresh(site)
            for replica, request in had:
                assert request.lane is not None
                request.lane.lost(replica, request)
            self._bury(site)
            self._reconcile(site)
            self.publish(site)  # also where there was no room elsewhere

    # ---- rollouts

    def _roll_out(self, kind: plan.RolloutPlan) -> None:
        site = self._sites[kind.endpoint]
        if site.course is not None and not site.course.is_ended:
            self._clock.at(self._clock.now_s + TURN_S, self._roll_out, kind)
            return
        name, _, number = site.serving.rpartition("-")
        canary = f"{name}-{int(number) + 1}"
        site.slower[canary], site.errors[canary] = kind.slower, kind.error_ratio
        now_s = self._clock.now_s
        count = sum(each.revision == site.serving and each.state != "draining" for each in site.replicas)
        site.course = Course(kind, site.serving, canary, count, site.ledger.arrived / max(now_s, 1.0), now_s)
        watches = [site.course.watch() for _ in site.lanes]
        site.watches = watches
        self._turn(site, site.course)

    def _turn(self, site: Site, running: Course) -> None:
        before = site.weights()
        ready: dict[str, int] = {}
        for each in site.replicas:
            if each.state == "ready":
                ready[each.revision] = ready.get(each.revision, 0) + 1
        left = sum(each.revision == running.baseline for each in site.replicas)
        read = {f"gateway-{at}": watch.read() for at, watch in enumerate(site.watches)}
        site.serving = running.turn(site.wanted, ready, left, site.serving, read, self._clock.now_s)
        if running.is_ended:
            site.watches = ()
        self._reconcile(site)
        if running.is_ended or site.weights() != before:
            self.publish(site)
        if not running.is_ended:
            self._clock.at(self._clock.now_s + TURN_S, self._turn, site, running)


def _minute_s(site: Site, now_s: float) -> float:
    """Return when a minute begins next by the clock on the wall, where schedules begin and end."""
    calendar = site.kind.terms.calendar
    assert calendar is not None
    return now_s + MINUTE_S - calendar.wall_s(now_s) % MINUTE_S


def _follow(site: Site, listed: list[Replica], table: Table) -> None:
    alive = [each for each in listed if each.state != "dead"]
    for at, lane in enumerate(site.lanes):
        watch = site.watches[at] if site.watches else None
        if watch is not None:
            watch.share = table.weights.get(watch.canary, 0) / 100
        lane.follow(alive, table, watch)


def _surplus(mine: list[Replica], count: int) -> list[Replica]:
    """Return who goes: those that start, the youngest first, then those with the least in them."""
    if count <= 0:
        return []
    ranked = sorted(mine, key=lambda each: (each.state != "starting", each.in_flight, -each.number))
    return ranked[:count]
