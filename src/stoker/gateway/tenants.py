"""What each tenant of an endpoint asks for, so that a noisy one is seen; the busiest by name, the rest as one."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from stoker.core.leaders import Leaders
from stoker.telemetry.metrics import OTHER, Counter, Histogram, Registry
from stoker.types.replica import Usage

TENANTS_MAX: Final = 32  # of one endpoint that have a name
TURN_S: Final = 30.0
ATTEMPTS: Final = "stoker_tenant_first_attempts_total"
DURATION: Final = "stoker_tenant_request_duration_seconds"
FIRST_TOKEN: Final = "stoker_tenant_time_to_first_token_seconds"  # noqa: S105 - a time
PER_TOKEN: Final = "stoker_tenant_time_per_output_token_seconds"  # noqa: S105 - a time
# Of those that have an objective, however busy the others are.
PROMISED: Final = (ATTEMPTS, DURATION, FIRST_TOKEN, PER_TOKEN)


class TenantMeters:
    """What is counted of one tenant."""

    __slots__ = ("_codes", "_labels", "_queue_wait", "_registry", "_tokens")

    def __init__(self, registry: Registry, labels: dict[str, str]) -> None:
        self._registry = registry
        self._labels = labels
        self._codes: dict[int, Counter] = {}
        self._tokens: tuple[Counter, Counter, Counter] | None = None  # of language models only
        self._queue_wait: Histogram | None = None  # of those that waited

    def waited(self, seconds: float) -> None:
        """Count that a request waited for a place."""
        if self._queue_wait is None:
            self._queue_wait = self._registry.histogram("stoker_tenant_queue_wait_seconds", **self._labels)
        self._queue_wait.observe(seconds)

    def ended(self, status: int, count: int, tokens: Sequence[Usage]) -> None:
        """Count `count` requests that ended with `status`, and the tokens of those that have some."""
        code = self._codes.get(status)
        if code is None:
            code = self._codes[status] = self._registry.counter(
                "stoker_tenant_requests_total", code=str(status), **self._labels
            )
        code.value += count
        if tokens:
            counters = self._tokens
            if counters is None:
                counters = self._tokens = (self._kind("input"), self._kind("output"), self._kind("cached"))
            counters[0].add(sum([usage.input_tokens for usage in tokens]))
            counters[1].add(sum([usage.output_tokens for usage in tokens]))
            counters[2].add(sum([usage.cached_tokens for usage in tokens]))

    def _kind(self, kind: str) -> Counter:
        return self._registry.counter("stoker_tenant_tokens_total", kind=kind, **self._labels)


class Tenants:
    """The tenants of one endpoint."""

    __slots__ = ("_labels", "_leaders", "_meters", "_registry", "_turned_s")

    def __init__(self, registry: Registry, labels: dict[str, str]) -> None:
        self._registry = registry
        self._labels = labels
        self._leaders = Leaders(TENANTS_MAX)
        self._meters: dict[str, TenantMeters] = {}
        self._turned_s = 0.0

    def of(self, tenant: str, count: int = 1) -> TenantMeters:
        """Return what counts for `tenant` now, `count` times; whoever is asked for often gets a name."""
        name = tenant if self._leaders.see(tenant, count) else OTHER
        found = self._meters.get(name)
        if found is None:
            found = self._meters[name] = TenantMeters(self._registry, {**self._labels, "tenant": name})
        return found

    def let_go(self, nobody: Registry) -> None:
        """Count for `nobody` from now on."""
        self._registry, self._meters = nobody, {}

    def sweep(self, now_s: float) -> None:
        """Give names to who is busier than those that have one, now and then."""
        if now_s - self._turned_s < TURN_S:
            return
        self._turned_s = now_s
        for tenant in self._leaders.turn():
            self._meters.pop(tenant, None)
            self._registry.forget(spare=PROMISED, tenant=tenant, **self._labels)


class Times:
    """The times of a tenant for which it has objectives; of those for which it has none nothing is counted."""

    __slots__ = ("_duration", "_first_token", "_per_token")

    def __init__(self, registry: Registry, labels: dict[str, str], metrics: Iterable[str]) -> None:
        made = {name: registry.histogram(name, **labels) for name in metrics if name in PROMISED}
        self._duration, self._first_token, self._per_token = map(made.get, (DURATION, FIRST_TOKEN, PER_TOKEN))

    def took(self, seconds: float) -> None:
        """Count how long an answer took."""
        if self._duration is not None:
            self._duration.observe(seconds)

    def began(self, seconds: float) -> None:
        """Count when a stream's first token came."""
        if self._first_token is not None:
            self._first_token.observe(seconds)

    def went_on(self, seconds: float) -> None:
        """Count a stream's mean time per token."""
        if self._per_token is not None:
            self._per_token.observe(seconds)


class Promised:
    """The tenants of one endpoint that have objectives of their own: at most as many as it has objectives."""

    __slots__ = ("_attempts", "_labels", "_registry", "_timed_for", "_times")

    def __init__(self, registry: Registry, labels: dict[str, str]) -> None:
        self._registry = registry
        self._labels = labels
        self._attempts: dict[str, dict[str, Counter]] = {}
        self._timed_for: Mapping[str, tuple[str, ...]] = {}
        self._times: dict[str, Times] = {}

    def follow(self, promised_to: Iterable[str], timed_for: Mapping[str, tuple[str, ...]]) -> None:
        """Count what these are promised, and drop what was counted of who is promised nothing more."""
        wanted = set(promised_to)
        for tenant in self._attempts.keys() - wanted:
            for outcome in self._attempts.pop(tenant):
                self._registry.drop(ATTEMPTS, tenant=tenant, outcome=outcome, **self._labels)
        for tenant in wanted - self._attempts.keys():
            self._attempts[tenant] = {}
        for tenant, metrics in self._timed_for.items():
            for name in set(metrics) - set(timed_for.get(tenant, ())):
                self._registry.drop(name, tenant=tenant, **self._labels)
        self._times = {
            tenant: Times(self._registry, {**self._labels, "tenant": tenant}, metrics)
            for tenant, metrics in timed_for.items()
        }
        self._timed_for = timed_for

    def let_go(self, nobody: Registry) -> None:
        """Count for `nobody` from now on."""
        self._registry, self._attempts = nobody, {}

    def times(self, tenant: str) -> Times | None:
        """Return what counts the times of `tenant`; None for most."""
        return self._times.get(tenant)

    def attempt(self, tenant: str, outcome: str, count: int = 1) -> None:
        """Count answers that an objective of the tenant's own judges; of others nothing."""
        counters = self._attempts.get(tenant)
        if counters is None:
            return
        found = counters.get(outcome)
        if found is None:
            found = counters[outcome] = self._registry.counter(ATTEMPTS, tenant=tenant, outcome=outcome, **self._labels)
        found.value += count
