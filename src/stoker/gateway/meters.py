"""The numbers of one endpoint, each handle obtained once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stoker.core.circuit import State
from stoker.gateway.phases import Phases
from stoker.gateway.tally import Tally
from stoker.gateway.tenants import Promised, Tenants
from stoker.gateway.tries import ReplicaMeters
from stoker.telemetry.histogram import Exemplar
from stoker.telemetry.metrics import Counter, Gauge, Histogram, Registry
from stoker.types.replica import EngineCalls, Usage

# What a revision counted last is asked for every 5 s (observe/port.py): it stays for three of those.
GONE_KEPT_S: Final = 15.0
BREAKER_STATES: Final[dict[State, float]] = {"closed": 0.0, "half-open": 1.0, "open": 2.0}


class TextMeters:
    """What is counted for a revision of a language model, and a method."""

    __slots__ = (
        "between", "cached", "first_token", "input", "output", "output_length", "per_token", "prompt_length", "saved",
    )  # fmt: skip

    def __init__(self, registry: Registry, labels: dict[str, str], method: str) -> None:
        self.first_token = registry.histogram("stoker_time_to_first_token_seconds", method=method, **labels)
        self.per_token = registry.histogram("stoker_time_per_output_token_seconds", method=method, **labels)
        self.between = registry.histogram("stoker_inter_token_latency_seconds", **labels)
        self.prompt_length = registry.histogram("stoker_prompt_tokens", method=method, **labels)
        self.output_length = registry.histogram("stoker_output_tokens", method=method, **labels)
        self.input = registry.counter("stoker_tokens_total", kind="input", **labels)
        self.output = registry.counter("stoker_tokens_total", kind="output", **labels)
        self.cached = registry.counter("stoker_tokens_total", kind="cached", **labels)
        self.saved = registry.counter("stoker_tokens_total", kind="saved", **labels)


class RevisionMeters:
    """What is counted for one revision and method."""

    __slots__ = (
        "_codes", "_labels", "_registry", "_reported", "_text", "batch_rows", "duration", "phases", "revision", "rows",
        "tally",
    )  # fmt: skip

    def __init__(
        self, registry: Registry, labels: dict[str, str], endpoint: "Meters", revision: str, method: str
    ) -> None:
        self._registry = registry
        self.revision = revision
        labels = {**labels, "revision": revision}
        self._labels = {**labels, "method": method}
        self._codes: dict[int, Counter] = {}
        self._reported: dict[tuple[str, str], Counter] = {}
        self.duration = registry.histogram("stoker_request_duration_seconds", **self._labels)
        self.rows = registry.counter("stoker_rows_total", **labels)
        self.batch_rows = registry.histogram("stoker_batch_rows", **labels)
        self._text: TextMeters | None = None
        self.phases = Phases(registry, labels)
        self.tally = Tally(self, endpoint)

    def let_go(self, nobody: Registry) -> None:
        """See Meters.let_go."""
        self._registry = nobody
        self.phases.let_go(nobody)

    def code(self, status: int) -> Counter:
        """Return the counter of answers with `status`."""
        found = self._codes.get(status)
        if found is None:
            found = self._codes[status] = self._registry.counter(
                "stoker_requests_total", code=str(status), **self._labels
            )
        return found

    @property
    def text(self) -> "TextMeters":
        """What is counted of a language model's answers, from the first one on."""
        if self._text is None:
            labels = {name: value for name, value in self._labels.items() if name != "method"}
            self._text = TextMeters(self._registry, labels, self._labels["method"])
        return self._text

    def show(self, took_s: float, first_s: float, trace: str, span: str, at_s: float) -> None:
        """Name the trace of a request whose times were counted; `first_s` 0: it had no first token."""
        self.duration.show(Exemplar(took_s, trace, span, at_s))
        if first_s and self._text is not None:
            self._text.first_token.show(Exemplar(first_s, trace, span, at_s))

    def tokens(self, usages: Sequence[Usage]) -> None:
        """Count what a language model read and wrote, for one answer or many."""
        text = self.text
        inputs, outputs = [usage.input_tokens for usage in usages], [usage.output_tokens for usage in usages]
        text.input.add(sum(inputs))
        text.output.add(sum(outputs))
        text.cached.add(sum([usage.cached_tokens for usage in usages]))
        text.prompt_length.observe_all(inputs)
        text.output_length.observe_all([count for count in outputs if count])
        empty = sum([usage.output_tokens <= 1 and not usage.rows for usage in usages])  # embeddings have rows
        if empty:
            self._counter("stoker_empty_outputs_total", "", "").add(empty)
        loops = sum([usage.loops > 0 for usage in usages])
        if loops:
            self._counter("stoker_repeating_outputs_total", "", "").add(loops)
        guessed = sum([usage.guessed_tokens for usage in usages])
        if guessed:
            held = sum([min(usage.accepted_tokens, usage.guessed_tokens) for usage in usages])
            self._counter("stoker_speculative_tokens_total", "outcome", "accepted").add(held)
            self._counter("stoker_speculative_tokens_total", "outcome", "rejected").add(guessed - held)

    def save(self, usage: Usage) -> None:
        """Count the tokens of an answer that was given once more without being computed."""
        if usage.input_tokens or usage.output_tokens:
            self.text.saved.add(usage.input_tokens + usage.output_tokens)

    def engine_calls(self, calls: EngineCalls) -> None:
        """Count what a replica reports of its engine calls; what never happened has no series."""
        for because, count in calls.by_reason.items():
            self._counter("stoker_engine_calls_total", "because", because).add(count)
        if calls.values:
            self._counter("stoker_padded_values_total", "kind", "input").add(calls.values - calls.padding)
            self._counter("stoker_padded_values_total", "kind", "padding").add(calls.padding)

    def dropped(self) -> None:
        """Count a request that a replica gave up for its deadline."""
        self._counter("stoker_dropped_total", "", "").add(1)

    def _counter(self, name: str, label: str, value: str) -> Counter:
        found = self._reported.get((name, value))
        if found is None:
            labels = {name: value for name, value in self._labels.items() if name != "method"}
            if label:
                labels[label] = value
            found = self._reported[name, value] = self._registry.counter(name, **labels)
        return found


@dataclass(frozen=True, slots=True)
class CacheMeters:
    """What is counted of an endpoint's kept answers."""

    hits: Counter
    misses: Counter
    bytes: Gauge


class Meters:
    """What is counted for one endpoint."""

    __slots__ = (
        "_attempts",
        "_cache",
        "_choices",
        "_gone",
        "_labels",
        "_paid",
        "_registry",
        "_replicas",
        "_reverted",
        "cancelled",
        "promised",
        "queue_wait",
        "revisions",
        "tenants",
    )  # fmt: skip

    def __init__(self, registry: Registry, project: str, endpoint: str) -> None:
        self._registry = registry
        self._labels = {"project": project, "endpoint": endpoint}
        self.revisions: dict[tuple[str, str], RevisionMeters] = {}  # by revision and method
        self._replicas: dict[tuple[str, str], ReplicaMeters] = {}
        self._attempts: dict[tuple[str, str], Counter] = {}
        self._choices: dict[str, Counter] = {}
        self._paid: Counter | None = None  # of those that have a price
        self._reverted: Gauge | None = None
        self._gone: dict[str, float] = {}  # since when; revisions that left the table
        self.queue_wait: Histogram = registry.histogram("stoker_queue_wait_seconds", **self._labels)
        self.cancelled: Counter = registry.counter("stoker_cancelled_total", **self._labels)
        self.tenants = Tenants(registry, self._labels)
        self.promised = Promised(registry, self._labels)
        self._cache: CacheMeters | None = None  # most endpoints keep nothing

    def revision(self, revision: str, method: str) -> RevisionMeters:
        """Return the meters of one revision ("" before one was chosen) and method."""
        found = self.revisions.get((revision, method))
        if found is None:
            found = self.revisions[revision, method] = RevisionMeters(
                self._registry, self._labels, self, revision, method
            )
        return found

    def keep(self, revisions: set[str], now_s: float) -> None:
        """Let go what is counted of revisions that left the table."""
        left = {name for name, _ in (*self.revisions, *self._attempts)} - revisions - {""}
        self._gone = {revision: self._gone.get(revision, now_s) for revision in left}

    def promise(self, promised_to: Iterable[str], timed_for: Mapping[str, tuple[str, ...]]) -> None:
        """Count from now on also what objectives of these tenants' own judge."""
        self.count()
        self.promised.follow(promised_to, timed_for)

    def attempt(self, revision: str, outcome: str, count: int = 1) -> None:
        """Count answers that objectives judge (core/attempts.py)."""
        found = self._attempts.get((revision, outcome))
        if found is None:
            found = self._attempts[revision, outcome] = self._registry.counter(
                "stoker_first_attempts_total", revision=revision, outcome=outcome, **self._labels
            )
        found.value += count

    def replica(self, revision: str, replica: str) -> ReplicaMeters:
        """Return the meters of one replica."""
        found = self._replicas.get((revision, replica))
        if found is None:
            labels = {**self._labels, "revision": revision, "replica": replica}
            found = self._replicas[revision, replica] = ReplicaMeters(self._registry, labels)
        return found

    def forget_replica(self, replica: str) -> None:
        """Drop what is counted of a replica that left the table."""
        self._let_go([key for key in self._replicas if key[1] == replica])
        self._registry.forget(replica=replica, **self._labels)

    def let_go(self) -> None:
        """Count for nobody from now on: the endpoint was deleted, and what ends later would make series that stay."""
        self._let_go(list(self._replicas))
        nobody = Registry()
        for each in self.revisions.values():
            each.let_go(nobody)
        self.tenants.let_go(nobody)
        self.promised.let_go(nobody)
        self._registry = nobody

    def _let_go(self, replicas: list[tuple[str, str]]) -> None:
        for key in replicas:
            self._replicas.pop(key).let_go()

    def count(self) -> None:
        """Count what was noted (tally.py): before anything is read, and before what it belongs to changes."""
        for revision in self.revisions.values():
            revision.tally.count()
        for replica in self._replicas.values():
            replica.count()

    def waited(self, tenant: str, seconds: float) -> None:
        """Count that a request waited for a place."""
        self.queue_wait.observe(seconds)
        self.tenants.of(tenant).waited(seconds)

    def cold(self) -> None:
        """Count a request that waits while no replica is ready."""
        self._registry.counter("stoker_cold_requests_total", **self._labels).add(1)

    def client_retry(self) -> None:
        """Count a request that its client sent before."""
        self._registry.counter("stoker_client_retries_total", **self._labels).add(1)

    def turn(self, now_s: float) -> None:
        """Do what is done once a second."""
        self.count()
        self.tenants.sweep(now_s)
        for revision in [name for name, since_s in self._gone.items() if now_s - since_s >= GONE_KEPT_S]:
            del self._gone[revision]
            self._registry.forget(revision=revision, **self._labels)
            self.revisions = {key: meters for key, meters in self.revisions.items() if key[0] != revision}
            self._let_go([key for key in self._replicas if key[0] == revision])
            self._attempts = {key: count for key, count in self._attempts.items() if key[0] != revision}
        for meters in self.revisions.values():
            meters.phases.turn()

    def served(self, method: str) -> tuple[int, float]:
        """Return how many requests of `method` ended, and how many seconds they took together."""
        self.count()
        seen = [meters.duration.read() for (_, each), meters in self.revisions.items() if each == method]
        return sum(each.count for each in seen), sum(each.sum for each in seen)

    def cache(self) -> CacheMeters:
        """Return the meters of what is kept."""
        if self._cache is None:
            registry, labels = self._registry, self._labels
            self._cache = CacheMeters(
                registry.counter("stoker_cache_hits_total", **labels),
                registry.counter("stoker_cache_misses_total", **labels),
                registry.gauge("stoker_cache_bytes", **labels),
            )
        return self._cache

    def paid(self, nano_usd: int) -> None:
        """Count what a request costs."""
        if self._paid is None:
            self._paid = self._registry.counter("stoker_usage_price_micro_dollars_total", **self._labels)
        self._paid.value += nano_usd / 1000

    def coalesced(self) -> None:
        """Count a request that shares the call of another."""
        self._registry.counter("stoker_coalesced_total", **self._labels).add(1)

    def sampled(self, reasons: Iterable[str], size: int) -> None:
        """Count a sample that was kept, under each reason, and the bytes it takes on the disk."""
        for reason in reasons:
            self._registry.counter("stoker_samples_total", reason=reason, **self._labels).add(1)
        self._registry.counter("stoker_samples_bytes_total", **self._labels).add(size)

    def sample_dropped(self, reason: str) -> None:
        """Count a sample that should have been kept and was not."""
        self._registry.counter("stoker_samples_dropped_total", reason=reason, **self._labels).add(1)

    def retry(self, reason: str) -> None:
        """Count one more try."""
        self._registry.counter("stoker_retries_total", reason=reason, **self._labels).add(1)

    def fallback(self, reason: str, target: str) -> None:
        """Count a request that goes on to `target`."""
        self._registry.counter("stoker_fallbacks_total", reason=reason, to=target, **self._labels).add(1)

    def rule_error(self) -> None:
        """Count a rule that could not be told, and so did not hold."""
        self._registry.counter("stoker_rule_errors_total", **self._labels).add(1)

    def breaker(self, state: State) -> None:
        """Set what the breaker says."""
        self._registry.gauge("stoker_breaker_state", process=self._registry.process, **self._labels).set(
            BREAKER_STATES[state]
        )

    def migration(self, reason: str, outcome: str) -> None:
        """Count a stream that was cut, and what became of it."""
        self._registry.counter("stoker_migrations_total", reason=reason, outcome=outcome, **self._labels).add(1)

    def retry_denied(self, reason: str) -> None:
        """Count a failed try that was not followed by another though it could have been."""
        self._registry.counter("stoker_retries_denied_total", reason=reason, **self._labels).add(1)

    def rollout_tries(self, arm: str, outcome: str) -> Counter:
        """Return the counter of an arm's first tries that came to `outcome`."""
        return self._registry.counter("stoker_rollout_tries_total", arm=arm, outcome=outcome, **self._labels)

    def reverted(self, *, is_reverted: bool) -> None:
        """Set whether this gateway went back to an earlier revision by itself; what never did has no series."""
        if is_reverted or self._reverted is not None:
            if self._reverted is None:
                self._reverted = self._registry.gauge(
                    "stoker_rollout_reverted", process=self._registry.process, **self._labels
                )
            self._reverted.set(float(is_reverted))

    def shadow(self, outcome: str, seconds: float) -> None:
        """Count a copy that a shadow got, and how long it held its place."""
        self._registry.counter("stoker_shadow_copies_total", outcome=outcome, **self._labels).add(1)
        self._registry.counter("stoker_shadow_wasted_seconds_total", **self._labels).add(seconds)

    def hedge(self, outcome: str) -> None:
        """Count a second try beside a slow first one."""
        self._registry.counter("stoker_hedges_total", outcome=outcome, **self._labels).add(1)

    def wasted(self, seconds: float, rows: int) -> None:
        """Count how long the try that lost held its place in a replica, and the rows that it was sent."""
        self._registry.counter("stoker_hedge_wasted_rows_total", **self._labels).add(rows)
        self._registry.counter("stoker_hedge_wasted_seconds_total", **self._labels).add(seconds)

    def quarantined(self) -> None:
        """Count a shape put into quarantine by this gateway."""
        self._registry.counter("stoker_quarantined_total", **self._labels).add(1)

    def ejection(self, reason: str) -> None:
        """Count a replica taken out of rotation."""
        self._registry.counter("stoker_ejections_total", reason=reason, **self._labels).add(1)

    def choice(self, why: str) -> Counter:
        """Return the counter of replicas chosen for the reason `why`."""
        found = self._choices.get(why)
        if found is None:
            found = self._choices[why] = self._registry.counter("stoker_route_choices_total", why=why, **self._labels)
        return found

    def guess(self, *, guessed: bool, was: bool) -> None:
        """Count whether a prompt's beginning was thought to be, and was, in the cache of its replica."""
        labels = {"guess": "hit" if guessed else "miss", "actual": "hit" if was else "miss"}
        self._registry.counter("stoker_prefix_guesses_total", **labels, **self._labels).add(1)

    def refused(self, reason: str) -> None:
        """Count a request that no replica saw."""
        self._registry.counter("stoker_refused_total", reason=reason, **self._labels).add(1)

    def kv_used(self, revision: str, replica: str, ratio: float) -> None:
        """Set how full a replica's key-value cache is."""
        self._registry.gauge("stoker_kv_cache_usage_ratio", revision=revision, replica=replica, **self._labels).set(
            ratio
        )

    def gauges(self, *, waiting: int, in_flight: int, ready: int) -> None:
        """Set what is read at the moment of a snapshot, and count what ended before it."""
        self.count()
        self._registry.gauge("stoker_queue_depth", **self._labels).set(float(waiting))
        self._registry.gauge("stoker_in_flight", **self._labels).set(float(in_flight))
        self._registry.gauge("stoker_replicas_ready", **self._labels).set(float(ready))
