"""What this gateway sees of a rollout: the tries of both arms, by cohort, as control asks for them (CALL `rollouts`).

A try counts for the arm it was given to (core/arms.py), when it has ended, if it began under this rollout.

Deaths wait for a judgement. Who was in a replica that died is tried alone (fleet/trial.py), in the baseline: if one of
them kills again, it was the request and not the arm, and all that this death cost is forgiven. When all have outlived
it, or after FORGIVE_S, the arm is charged.
"""

import random
from collections.abc import Callable, Iterable
from typing import Final

from stoker.core import arms as rules
from stoker.gateway.exchange import Exchange
from stoker.gateway.fleet.replica import Replica
from stoker.gateway.meters import Meters
from stoker.gateway.protocols.prefix import SESSION_HEADER
from stoker.protocol.frames import EndHead
from stoker.telemetry.histogram import Histogram
from stoker.telemetry.metrics import Counter
from stoker.types.errors import Busy, DeadlineExceeded, Draining, StokerError
from stoker.types.replica import Usage
from stoker.types.rollouts import COHORTS_MAX, ArmCounts, BadEvent, RolloutCounts, RolloutRoute
from stoker.types.rollouts import Arms as ArmsCounts
from stoker.types.routes import EndpointRoute

FORGIVE_S: Final = 5.0
DEATHS_MAX: Final = 64  # that wait for a judgement; the oldest is charged when one more comes
TRIES_MAX: Final = 4096  # of one death; those after them are charged at once
SECRETS: Final = frozenset(
    (b"authorization", b"cookie", b"proxy-authorization", b"x-api-key")
)  # never names of cohorts
VALUES_MAX: Final = 4 * COHORTS_MAX  # of a segment, as clients send them, whose cohort is remembered


class Tally:
    """The tries of one arm in one cohort."""

    __slots__ = ("bad", "total")

    def __init__(self) -> None:
        self.total = 0
        self.bad: dict[str, int] = {}

    def add(self, events: tuple[BadEvent, ...]) -> None:
        """Count one try that was bad in the ways of `events`."""
        self.total += 1
        if events:
            for event in events:
                self.bad[event] = self.bad.get(event, 0) + 1

    def counts(self) -> ArmCounts:
        """Return what was counted."""
        return ArmCounts(self.total, dict(self.bad))


class Arm(Tally):
    """One arm as a whole."""

    __slots__ = ("_meters", "_outcomes", "latencies", "name", "side", "unjudged")

    def __init__(self, name: str, side: int, meters: Meters) -> None:
        super().__init__()
        self.name = name  # as its metrics say
        self.side = side  # its place in the pairs of cohorts
        self.latencies = Histogram()
        self.unjudged = 0
        self._meters = meters
        self._outcomes: dict[str, Counter] = {}

    def take(self, events: tuple[BadEvent, ...], cohorts: "Iterable[Pair]") -> None:
        """Count one try, for everybody and for its cohorts."""
        self.add(events)
        for pair in cohorts:
            if events:
                pair[self.side].add(events)
            else:
                pair[self.side].total += 1
        outcome = events[0] if events else rules.GOOD
        counter = self._outcomes.get(outcome)
        if counter is None:
            counter = self._outcomes[outcome] = self._meters.rollout_tries(self.name, outcome)
        counter.value += 1.0

    def counts(self) -> ArmCounts:
        """Return what was counted."""
        return ArmCounts(self.total, dict(self.bad), self.latencies.read().buckets, self.unjudged)


Pair = tuple[Tally, Tally]  # the canary's and the baseline's


def header_of(name: str) -> bytes:
    """Return the header that `header:NAME` means; empty for anything else."""
    kind, _, header = name.partition(":")
    return header.strip().lower().encode("latin-1", "replace") if kind == "header" else b""


class Segment:
    """One way of the manifest to tell requests apart: tenant, size, or a header."""

    __slots__ = ("_cohorts", "_header", "_known", "_name")

    def __init__(self, name: str, cohorts: dict[str, Pair]) -> None:
        self._name = name
        self._header = header_of(name)
        if self._header in SECRETS:
            self._header, self._name = b"", ""
        self._known: dict[bytes | str | int, Pair | None] = {}
        self._cohorts = cohorts  # of all segments together

    def pair(self, exchange: Exchange) -> Pair | None:
        """Return where a request counts; None: for everybody only."""
        value: bytes | str | int | None
        if self._header:
            value = exchange.request.headers.get(self._header)
        elif self._name == "size":
            value = rules.size_step(len(exchange.body))
        elif self._name == "tenant" and exchange.key is not None:
            value = exchange.key.limits.tenant or exchange.key.key
        else:
            value = None
        if value is None:
            return None
        found = self._known.get(value, self)
        return self._new(value) if isinstance(found, Segment) else found

    def _new(self, value: bytes | str | int) -> Pair | None:
        if len(self._known) >= VALUES_MAX:
            return None
        if isinstance(value, int):
            name = rules.cohort(self._name, rules.size_name(value))
        else:
            name = rules.cohort(self._name, value if isinstance(value, str) else value.decode("latin-1"))
        pair = self._cohorts.get(name)
        if pair is None and len(self._cohorts) < COHORTS_MAX:
            pair = self._cohorts[name] = (Tally(), Tally())
        self._known[value] = pair
        return pair


class _Death:
    """One process that died, and the tries that it took along."""

    __slots__ = ("shapes", "since_s", "tries")

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.shapes: set[bytes] = set()  # that nobody knows yet to be innocent
        self.tries: list[tuple[Arm, tuple[BadEvent, ...], list[Pair]]] = []


class Arms:
    """Both arms of the rollout that `route` has."""

    def __init__(
        self, route: EndpointRoute, rollout: RolloutRoute, meters: Meters, give_up: Callable[[str], object]
    ) -> None:
        self.rollout = rollout
        self.reverted = ""  # why the canary gets nothing more here
        self.copying = 0  # requests that are copied now (layers/shadow.py)
        self._copies = self._disagreements = 0
        self._give_up = give_up
        self._failed = 0  # tries of the canary, all it had since it got the weight of now; -1: one was answered
        self.share = 0.0  # of requests that the canary is given
        self.canary = rollout.canary
        self.baseline = rollout.baseline
        self._canary, self._baseline = Arm("canary", 0, meters), Arm("baseline", 1, meters)
        self._arms = {self.canary: self._canary, self.baseline: self._baseline}
        self._cohorts: dict[str, Pair] = {}
        self._segments = tuple(Segment(each, self._cohorts) for each in rollout.segments)
        self._deaths: dict[str, _Death] = {}
        self._lines = {name: b"x-stoker-revision: %b\r\n" % name.encode() for name in self._arms}
        self.follow(route, rollout)

    def follow(self, route: EndpointRoute, rollout: RolloutRoute) -> None:
        """Take a newer route of the same rollout."""
        weights = {str(each.revision): each.weight for each in route.revisions}
        share = rules.share(weights.get(self.canary, 0), weights.get(self.baseline, 0))
        if share != self.share:
            self.share, self._failed = share, 0
        if rollout.segments != self.rollout.segments:
            self._segments = tuple(Segment(each, self._cohorts) for each in rollout.segments)
        self.headers = {header_of(each) for each in (*rollout.segments, rollout.sticky)} - {b""}
        self._sticky = header_of(rollout.sticky)
        self.rollout = rollout

    def assign(self, exchange: Exchange) -> None:
        """Say which arm the next try of `exchange` goes to, as far as it can (fleet/choice.py). Drawn once: whoever
        waits for a place in one arm must not be drawn for the other meanwhile, or a full baseline fills the canary."""
        if exchange.tries:
            exchange.arm = self.baseline
        else:
            exchange.arm = self.of_who(exchange) or (self.canary if random.random() < self.share else self.baseline)

    def of_who(self, exchange: Exchange) -> str:
        """Return the arm of whoever asks, where it is told by that; "" where it is to be drawn."""
        value = self._who(exchange) if self.rollout.sticky else b""
        if not value:
            return ""
        return self.canary if rules.is_canary(self.rollout.number, value, self.share) else self.baseline

    def counts_try(self, exchange: Exchange) -> bool:
        """Return whether the try that begins now is one that chance gave to its arm."""
        if self.rollout.mirror is not None and not exchange.is_copied:
            return False  # both arms are seen with the same requests
        return not (exchange.tries or exchange.version or exchange.on_trial)

    def header(self, revision: str) -> bytes:
        """Return the header line that tells the client which arm answered."""
        return self._lines.get(revision, b"")

    # ---- tries that ended; each began under this rollout, and `counts_try` was true of it

    def answered(self, exchange: Exchange, replica: Replica, end: EndHead, now_s: float) -> None:
        """Count a try that was answered."""
        arm = self._arms.get(replica.revision)
        if arm is None:
            return
        first_s = (exchange.first_byte_s or now_s) - exchange.sent_s
        usage = end.usage
        is_invalid = bool(usage.loops) or (bool(usage.input_tokens) and _is_empty(exchange, usage))
        if not is_invalid:
            arm.latencies.observe(first_s)
        arm.take(
            rules.answered(first_s, self.rollout.slow_s, is_invalid=is_invalid),
            self._pairs(exchange) if self._segments else (),
        )
        if arm is self._canary:
            self._failed = -1

    def failed(self, exchange: Exchange, replica: Replica, problem: StokerError, now_s: float) -> None:
        """Count a try that the replica did not answer; apart where that says nothing of its arm."""
        arm = self._arms.get(replica.revision)
        if arm is None or isinstance(problem, Draining):
            return
        if problem.status < 500 or isinstance(problem, Busy):
            arm.unjudged += 1
            return
        first_s = (exchange.first_byte_s or now_s) - exchange.sent_s
        events = rules.failed(first_s, self.rollout.slow_s, is_late=isinstance(problem, DeadlineExceeded))
        self._lost(arm, events, self._pairs(exchange))

    def died(self, exchange: Exchange, replica: Replica, shape: bytes, now_s: float) -> None:
        """Keep a try whose replica died until it is known whether a request was why."""
        arm = self._arms.get(replica.revision)
        if arm is None:
            return
        name = f"{replica.id} {replica.boot}"
        death = self._deaths.get(name)
        if death is None:
            if len(self._deaths) >= DEATHS_MAX:
                self._charge(next(iter(self._deaths)))
            death = self._deaths[name] = _Death(now_s)
        first_s = (exchange.first_byte_s or now_s) - exchange.sent_s
        events = rules.failed(first_s, self.rollout.slow_s, is_late=False)
        if len(death.tries) >= TRIES_MAX:
            self._lost(arm, events, self._pairs(exchange))
            return
        death.shapes.add(shape)
        death.tries.append((arm, events, self._pairs(exchange)))

    def gone(self, exchange: Exchange, replica: Replica, now_s: float) -> None:
        """Count a try that was given up: the deadline passed, or the caller left."""
        arm = self._arms.get(replica.revision)
        if arm is None:
            return
        is_begun = exchange.first_byte_s > 0.0
        waited_s = (exchange.first_byte_s or now_s) - exchange.sent_s
        slow_s = self.rollout.slow_s
        if isinstance(exchange.cause, DeadlineExceeded) or now_s >= exchange.deadline_s:
            self._lost(arm, rules.failed(waited_s, slow_s, is_late=True), self._pairs(exchange))
            return
        if exchange.cause is not None:
            return
        events = rules.left(waited_s, slow_s, self._patience_s(), is_begun=is_begun)
        if events is not None and is_begun:
            arm.take(events, self._pairs(exchange))
        elif events is not None:
            self._lost(arm, events, self._pairs(exchange))

    def compared(self, *, agreed: bool) -> None:
        """Count a copy whose answer was compared."""
        self._copies += 1
        self._disagreements += not agreed

    # ---- what became of those who were in a replica that died

    def outlived(self, shape: bytes) -> None:
        """Take note that requests of `shape` do not kill."""
        for name, death in list(self._deaths.items()):
            death.shapes.discard(shape)
            if not death.shapes:
                self._charge(name)

    def convicted(self, shape: bytes) -> None:
        """Forgive the deaths that requests of `shape` were in: they kill whatever they are sent to."""
        for name in [name for name, death in self._deaths.items() if shape in death.shapes]:
            del self._deaths[name]

    def sweep(self, now_s: float) -> None:
        """Charge the deaths that nobody explained in time. Called about once a second."""
        for name in [name for name, death in self._deaths.items() if now_s - death.since_s >= FORGIVE_S]:
            self._charge(name)

    # ---- what control is told

    def counts(self, project: str, endpoint: str) -> RolloutCounts:
        """Return what was counted."""
        return RolloutCounts(
            self.rollout.number,
            ArmsCounts(self._canary.counts(), self._baseline.counts()),
            {name: ArmsCounts(one.counts(), other.counts()) for name, (one, other) in self._cohorts.items()},
            copies=self._copies,
            disagreements=self._disagreements,
            reverted=self.reverted,
            project=project,
            endpoint=endpoint,
        )

    def _who(self, exchange: Exchange) -> bytes:
        headers = exchange.request.headers
        if self._sticky:
            return headers.get(self._sticky, b"")
        match self.rollout.sticky:
            case "key" if exchange.key is not None:
                return str(exchange.key.key).encode()
            case "user":
                return exchange.user.encode("utf-8", "surrogatepass")
            case "session":
                session = exchange.cache_key or exchange.user
                return headers.get(SESSION_HEADER) or session.encode("utf-8", "surrogatepass")
        return b""

    def _charge(self, name: str) -> None:
        for arm, events, cohorts in self._deaths.pop(name).tries:
            self._lost(arm, events, cohorts)

    def _lost(self, arm: Arm, events: tuple[BadEvent, ...], cohorts: Iterable[Pair]) -> None:
        """Count a try without an answer; the canary is given up when its first ones all were."""
        arm.take(events, cohorts)
        if arm is self._canary and self._failed >= 0 and not self.reverted:
            self._failed += 1
            if 0 < self.rollout.first_failed <= self._failed:
                self._give_up(f"the first {self._failed} requests of {self.canary} all failed, the last: {events[0]}")

    def _pairs(self, exchange: Exchange) -> list[Pair]:
        return [pair for each in self._segments if (pair := each.pair(exchange)) is not None]

    def _patience_s(self) -> float:
        seen = self._baseline.latencies.read()
        usual_s = seen.quantile(rules.PATIENCE_QUANTILE) if seen.count >= rules.PATIENCE_SEEN_MIN else None
        return rules.PATIENCE * (usual_s or 0.0)


def following(
    known: Arms | None, route: EndpointRoute, meters: Meters, give_up: Callable[[str], object]
) -> Arms | None:
    """Return what counts under a newer route: the same for the same rollout, so that what is under way counts.

    Args:
        give_up: gives the canary nothing more, and says why.
    """
    rollout = route.rollout
    if rollout is None:
        return None
    if (
        known is not None
        and known.rollout.number == rollout.number
        and (known.canary, known.baseline) == (rollout.canary, rollout.baseline)
    ):
        known.follow(route, rollout)
        return known
    return Arms(route, rollout, meters, give_up)


def _is_empty(exchange: Exchange, usage: Usage) -> bool:
    """Return whether a language model was asked and said nothing; the end of an answer counts as a token."""
    is_text = exchange.method in ("chat", "completions")
    return is_text and usage.output_tokens <= 1 and exchange.max_tokens != 1
