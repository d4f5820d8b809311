"""What breaks on purpose, and how gateways find a replica that is silent: by core/breaker.py, ping by ping."""

from typing import Final

from stoker.core import breaker
from stoker.sim.platform import plan
from stoker.sim.platform.clock import Clock
from stoker.sim.platform.control import Control
from stoker.sim.platform.lane import Lane, View
from stoker.sim.platform.site import Site

PING_S: Final = 0.25  # gateway/fleet/replica.py, while it holds requests


class Faults:
    """The faults of a plan, each at its time."""

    def __init__(self, clock: Clock, control: Control, sites: dict[str, Site]) -> None:
        self._clock, self._control, self._sites = clock, control, sites

    def begin(self, faults: tuple[plan.Fault, ...]) -> None:
        """Ask for every one."""
        for each in faults:
            if each.kind == "replica":
                self._clock.at(each.at_s, self._control.crash, each.target)
            else:
                self._clock.at(each.at_s, self._go_dark, each.target, each.lasts_s)

    def _go_dark(self, node: str, lasts_s: float) -> None:
        now_s = self._clock.now_s
        self._control.darken(node)
        for site in self._sites.values():
            for lane in site.lanes:
                for view in list(lane.views.values()):
                    if view.replica.state == "lost" and view.replica.node == node:
                        pings = breaker.Pings(heard_s=now_s, asked_s=now_s + PING_S)
                        self._clock.at(now_s + 2 * PING_S, self._look, site, lane, view, pings)
        if lasts_s < float("inf"):
            self._clock.at(now_s + lasts_s, self._control.brighten, node)

    def _look(self, site: Site, lane: Lane, view: View, pings: breaker.Pings) -> None:
        """Judge a replica that does not answer, at each ping, until it is out or given up."""
        now_s = self._clock.now_s
        if view.replica.state != "lost" or view.is_ejected:
            return
        peers = [each for each in lane.views.values() if each.replica.state in ("ready", "lost") and each is not view]
        known = breaker.Peers(len(peers), sum(each.replica.state == "ready" for each in peers))
        task = "chat" if isinstance(site.kind.engine, plan.Generating) else "predict"
        # Still for as long as it is silent: what it holds does not move either.
        verdict = breaker.judge(breaker.Progress(0, pings.heard_s), pings, task, now_s, known)
        out = sum(each.is_ejected for each in lane.views.values())
        if verdict != "healthy" and breaker.may_eject(out, len(peers) + 1):
            lane.eject(view)
            return
        self._clock.at(now_s + PING_S, self._look, site, lane, view, pings)
