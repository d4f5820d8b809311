"""What the live view shows at one moment, gathered from control; and what changed since the moment before."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from stoker.cli.rollout_page import brief
from stoker.cli.tables import endpoint_title, last_line, short_revision
from stoker.cli.waiting import judge
from stoker.client.control import ControlClient
from stoker.client.views import EndpointStats, Stats
from stoker.types.errors import StokerError

HISTORY_MAX: Final = 40
# Asking for the load progress costs a call an endpoint; only so many of those that load are asked about.
LOADS_MAX: Final = 8
ENDPOINTS_MAX: Final = 500


class Load(msgspec.Struct, frozen=True):
    """How far an endpoint is in becoming ready: `fraction` in 0–1, 0 when nobody knows."""

    note: str
    fraction: float = 0.0
    is_failed: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """One moment. `history` has requests/s by endpoint title, oldest first; `trouble` says why numbers are old."""

    stats: Stats
    at_s: float
    began_s: float
    gateway: str
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    loads: Mapping[str, Load] = field(default_factory=dict)
    trouble: str = ""


class Watch:
    """Asks control once a moment and remembers the last minute."""

    def __init__(self, control: ControlClient, gateway: str, began_s: float) -> None:
        self._control = control
        self._gateway = gateway
        self._began_s = began_s
        self._history: dict[str, deque[float]] = {}
        self._last = Stats()

    def look(self, now_s: float) -> Frame:
        """Return what there is now. Control away is no error here: the gateways serve without it."""
        trouble = ""
        loads: dict[str, Load] = {}
        try:
            self._last = self._control.stats()
            loads = self._loads(self._last)
        except StokerError:
            trouble = "control does not answer and is being restarted; requests are served meanwhile"
        self._remember(self._last)
        return Frame(
            stats=self._last,
            at_s=now_s,
            began_s=self._began_s,
            gateway=self._gateway,
            history={title: tuple(rates) for title, rates in self._history.items()},
            loads=loads,
            trouble=trouble,
        )

    def _loads(self, stats: Stats) -> dict[str, Load]:
        found: dict[str, Load] = {}
        for one in [one for one in stats.endpoints if not one.ready][:LOADS_MAX]:
            detail = self._control.endpoint(one.project, one.endpoint)
            judged = judge(detail, detail.generation)
            found[endpoint_title(one)] = Load(judged.note, judged.fraction, judged.state in ("failed", "stuck"))
        return found

    def _remember(self, stats: Stats) -> None:
        titles = {endpoint_title(one): one.requests_per_s for one in stats.endpoints[:ENDPOINTS_MAX]}
        for gone in self._history.keys() - titles.keys():
            del self._history[gone]
        for title, requests_per_s in titles.items():
            self._history.setdefault(title, deque(maxlen=HISTORY_MAX)).append(requests_per_s)


def changes(before: Frame | None, now: Frame) -> list[str]:
    """Return a line for each thing that is different now: what a log without a terminal shows."""
    lines: list[str] = []
    if now.trouble != (before.trouble if before else ""):
        lines.append(now.trouble or "control answers again")
    old = {endpoint_title(one): one for one in before.stats.endpoints} if before else {}
    for one in now.stats.endpoints:
        title = endpoint_title(one)
        was = old.pop(title, None)
        state = _state(one, now.loads.get(title))
        if was is None or before is None or state != _state(was, before.loads.get(title)):
            lines.append(f"{title}: {state}")
        if one.errors_per_s > 0 and (was is None or was.errors_per_s == 0):
            lines.append(f"{title}: {one.errors_per_s:.1f} errors/s of {one.requests_per_s:.1f} requests/s")
    lines += [f"{title}: gone" for title in old]
    return lines


def _state(one: EndpointStats, load: Load | None) -> str:
    replicas = f"{one.replicas_ready}/{one.replicas_wanted} replicas"
    if one.ready:
        rolling = f"; {one.newer}" if one.newer else ""
        if one.rollout is not None and not one.newer:
            rolling = f", {brief(one.rollout)} to {short_revision(one.rollout.canary)}"
        return f"ready, {replicas}, revision {short_revision(one.serving)}{rolling}"
    note = f": {last_line(load.note)}" if load is not None and load.note else ""
    return f"{one.reason or 'not ready'}{note}"
