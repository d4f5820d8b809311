"""Fetches what replicas predicted, joins the labels that callers send, and counts how good the predictions were.

A replica keeps what it predicted until the file has it: a control that is killed at any moment asks again, and the
store takes nothing twice. What is counted in metrics is counted at most once; the file alone is exact.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

import msgspec

from stoker.client.views import QualityView
from stoker.control import evidence
from stoker.core.feedback import Amount, Label, Outcome
from stoker.observe.feedback import amounts as business
from stoker.observe.feedback.quality import RIGHT, Expect, estimated, quality
from stoker.observe.feedback.store import FeedbackStore, Joined, Source
from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import Link, connect
from stoker.store import endpoints, revisions
from stoker.store.engine import Connection, Database
from stoker.telemetry.metrics import OTHER, Registry
from stoker.types.errors import Conflict, ReplicaLost, StokerError
from stoker.types.feedback import HANDED_MAX, Demand, Handover, Wish
from stoker.types.resources import Feedback
from stoker.types.slos import Objective
from stoker.types.units import parse_seconds

EVERY_S: Final = 2.0  # between two turns; labels wait for their prediction longer than that
ESTIMATE_EVERY_S: Final = 60.0
SWEEP_EVERY_S: Final = 3600.0
TIMEOUT_S: Final = 5.0
AT_ONCE: Final = 16
ROUNDS_MAX: Final = 20  # answers of one replica in a turn; the rest waits for the next
AMOUNTS_MAX: Final = 20  # business metrics of an endpoint that metrics tell apart
SEGMENTS_MAX: Final = 50  # of an endpoint that metrics tell apart; its other segments are one
ESTIMATE_WINDOW_S: Final = 86_400.0
ESTIMATE: Final = "stoker_estimated_accuracy_ratio"

Key = tuple[str, str]
log = logging.getLogger(__name__)


class Target(msgspec.Struct, frozen=True):
    """A replica whose predictions are kept, or (`spec` None) are not any more."""

    project: str
    endpoint: str
    revision: str
    replica: str
    spec: Feedback | None


class FeedbackWatch:
    """Goes round the replicas every EVERY_S."""

    def __init__(
        self,
        database: Database,
        store: FeedbackStore,
        address: Callable[[str], str],
        metrics: Registry,
        expect: Expect,
    ) -> None:
        self._database = database
        self._store = store
        self._address = address
        self._metrics = metrics
        self._expect = expect
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._taken: dict[str, tuple[str, int]] = {}  # by replica: up to where its predictions are stored
        self._dropped: dict[str, tuple[str, int]] = {}  # by replica: how many it had dropped
        self._problems: dict[Key, str] = {}
        self._segments: dict[Key, set[str]] = {}
        self._amounts: dict[Key, set[str]] = {}
        self._estimate_s = self._swept_s = 0.0
        self.judged: Callable[[], None] = lambda: None  # called when labels said something new of a rollout

    async def run(self) -> None:
        """Go round for ever; returns only by cancellation."""
        while True:
            try:
                await self.turn(time.time())
            except Exception:  # whatever is wrong with one turn, the next is tried
                log.exception("predictions could not be fetched")
            await asyncio.sleep(EVERY_S)

    async def turn(self, now_s: float) -> None:
        """Fetch what there is; now and then estimate, and forget what nobody asks for."""
        targets, promised = await self._database.reading(lambda tables: (targets_of(tables), promised_of(tables)))
        for key, objectives in promised.items():
            self._segments.setdefault(key, set()).update(one.segment for one in objectives if one.segment)
            self._amounts.setdefault(key, set()).update(one.metric for one in objectives if one.metric)
        on = [one for one in targets if one.spec is not None]
        off = [one for one in targets if one.spec is None and one.replica in self._taken]
        await asyncio.gather(*(self._fetch(one, now_s) for one in (*on, *off)))
        await self._tell_rollouts()
        known = {one.replica for one in on}
        for gone in [name for name in self._taken if name not in known]:
            del self._taken[gone]
            self._dropped.pop(gone, None)
        watched = {(one.project, one.endpoint): one.spec for one in on if one.spec is not None}
        if on and now_s - self._estimate_s >= ESTIMATE_EVERY_S:
            self._estimate_s = now_s
            for key, spec in watched.items():
                await self._estimate(key, spec, now_s)
        if now_s - self._swept_s >= SWEEP_EVERY_S:
            self._swept_s = now_s
            kept = await self._database.reading(kept_of)
            self._segments = {key: value for key, value in self._segments.items() if key in kept}
            self._amounts = {key: value for key, value in self._amounts.items() if key in kept}
            self._problems = {key: value for key, value in self._problems.items() if key in kept}
            await asyncio.to_thread(self._store.sweep, kept)

    async def label(self, project: str, labels: Sequence[Label]) -> list[Outcome]:
        """Join labels of a project; return what became of each. Raises Unavailable; then none of them is joined."""
        outcomes, joined = await asyncio.to_thread(self._store.label, project, labels, time.time())
        for outcome in outcomes:
            self._metrics.counter("stoker_feedback_total", project=project, outcome=outcome).add()
        self._count(joined)
        return outcomes

    async def add(self, project: str, amounts: Sequence[Amount]) -> list[Outcome]:
        """Keep business metrics of a project's answers; return what became of each. Raises Unavailable."""
        outcomes, new = await asyncio.to_thread(business.add, self._store, project, amounts)
        for one in new:
            key = (one.project, one.endpoint)
            segment = self._told_apart(self._segments, key, one.segment, SEGMENTS_MAX)
            metric = self._told_apart(self._amounts, key, one.name, AMOUNTS_MAX)
            labels = {"project": one.project, "endpoint": one.endpoint, "segment": segment, "metric": metric}
            self._metrics.histogram("stoker_feedback_amount", **labels).observe(one.amount)
        return outcomes

    async def view(self, project: str, name: str, window_s: float) -> QualityView:
        """Return how good an endpoint is. Raises NotFound; Conflict when it keeps no predictions; Unavailable."""
        state = await self._database.reading(lambda connection: endpoints.get(connection, project, name))
        spec = state.resource.spec.feedback
        if spec is None:
            raise Conflict(f"{project}/{name} keeps no predictions; set spec.feedback")
        window_s = min(window_s, parse_seconds(spec.keep))
        now_s = time.time()
        view = await asyncio.to_thread(quality, self._store, self._expect, state.key, spec.kind, window_s, now_s)
        worth = await asyncio.to_thread(business.shown, self._store, *state.key, now_s - window_s, now_s)
        problem = self._problems.get(state.key, "")
        return msgspec.structs.replace(view, problem=problem, amounts=tuple(worth))

    async def close(self) -> None:
        """Close the file."""
        await asyncio.to_thread(self._store.close)

    async def _tell_rollouts(self) -> None:
        """Give the rollouts that run what labels say of them."""
        states = await self._database.reading(evidence.asked)
        found = [await asyncio.to_thread(evidence.labelled, self._store, state) for state in states]
        is_new = await self._database.writing(partial(evidence.keep, found=found)) if found else False
        if is_new:
            self.judged()

    async def _fetch(self, target: Target, now_s: float) -> None:
        """Take what one replica has; one that starts, is gone or answers nonsense is left for the next turn."""
        try:
            async with self._slots, asyncio.timeout(TIMEOUT_S):
                link = await connect(self._address(target.replica), timeout_s=TIMEOUT_S)
                try:
                    for _ in range(ROUNDS_MAX):
                        if await self._round(link, target, now_s) < HANDED_MAX:
                            break
                finally:
                    link.close()
        except (ReplicaLost, TimeoutError):
            return
        except (StokerError, ValueError) as odd:  # msgspec's errors are ValueErrors
            log.warning("predictions were not taken", extra={"replica": target.replica, "reason": str(odd)})

    async def _round(self, link: Link, target: Target, now_s: float) -> int:
        """Ask once, and store what is answered; return how many predictions there were."""
        spec = target.spec
        wish = Wish(spec.kind, spec.output, spec.segment) if spec is not None else None
        since, taken = self._taken.get(target.replica, ("", 0))
        answer = await _asked(link, Demand(wish, since, taken))
        if spec is None:
            return 0
        self._problems[target.project, target.endpoint] = answer.problem
        if answer.predictions:
            source = Source(
                target.project, target.endpoint, target.revision, parse_seconds(spec.keep), spec.max, spec.tolerance
            )
            self._count(await asyncio.to_thread(self._store.put, source, answer.predictions, now_s))
        self._taken[target.replica] = (answer.since, answer.first + len(answer.predictions))
        self._count_taken(target, answer)
        return len(answer.predictions)

    def _count_taken(self, target: Target, answer: Handover) -> None:
        since, before = self._dropped.get(target.replica, ("", 0))
        dropped = answer.dropped - (before if since == answer.since else 0)
        self._dropped[target.replica] = (answer.since, answer.dropped)
        whose = {"project": target.project, "endpoint": target.endpoint}
        self._metrics.counter("stoker_predictions_total", outcome="kept", **whose).add(len(answer.predictions))
        self._metrics.counter("stoker_predictions_total", outcome="dropped", **whose).add(max(dropped, 0))

    def _count(self, joined: Iterable[Joined]) -> None:
        for one in joined:
            whose = {"project": one.project, "endpoint": one.endpoint}
            which = {**whose, "revision": one.revision}
            if one.error is not None:
                self._metrics.histogram("stoker_prediction_error", **which).observe(one.error)
            if one.score is None:
                continue
            segment = self._told_apart(self._segments, (one.project, one.endpoint), one.segment, SEGMENTS_MAX)
            self._metrics.histogram("stoker_prediction_score_ratio", segment=segment, **whose).observe(one.score)
            which["segment"] = segment
            self._metrics.counter("stoker_predictions_judged_total", **which).add()
            right = self._metrics.counter("stoker_predictions_right_total", **which)
            right.add(one.score >= RIGHT)

    def _told_apart(self, names: dict[Key, set[str]], key: Key, name: str, most: int) -> str:
        known = names.setdefault(key, set())
        if name in known or len(known) < most:
            known.add(name)
            return name
        return OTHER

    async def _estimate(self, key: Key, spec: Feedback, now_s: float) -> None:
        window_s = min(ESTIMATE_WINDOW_S, parse_seconds(spec.keep))
        found = await asyncio.to_thread(estimated, self._store, self._expect, key, spec.kind, window_s, now_s)
        if found.accuracy is None:
            self._metrics.drop(ESTIMATE, project=key[0], endpoint=key[1])
        else:
            self._metrics.gauge(ESTIMATE, project=key[0], endpoint=key[1]).set(found.accuracy)


def targets_of(connection: Connection) -> list[Target]:
    """Return every replica of predict endpoints, whichever revision it is of."""
    specs = {one.key: one.resource.spec.feedback for one in endpoints.everything(connection) if not one.is_deleting}
    predicts = {one.revision for one in revisions.everything(connection) if one.config.task == "predict"}
    return [
        Target(one.project, one.endpoint, one.revision, one.replica, specs.get((one.project, one.endpoint)))
        for one in revisions.assignments(connection)
        if one.revision in predicts
    ]


def promised_of(connection: Connection) -> dict[Key, tuple[Objective, ...]]:
    """Return the objectives: segments and metrics that they name are told apart, however many others there are."""
    return {
        one.key: one.resource.spec.slos
        for one in endpoints.everything(connection)
        if one.resource.spec.feedback is not None
    }


def kept_of(connection: Connection) -> set[Key]:
    """Return the endpoints that keep predictions."""
    return {one.key for one in endpoints.everything(connection) if one.resource.spec.feedback is not None}


async def _asked(link: Link, demand: Demand) -> Handover:
    body = msgspec.msgpack.encode(demand)
    head = RequestHead(method="predictions", body_bytes=len(body))
    _, answer = await link.call(head, body, kind=Kind.CALL).answer()
    return msgspec.msgpack.decode(answer, type=Handover)
