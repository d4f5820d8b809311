"""Watches the endpoints whose model has a reference: asks replicas what they counted, judges, tells.

What is remembered lies in a file an endpoint, written whole after each look: a control that is killed goes on where
it was. All of it may be deleted; then windows fill again, and learned references are gone.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from stoker.blob.port import BlobStore
from stoker.client.views import DriftView
from stoker.control.drift import files
from stoker.control.drift.asking import Asking
from stoker.control.drift.files import Learning
from stoker.control.drift.hooks import Event, send
from stoker.control.drift.views import drift_view
from stoker.control.hooked import Resolve
from stoker.core import conditions, drift_window
from stoker.core.drift import Apart, Policy, judge
from stoker.core.drift_window import Slice, Watched
from stoker.core.reference import Misplaced, bind
from stoker.core.refs import ModelRef
from stoker.core.snapshot import EndpointState
from stoker.core.watched import Seen, seen_of
from stoker.store import endpoints, journal, models, revisions
from stoker.store.engine import Connection, Database
from stoker.telemetry.metrics import Registry
from stoker.types.drift import REFERENCE_FILE, Answer, Drawn, Question, Reference, decode_reference
from stoker.types.errors import Conflict, NotFound, StokerError
from stoker.types.ids import Digest, ModelName
from stoker.types.models import ModelVersion
from stoker.types.resources import Drift, Trigger
from stoker.types.statuses import Condition
from stoker.types.units import parse_seconds

WAIT_MIN_S: Final = 0.2  # between two turns
WAIT_MAX_S: Final = 5.0  # until a new endpoint is seen
SWEEP_EVERY_S: Final = 3600.0
LEARN_ROWS: Final = 2_000  # of each replica

log = logging.getLogger(__name__)


class Target(msgspec.Struct, frozen=True):
    """An endpoint that may be watched: what serves, what is seen of it, and where."""

    state: EndpointState
    spec: Drift
    version: ModelVersion
    seen: Seen
    replicas: tuple[str, ...]


Learn = Callable[[Learning, Mapping[str, Answer], Seen, float], Reference | str]
Compare = Callable[[Reference, Sequence[Drawn]], tuple[Apart, ...]]


class DriftWatch:
    """Looks at each endpoint every `spec.drift.every`.

    Args:
        learn, compare: make a reference of gathered rows, and compare vectors with one (learning.py and
            observe/drift/space.py, which need numpy; most controls never do).
        resolve: returns what a project's trigger names.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        root: Path,
        address: Callable[[str], str],
        metrics: Registry,
        learn: Learn,
        compare: Compare,
        resolve: Resolve,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._root = root
        self._metrics = metrics
        self._learn = learn
        self._compare = compare
        self._resolve = resolve
        self._due_s: dict[tuple[str, str], float] = {}
        self._bound: dict[tuple[str, str], tuple[str, Reference]] = {}  # by endpoint: digest, reference
        self._asking = Asking(address)
        self._awake = asyncio.Event()
        self._swept_s = 0.0

    async def run(self) -> None:
        """Look for ever; returns only by cancellation."""
        while True:
            self._awake.clear()
            try:
                await self.turn(time.time())
            except Exception:  # whatever is wrong with one look, the watch goes on
                log.exception("drift could not be looked at")
            wait_s = min(self._due_s.values(), default=math.inf) - time.time()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._awake.wait(), min(max(wait_s, WAIT_MIN_S), WAIT_MAX_S))

    async def turn(self, now_s: float) -> None:
        """Look at every endpoint that is due."""
        targets = {one.state.key: one for one in await self._database.reading(targets_of)}
        if now_s - self._swept_s >= SWEEP_EVERY_S:
            self._swept_s = now_s
            known = {each.key for each in await self._database.reading(endpoints.everything)}
            await asyncio.to_thread(files.sweep, self._root, known)
        for key in [key for key in self._due_s if key not in targets]:
            self._forget(key)
        for key, target in targets.items():
            if now_s >= self._due_s.get(key, 0.0) or self._due_s[key] - now_s > parse_seconds(target.spec.every):
                self._due_s[key] = now_s + parse_seconds(target.spec.every)
                try:
                    await self._look(target, now_s)
                except (StokerError, OSError) as problem:
                    log.warning("drift: %s", problem, extra={"endpoint": "/".join(key)})

    async def view(self, project: str, name: str) -> DriftView:
        """Return what is known of an endpoint's drift. Raises NotFound."""
        state = await self._database.reading(lambda connection: endpoints.get(connection, project, name))
        watched = files.read(self._root, state.key, Watched) or Watched()
        learning = files.read(self._root, state.key, Learning)
        digest, reference = self._bound.get(state.key, ("", None))
        return drift_view(state, watched, reference if digest == watched.reference else None, learning)

    async def learn(self, project: str, name: str, window_s: float) -> None:
        """Gather rows for `window_s`, then make a reference of them. Raises NotFound, Conflict."""
        found = [one for one in await self._database.reading(targets_of) if one.state.key == (project, name)]
        if not found:
            await self._database.reading(lambda connection: endpoints.get(connection, project, name))
            raise Conflict(f"{project}/{name} does not serve, or its spec.drift is null")
        now_s = time.time()
        version = found[0].version
        files.write(
            self._root, found[0].state.key, Learning(now_s + window_s, window_s, version.ref, str(version.digest))
        )
        self._due_s[found[0].state.key] = now_s
        await self._tell(found[0], "LearnReference", f"from the rows of the next {window_s:g} s")
        self._awake.set()

    async def _look(self, target: Target, now_s: float) -> None:
        key = target.state.key
        learning = files.read(self._root, key, Learning)
        is_over = learning is not None and now_s >= learning.until_s
        digest, reference = await self._reference(target)
        if reference is None and learning is None:
            return
        question = Question(
            reference=digest,
            gather=LEARN_ROWS if learning is not None and not is_over else 0,
            seed=learning.seed if learning is not None else "",
            take=is_over,
        )
        answers = await self._asking.ask_all(target.replicas, question, reference)
        if reference is not None:
            await self._judge(target, digest, reference, answers, now_s)
        if learning is not None and is_over:
            await self._learned(target, learning, answers, now_s)
        elif learning is not None:
            self._due_s[key] = min(self._due_s[key], learning.until_s)

    async def _judge(
        self, target: Target, digest: str, reference: Reference, answers: Mapping[str, Answer], now_s: float
    ) -> None:
        before = files.read(self._root, target.state.key, Watched) or Watched()
        spec = target.spec
        watched = drift_window.begin(before, target.state.serving, digest)
        counts = {name: one.counts for name, one in answers.items() if one.counts is not None}
        watched = drift_window.take(watched, reference, counts, parse_seconds(spec.window), now_s)
        window = drift_window.window(watched)
        assert window is not None
        policy = Policy(spec.threshold, spec.thresholds, spec.false_alarms, spec.rows_min)
        apart = await self._apart(reference, window, policy)
        verdict = judge(reference, window.slots, window.rows, policy, watched.memory, apart)
        after = drift_window.judged(watched, verdict, window.refused, now_s)
        files.write(self._root, target.state.key, after)
        if after.is_drifted != before.is_drifted:
            because = after.because if after.reference == before.reference else "it is compared with another reference"
            await self._tell(target, "Drifted" if after.is_drifted else "DriftEnded", because)
        await self._database.writing(lambda connection: put_condition(connection, target.state, after))
        self._measure(target, after)
        if verdict.is_drifted is not None:
            whose = {"project": target.state.project, "endpoint": target.state.name}
            self._metrics.histogram("stoker_drift_shift", **whose).observe(_score(after))
        await self._trigger(target, after, now_s)

    async def _apart(self, reference: Reference, window: Slice, policy: Policy) -> tuple[Apart, ...]:
        """Return how far the window's vectors are, where there are any to judge."""
        if not reference.spaces or window.rows < policy.rows_min:
            return ()
        return await asyncio.to_thread(self._compare, reference, window.drawn)

    async def _trigger(self, target: Target, watched: Watched, now_s: float) -> None:
        """Send the event when it is due. It is remembered once it arrived: a crash between sends it twice."""
        trigger = target.spec.trigger
        if trigger is None or not drift_window.is_trigger_due(watched, parse_seconds(trigger.cooldown), now_s):
            return
        view = drift_view(target.state, watched, None, None)
        event = Event(f"{target.state.project}/{target.state.name}", target.version.ref, now_s, view)
        problem = await send(trigger, event, self._root.parent / "hooks", self._resolve)
        outcome = "failed" if problem else "sent"
        whose = {"project": target.state.project, "endpoint": target.state.name}
        self._metrics.counter("stoker_drift_triggers_total", outcome=outcome, **whose).add()
        if problem:
            log.warning("a drift event was not taken", extra={"endpoint": event.endpoint, "reason": problem})
            return
        files.write(self._root, target.state.key, msgspec.structs.replace(watched, triggered_s=now_s))
        await self._tell(target, "TriggerRetraining", f"{_name(trigger)}: {watched.because}")

    async def _learned(self, target: Target, learning: Learning, answers: Mapping[str, Answer], now_s: float) -> None:
        made = await asyncio.to_thread(self._learn, learning, answers, target.seen, now_s)
        if isinstance(made, str):
            await self._tell(target, "LearnFailed", made)
        else:
            files.write(self._root, target.state.key, files.Learned(target.version.ref, now_s, made))
            await self._tell(target, "ReferenceLearned", f"{made.source}; {_many(made)}")
            self._due_s[target.state.key] = now_s
        files.remove(self._root, target.state.key, Learning)

    async def _reference(self, target: Target) -> tuple[str, Reference | None]:
        """Return the reference, bound, and its digest: the learned one of this version, else the version's own."""
        key, manifest = target.state.key, target.version.manifest
        own = next((one for one in manifest.files if one.path == REFERENCE_FILE), None)
        found = files.read(self._root, key, files.Learned)
        if found is not None and found.model == target.version.ref:
            digest, source = f"learned {found.made_at_s}", found.reference
        elif own is not None:
            digest, source = own.digest, None
        else:
            return "", None
        if key in self._bound and self._bound[key][0] == digest:
            return self._bound[key]
        bound = bind(source or await self._stored(target, digest), target.seen.signature, target.seen.planes)
        if isinstance(bound, Misplaced):
            raise NotFound(f"the reference of {target.version.ref} does not fit it: {bound.message}")
        self._bound[key] = (digest, bound)
        return digest, bound

    async def _stored(self, target: Target, digest: str) -> Reference:
        path = self._blobs.path(Digest(digest))
        try:
            return decode_reference(await asyncio.to_thread(path.read_bytes))
        except ValueError as wrong:
            raise NotFound(f"{REFERENCE_FILE} of {target.version.ref}: {wrong}") from wrong

    async def _tell(self, target: Target, action: str, because: str) -> None:
        state = target.state
        entry = journal.Entry(time.time(), action, because, state.project, state.name, target.version.ref)
        await self._database.writing(lambda connection: journal.add(connection, entry))

    def _measure(self, target: Target, watched: Watched) -> None:
        whose = {"project": target.state.project, "endpoint": target.state.name}
        gauge = self._metrics.gauge
        gauge("stoker_drift_rows", **whose).set(watched.rows)
        gauge("stoker_drift_refused", **whose).set(watched.refused)
        gauge("stoker_drifted", **whose).set(float(watched.is_drifted))
        gauge("stoker_drift_score", **whose).set(_score(watched))
        for level in ("steady", "moved", "drifted"):
            count = sum(one.level == level for one in watched.shifts)
            gauge("stoker_drift_features", level=level, **whose).set(count)

    def _forget(self, key: tuple[str, str]) -> None:
        """Drop what is kept in memory of an endpoint that is not watched any more; its files only when it is gone."""
        del self._due_s[key]
        self._bound.pop(key, None)
        whose = {"project": key[0], "endpoint": key[1]}
        for name in ("stoker_drift_rows", "stoker_drift_refused", "stoker_drifted", "stoker_drift_score"):
            self._metrics.drop(name, **whose)
        for level in ("steady", "moved", "drifted"):
            self._metrics.drop("stoker_drift_features", level=level, **whose)


def _name(trigger: Trigger) -> str:
    """Return who is told, in words; the rest of its address may be a secret."""
    return trigger.webhook_from or (urlsplit(trigger.webhook).hostname or "") or trigger.command


def _many(reference: Reference) -> str:
    spaces = f", {len(reference.spaces)} of vectors" if reference.spaces else ""
    return f"{len(reference.features)} features{spaces}"


def _score(watched: Watched) -> float:
    return max((one.psi for one in watched.shifts), default=0.0)


def targets_of(connection: Connection) -> list[Target]:
    """Return the endpoints that serve and may be watched."""
    serving = {one.serving: one for one in endpoints.everything(connection) if one.serving and not one.is_deleting}
    found = []
    placed = revisions.assignments(connection)
    for revision in revisions.everything(connection):
        state = serving.get(revision.revision)
        if state is None or state.resource.spec.drift is None:
            continue
        ref = ModelRef(name=ModelName(revision.config.model), number=revision.config.number)
        names = tuple(one.replica for one in placed if one.revision == revision.revision and one.phase == "wanted")
        version = models.get(connection, ref)
        seen = seen_of(revision.config.task, revision.config.seen(version.manifest.signature))
        found.append(Target(state, state.resource.spec.drift, version, seen, names))
    return found


def put_condition(connection: Connection, state: EndpointState, watched: Watched) -> None:
    """Set the endpoint's condition Drifted."""
    now = endpoints.find(connection, state.project, state.name)
    if now is None or now.is_deleting:
        return
    is_enough = bool(watched.shifts)
    reason = "FeaturesDrifted" if watched.is_drifted else "AsReference" if is_enough else "TooFewRows"
    said = Condition(conditions.DRIFTED, watched.is_drifted, reason, watched.because, watched.judged_s)
    status = msgspec.structs.replace(now.status, conditions=conditions.put(now.status.conditions, said))
    endpoints.set_status(connection, state.project, state.name, status)
