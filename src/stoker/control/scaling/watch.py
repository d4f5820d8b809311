"""How many replicas the load calls for, every LOOK_S; what changes is written down before the loop makes it true.

A decision, its inputs and what it remembers are one transaction, guarded by the lease: a control that is killed after
it goes on from there, one that is killed before it has decided nothing. Between changes the memory is stored every
REMEMBER_S, so that a restart loses no more than that of the windows, and holds until they are full again.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import msgspec

from stoker.control.observe import State
from stoker.control.scaling import pooled
from stoker.control.scaling.gather import Gatherer
from stoker.core.pooling import Turn
from stoker.core.scale.decide import Decision, decide
from stoker.core.scale.memory import Memory
from stoker.core.scale.policy import is_scaled, policy_of
from stoker.core.scale.record import Record, record
from stoker.core.scale.sight import Sight
from stoker.core.snapshot import EndpointKey, EndpointState
from stoker.store import journal, leases, scaling
from stoker.store.engine import Connection, Database
from stoker.store.leases import Lease, LeaseLost
from stoker.telemetry.metrics import Registry

LOOK_S: Final = 2.0
WAITED_S: Final = 0.5  # between two looks while somebody waits for room
WOKEN_S: Final = 0.2  # between two looks, however often somebody asks for one
REMEMBER_S: Final = 15.0
KEEP_EVERY_S: Final = 60.0  # decisions that change nothing are kept so often, while there is load
BECAUSE_MAX: Final = 600

log = logging.getLogger(__name__)


class ScalingWatch:
    """Looks at every endpoint that scales. One in a control process."""

    def __init__(
        self,
        database: Database,
        gatherer: Gatherer,
        state: Callable[[], State | None],
        lease: Callable[[], Lease | None],
        metrics: Registry,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._gatherer = gatherer
        self._state = state
        self._lease = lease
        self._metrics = metrics
        self._changed = changed
        self._clock = clock
        self._memories: dict[EndpointKey, Memory] | None = None  # None: not read since this process acts
        self._scaled: dict[EndpointKey, int] | None = None
        self._newest: dict[EndpointKey, Record] = {}
        self._kept_s: dict[EndpointKey, float] = {}  # when a decision was last written down
        self._rests: dict[EndpointKey, Turn] = {}
        self._remembered_s = 0.0
        self._woken = asyncio.Event()

    def scaled(self) -> Mapping[EndpointKey, int] | None:
        """Return how many replicas the load calls for, by endpoint; None before the first look."""
        return self._scaled

    def rests(self) -> Mapping[EndpointKey, Turn]:
        """Return the turns of endpoints without a replica, or soon without, because of others."""
        return self._rests

    def newest(self, key: EndpointKey) -> Record | None:
        """Return the last decision, written down or not."""
        return self._newest.get(key)

    def memory(self, key: EndpointKey) -> Memory | None:
        """Return what the last decision left to the next one."""
        return (self._memories or {}).get(key)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
            except LeaseLost:
                self._memories = self._scaled = None  # what another control decides is not known here
            except Exception:  # what one endpoint meets must not end the control of all
                log.exception("a look at the load failed; the next one looks again")
            await asyncio.sleep(WOKEN_S)
            with suppress(TimeoutError):
                pause_s = WAITED_S if any(each.is_waiting for each in self._rests.values()) else LOOK_S
                await asyncio.wait_for(self._woken.wait(), pause_s - WOKEN_S)
            self._woken.clear()

    def wake(self) -> None:
        """Look soon: somebody waits where nothing runs."""
        self._woken.set()

    async def look(self) -> None:
        """Look once. Raises LeaseLost."""
        lease, state = self._lease(), self._state()
        if lease is None or state is None:
            self._memories = self._scaled = None
            return
        if self._memories is None:
            self._memories = await self._database.reading(scaling.memories)
        endpoints = [each for each in state.endpoints if not each.is_deleting and is_scaled(each.resource.spec)]
        now_s = self._clock()
        began_s = time.perf_counter()
        sights = await self._gatherer.look(state, endpoints, now_s) if endpoints else {}
        looked = {each.key: self._decide(each, sights[each.key], now_s) for each in endpoints}
        turns = pooled.turns(
            state, self._gatherer.observer.nodes(), {key: one[:2] for key, one in looked.items()}, now_s
        )
        found = {key: _shared(*one, turns.get(key), now_s) for key, one in looked.items()}
        self._metrics.histogram("stoker_scaling_seconds").observe(time.perf_counter() - began_s)
        rests = {key: turn for key, turn in turns.items() if turn.because and (turn.is_waiting or not turn.count)}
        await self._write(lease, found, now_s, rests)
        self._forget(set(found))

    def _decide(self, endpoint: EndpointState, sight: Sight, now_s: float) -> tuple[Decision, Sight, int]:
        """Return what the load alone calls for, what was seen, and how many there should be until now."""
        assert self._memories is not None
        memory = self._memories.get(endpoint.key, Memory())
        if memory.measured_s > now_s:  # the clock was set back: what was kept of its moments would hold until then
            memory = Memory(desired=memory.desired)
        before = memory.desired if memory.desired is not None else sight.ready + sight.pending
        if memory.desired is not None and sight.ready + sight.pending > before:
            # Both revisions of a rollout, or a replica that an incident added: neither is there because of the load.
            ready = min(sight.ready, before)
            sight = msgspec.structs.replace(sight, ready=ready, pending=min(sight.pending, before - ready))
        found = decide(sight, policy_of(endpoint.resource.spec, self._gatherer.gateways), memory, now_s)
        memory = msgspec.structs.replace(found.memory, pooled=pooled.standing(found, sight, now_s))
        return msgspec.structs.replace(found, memory=memory), sight, before

    async def _write(
        self,
        lease: Lease,
        found: Mapping[EndpointKey, tuple[Decision, Record]],
        now_s: float,
        rests: dict[EndpointKey, Turn],
    ) -> None:
        """Store what changed, then let it be true."""
        assert self._memories is not None
        news = {key: kept for key, (_, kept) in found.items() if self._is_news(key, kept)}
        is_due = now_s - self._remembered_s >= REMEMBER_S
        gone = self._memories.keys() - found.keys()  # it is deleted, or does not scale any more
        if news or gone or (is_due and found):

            def write(connection: Connection) -> None:
                leases.guard(connection, lease)
                for key, (decision, _) in found.items():
                    if is_due or key in news:
                        scaling.remember(connection, key, decision.memory)
                for key in gone:
                    scaling.forget(connection, *key)
                for key, kept in news.items():
                    scaling.add(connection, key, kept)
                    if kept.desired != kept.before:
                        journal.add(connection, _entry(key, kept))

            await self._database.writing(write)
            self._kept_s.update(dict.fromkeys(news, now_s))
            if is_due:
                self._remembered_s = now_s
        scaled = {key: decision.desired for key, (decision, _) in found.items()}
        has_changed = scaled != self._scaled or rests != self._rests
        self._rests = rests
        self._memories = {key: decision.memory for key, (decision, _) in found.items()}
        self._newest.update({key: kept for key, (_, kept) in found.items()})
        self._scaled = scaled
        self._show(found)
        if has_changed:
            self._changed()

    def _is_news(self, key: EndpointKey, kept: Record) -> bool:
        before = self._newest.get(key)
        if kept.desired != kept.before or before is None or bool(kept.limit) != bool(before.limit):
            return True
        if bool(kept.room) != bool(before.room):
            return True
        is_idle = not kept.sight.rate_long and not kept.sight.waiting
        return not is_idle and kept.at_s - self._kept_s.get(key, 0.0) >= KEEP_EVERY_S

    def _show(self, found: Mapping[EndpointKey, tuple[Decision, Record]]) -> None:
        for (project, endpoint), (decision, kept) in found.items():
            labels = {"project": str(project), "endpoint": str(endpoint)}
            gauge = self._metrics.gauge
            gauge("stoker_scaling_desired_replicas", **labels).set(float(decision.desired))
            gauge("stoker_scaling_at_maximum", **labels).set(float(bool(decision.limit)))
            for each in decision.signals:
                gauge("stoker_scaling_signal_replicas", signal=each.signal, **labels).set(each.up)
            if kept.desired != kept.before:
                direction = "up" if kept.desired > kept.before else "down"
                self._metrics.counter("stoker_scaling_changes_total", direction=direction, **labels).add()
                log.info("scaled", extra={"endpoint": f"{project}/{endpoint}", "because": _words(kept)})

    def _forget(self, living: set[EndpointKey]) -> None:
        for key in self._newest.keys() - living:
            labels = {"project": str(key[0]), "endpoint": str(key[1])}
            self._metrics.drop("stoker_scaling_desired_replicas", **labels)
            self._metrics.drop("stoker_scaling_at_maximum", **labels)
            for each in self._newest.pop(key).signals:
                self._metrics.drop("stoker_scaling_signal_replicas", signal=each.signal, **labels)
            self._kept_s.pop(key, None)


def _shared(decision: Decision, sight: Sight, before: int, turn: Turn | None, now_s: float) -> tuple[Decision, Record]:
    """Return the decision as others that need the room let it be."""
    if turn is not None:
        standing = msgspec.structs.replace(decision.memory.pooled, out=turn.out)
        memory = msgspec.structs.replace(decision.memory, desired=turn.count, pooled=standing)
        because = turn.because if turn.because and turn.count < before else decision.because
        decision = msgspec.structs.replace(
            decision, desired=turn.count, memory=memory, room=turn.because, because=because
        )
    return decision, record(decision, sight, before, now_s)


def _entry(key: EndpointKey, kept: Record) -> journal.Entry:
    return journal.Entry(kept.at_s, "Scale", _words(kept)[:BECAUSE_MAX], key[0], key[1], f"{kept.desired} replicas")


def _words(kept: Record) -> str:
    return f"{kept.before} to {kept.desired}: {kept.because}" + "".join(
        f"; {each}" for each in (kept.limit, kept.room) if each and each != kept.because
    )
