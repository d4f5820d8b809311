"""Requests for rollouts that too few real ones come to: kept ones (`quiet: replay`), or its examples (`examples`).

When a step's dwell is over and the canary has had too few requests, they are sent to one ready replica of each arm,
the same one to both, one at a time and the arms in turns, past the gateways: no client meets them, nothing meters them,
and drift does not see them. What came of them is one more reading beside those of the gateways.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from stoker.blob.port import BlobStore
from stoker.control.releases import kept
from stoker.control.releases.ask import Answer, Fleet, ask
from stoker.core import arms
from stoker.core.gate import golden
from stoker.core.gate.golden import BadGolden
from stoker.core.refs import ModelRef
from stoker.core.rollout.course import course
from stoker.core.rollout.state import RolloutState
from stoker.observe.samples import SampleStore
from stoker.store import models, releases, revisions, rollouts
from stoker.store.engine import Connection, Database
from stoker.telemetry.histogram import bucket_index
from stoker.types.errors import Draining, NotFound, ReplicaLost
from stoker.types.ids import Digest, ModelName
from stoker.types.models import Signature
from stoker.types.releases import GOLDEN_FILE
from stoker.types.rollouts import ArmCounts, RolloutCounts
from stoker.types.units import parse_seconds

EVERY_S: Final = 2.0
PAIRS_MAX: Final = 50  # in one round of one rollout
SAMPLES_MAX: Final = 500  # that are sent again and again, the newest
TIMEOUT_S: Final = 30.0

log = logging.getLogger(__name__)


class Quiet:
    """Sends kept requests to both arms. What it counted is lost with the process, as a gateway's counts are."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        samples: SampleStore,
        fleet: Fleet,
        acts: Callable[[], bool],
        changed: Callable[[], None],
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._samples = samples
        self._fleet = fleet
        self._acts = acts
        self._changed = changed
        self._boot = f"replay-{secrets.token_hex(8)}"
        self._counts: dict[int, RolloutCounts] = {}
        self._sent: dict[int, int] = {}

    def readings(self) -> Mapping[int, Mapping[str, RolloutCounts]]:
        """Return what was counted, by the number of the rollout and this process."""
        return {number: {self._boot: counts} for number, counts in self._counts.items()}

    async def run(self) -> None:
        """Look every EVERY_S; returns only by cancellation."""
        while True:
            try:
                await self._look()
            except Exception:  # whatever a sample or a replica is like, the watch goes on
                log.exception("kept requests could not be sent; they are again")
            await asyncio.sleep(EVERY_S)

    async def _look(self) -> None:
        running = await self._database.reading(rollouts.running) if self._acts() else []
        numbers = {each.state.number for each in running}
        self._counts = {number: counts for number, counts in self._counts.items() if number in numbers}
        self._sent = {number: sent for number, sent in self._sent.items() if number in numbers}
        for each in running:
            if is_quiet(each.state, time.time()):
                await self._send(each.state)

    async def _send(self, state: RolloutState) -> None:
        if state.spec.quiet == "examples":
            bodies = await self._examples(state)
        else:
            found = await kept.newest(self._samples, state.project, state.endpoint, SAMPLES_MAX)
            bodies = [body for each in found if (body := kept.request(each)) is not None]
        canary, baseline = self._fleet.ready(state.canary), self._fleet.ready(state.baseline)
        if not bodies or canary is None or baseline is None:
            return
        counts = self._counts.setdefault(state.number, RolloutCounts(state.number))
        with suppress(ReplicaLost, Draining):  # the next round finds another; whoever watches replicas has seen it
            await self._pairs(state, counts, bodies, (canary.name, baseline.name))
        self._changed()

    async def _examples(self, state: RolloutState) -> list[kept.Asking]:
        """Return the endpoint's examples as calls, else the version's; none, with a line in the log, without any."""
        try:
            signature, task, digest = await self._database.reading(partial(_held, state=state))
            data = await asyncio.to_thread(self._blobs.path(digest).read_bytes)
            every = golden.read(data)[:SAMPLES_MAX]
            return [golden.request(each, task, signature) for each in every]
        except (NotFound, BadGolden, OSError) as problem:
            log.warning("there are no examples to send", extra={"endpoint": state.endpoint, "reason": str(problem)})
            return []

    async def _pairs(
        self,
        state: RolloutState,
        counts: RolloutCounts,
        bodies: Sequence[tuple[str, bytes]],
        replicas: tuple[str, str],
    ) -> None:
        """Send up to PAIRS_MAX of `bodies` to the canary's and the baseline's replica."""
        links = [await self._fleet.link(name) for name in replicas]
        sides = (counts.arms.canary, counts.arms.baseline)
        try:
            for _ in range(PAIRS_MAX):
                at = self._sent.get(state.number, 0)
                self._sent[state.number] = at + 1
                method, body = bodies[at % len(bodies)]
                order = (0, 1) if at % 2 else (1, 0)  # who is first finds the caches colder
                answers: dict[int, Answer] = {}
                for side in order:
                    answers[side] = await ask(links[side], method, body, TIMEOUT_S)
                for side, answer in answers.items():
                    counted(sides[side], answer, state.slow_s)
        finally:
            for link in links:
                link.close()


def _held(connection: Connection, state: RolloutState) -> tuple[Signature, str, Digest]:
    """Return what clients see of the canary, its task, and the examples that are sent to it. Raises NotFound."""
    config = revisions.get(connection, state.canary).config
    version = models.get(connection, ModelRef(name=ModelName(config.model), number=config.number))
    held = releases.golden(connection, state.project, state.endpoint)
    seen = config.seen(version.manifest.signature)
    if held is not None:
        return seen, config.task, held.digest
    own = next((each.digest for each in version.manifest.files if each.path == GOLDEN_FILE), None)
    if own is None:
        raise NotFound(f"neither the endpoint nor {version.ref} has examples")
    return seen, config.task, own


def is_quiet(state: RolloutState, now_s: float) -> bool:
    """Return whether a step waits for requests only, and others may stand in."""
    spec = state.spec
    return (
        spec.quiet != "hold"
        and state.phase == "stepping"
        and bool(course(spec, state.strategy).steps)
        and state.arrivals.total < spec.requests_min
        and now_s - state.since_s >= parse_seconds(spec.dwell)
    )


def counted(side: ArmCounts, answer: Answer, slow_s: float) -> None:
    """Count an answer for its arm, as a gateway would."""
    if answer.problem:
        is_late = answer.seconds >= TIMEOUT_S
        events = arms.failed(answer.seconds, slow_s, is_late=is_late)
    else:
        events = arms.answered(answer.seconds, slow_s, is_invalid=False)
        bucket = bucket_index(answer.seconds)
        side.latencies[bucket] = side.latencies.get(bucket, 0) + 1
    side.total += 1
    for event in events:
        side.bad[event] = side.bad.get(event, 0) + 1
