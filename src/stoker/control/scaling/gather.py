"""What gateways, nodes and the history say of the load, as one sight of each endpoint that scales."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from stoker.control.observe import Observer, State
from stoker.control.scaling.accelerators import Accelerators
from stoker.control.scaling.promises import Promises
from stoker.core import starts
from stoker.core.conditions import is_crash_looping
from stoker.core.scale.bounds import Closed, closed
from stoker.core.scale.counts import Counts, Seen
from stoker.core.scale.policy import policy_of
from stoker.core.scale.sight import Language, Sight
from stoker.core.snapshot import Assignment, EndpointKey, EndpointState, Revision
from stoker.observe.port import Questions
from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import connect
from stoker.types.errors import ReplicaLost, StokerError
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.process import ProcessStatus
from stoker.types.scaling import LaneLoad

ASK_TIMEOUT_S: Final = 1.5

log = logging.getLogger(__name__)
_decode: Final = msgspec.json.Decoder(list[LaneLoad]).decode

Answers = Mapping[EndpointKey, Mapping[str, LaneLoad]]  # by endpoint and the boot of the gateway


class _Known:
    """What is remembered of one endpoint."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.starts_s: deque[float] = deque(maxlen=starts.KNOWN_MAX)
        self.counted: dict[str, float] = {}  # when the process of each replica started whose cold start is known
        self.used: dict[str, tuple[float, float]] = {}  # processor seconds of each replica, and when it had them
        self.cpu_ratio: float | None = None


class Gatherer:
    """Asks all gateways at once. One that does not answer makes the numbers too few to let replicas go."""

    def __init__(self, address: Callable[[str], str], gateways: int, observer: Observer, history: Questions) -> None:
        self._addresses = [address(f"gateway-{index}") for index in range(gateways)]
        self._observer = observer
        self._promises, self._gpus = Promises(history), Accelerators(history)
        self._known: dict[EndpointKey, _Known] = {}
        self._failures = 0
        self._answered_s = 0.0

    @property
    def observer(self) -> Observer:
        """What knows the nodes."""
        return self._observer

    @property
    def gateways(self) -> int:
        """How many there are."""
        return len(self._addresses)

    async def look(self, state: State, endpoints: list[EndpointState], now_s: float) -> dict[EndpointKey, Sight]:
        """Return a sight of each of `endpoints`. now_s: unix seconds."""
        answers, missing = await self._ask()
        await self._promises.look(endpoints, now_s)
        if any("gpu" in each.resource.spec.scaling.signals for each in endpoints):
            await self._gpus.look(now_s)
        self._known = {each.key: self._known.get(each.key) or _Known() for each in endpoints}
        if missing == len(self._addresses):
            self._failures += 1
        else:
            self._failures, self._answered_s = 0, now_s
        processes = {each.name: (each, node) for node in self._observer.statuses for each in node.processes}
        moments = {str(node.name): node.observed_at_s for node in self._observer.nodes()}
        seen = {name: (process, moments.get(node.node, now_s)) for name, (process, node) in processes.items()}
        revisions = {str(each.revision): each for each in state.revisions}
        mine: dict[EndpointKey, list[Assignment]] = {}
        for one in state.assignments:
            mine.setdefault((one.project, one.endpoint), []).append(one)
        found = {}
        for each in endpoints:
            sight = self._sight(each, answers.get(each.key, {}), mine.get(each.key, []), seen, revisions, now_s)
            found[each.key] = msgspec.structs.replace(sight, span_s=0.0) if missing else sight
        return found

    def _sight(
        self,
        endpoint: EndpointState,
        answers: Mapping[str, LaneLoad],
        mine: Iterable[Assignment],
        processes: Mapping[str, tuple[ProcessStatus, float]],
        revisions: Mapping[str, Revision],
        now_s: float,
    ) -> Sight:
        known = self._known[endpoint.key]
        wanted = [each for each in mine if each.phase == "wanted"]
        running = [(each, *processes[each.replica]) for each in wanted if each.replica in processes]
        ready = [each for each in running if each[1].phase == "ready"]
        _note_starts(known, [process for _, process, _ in ready])
        _note_use(known, ready, revisions)
        schedules = endpoint.resource.spec.scaling.schedules
        if self._failures:
            return Sight(at_s=self._answered_s, failures=self._failures, ready=len(ready))
        counted = known.counts.add(now_s, answers)
        loads = list(answers.values())
        return Sight(
            at_s=now_s,
            rate_short=counted.rate_short,
            rate_long=counted.rate_long,
            span_s=counted.span_s,
            arrived=counted.arrived,
            since_s=counted.since_s,
            service_s=counted.service_s,
            ended=counted.ended,
            places=max((each.places for each in loads), default=0.0),
            waiting=sum(each.waiting for each in loads),
            is_expected=any(each.is_expected for each in loads),
            in_flight=sum(each.in_flight for each in loads),
            ready=len(ready),
            pending=len(wanted) - len(ready),
            cold_start_s=starts.expected_s(known.starts_s),
            cpu_ratio=known.cpu_ratio,
            gpu_ratio=self._gpus.of(each for each, _, _ in ready),
            loaded_s=max((process.ready_at_s for _, process, _ in ready), default=0.0),
            is_failing=not ready and any(is_crash_looping(process) for _, process, _ in running),
            language=self._language(endpoint.key, counted, loads),
            offsets_s=tuple(_offset_s(each.zone, now_s) for each in schedules),
        )

    def _language(self, key: EndpointKey, counted: Seen, loads: list[LaneLoad]) -> Language:
        used = [each.kv_used_ratio for each in loads if each.kv_used_ratio is not None]
        queues = [each.engine_queue for each in loads if each.engine_queue is not None]
        ttft, inter_token = self._promises.of(key, "ttft"), self._promises.of(key, "inter_token")
        return Language(
            kv_free_ratio=1.0 - max(used) if used else None,
            waiting=max(queues) if queues else None,
            ttft_s=ttft[0] if ttft else None,
            ttft_target_s=ttft[1] if ttft else None,
            inter_token_s=inter_token[0] if inter_token else None,
            inter_token_target_s=inter_token[1] if inter_token else None,
            tokens_per_s=counted.tokens_per_s,
            replica_tokens_per_s=counted.replica_tokens_per_s,
        )

    async def _ask(self) -> tuple[Answers, int]:
        """Return what the gateways say, and how many said nothing."""
        found: dict[EndpointKey, dict[str, LaneLoad]] = {}
        missing = 0
        for boot, loads in await asyncio.gather(*map(_asked, self._addresses)):
            missing += loads is None
            for each in loads or ():
                found.setdefault((ProjectName(each.project), EndpointName(each.endpoint)), {})[boot] = each
        return found, missing


async def _asked(address: str) -> tuple[str, list[LaneLoad] | None]:
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            link = await connect(address, timeout_s=ASK_TIMEOUT_S)
            try:
                _, answer = await link.call(RequestHead(method="loads"), kind=Kind.CALL).answer()
                return link.hello.boot if link.hello is not None else "", _decode(answer)
            finally:
                link.close()
    except (ReplicaLost, TimeoutError, OSError):
        return "", None  # it starts, or is gone
    except (StokerError, msgspec.DecodeError) as odd:
        log.warning("the load of a gateway could not be read", extra={"reason": str(odd)})
        return "", None


def _note_starts(known: _Known, ready: Iterable[ProcessStatus]) -> None:
    for process in ready:
        if process.ready_at_s and known.counted.get(process.name) != process.started_at_s:
            known.counted[process.name] = process.started_at_s
            known.starts_s.append(max(process.ready_at_s - process.started_at_s, 0.001))
    names = {process.name for process in ready}
    known.counted = {name: at_s for name, at_s in known.counted.items() if name in names}


def _note_use(
    known: _Known, ready: Iterable[tuple[Assignment, ProcessStatus, float]], revisions: Mapping[str, Revision]
) -> None:
    """Know which share of its cores the replicas used between two reports of their nodes."""
    used_s = had_s = 0.0
    now: dict[str, tuple[float, float]] = {}
    for each, process, at_s in ready:
        now[each.replica] = (process.cpu_s, at_s)
        before = known.used.get(each.replica)
        if before is not None and at_s > before[1] and process.cpu_s >= before[0]:
            used_s += process.cpu_s - before[0]
            had_s += (at_s - before[1]) * revisions[each.revision].config.cpu
    known.used = now
    if had_s:
        known.cpu_ratio = used_s / had_s


def closed_of(endpoints: Iterable[EndpointState], now_s: float) -> dict[EndpointKey, Closed]:
    """Return which endpoints may have no replica at `now_s`, by their schedules."""
    found = {}
    for each in endpoints:
        schedules = each.resource.spec.scaling.schedules
        if any(schedule.max == 0 for schedule in schedules):
            offsets_s = tuple(_offset_s(schedule.zone, now_s) for schedule in schedules)
            if (one := closed(policy_of(each.resource.spec, 1), offsets_s, now_s)) is not None:
                found[each.key] = one
    return found


def _offset_s(zone: str, at_s: float) -> float:
    offset = datetime.fromtimestamp(at_s, ZoneInfo(zone)).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0
