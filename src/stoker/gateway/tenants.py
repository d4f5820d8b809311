"""What each tenant of an endpoint asks for, so that a noisy one is seen; the busiest by name, the rest as one."""

from typing import Final

from stoker.core.leaders import Leaders
from stoker.telemetry.metrics import OTHER, Counter, Histogram, Registry
from stoker.types.replica import Usage

TENANTS_MAX: Final = 32  # of one endpoint that have a name
TURN_S: Final = 30.0
PROMISED: Final = "stoker_tenant_first_attempts_total"  # of those that have an objective, however busy the others are


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

    def answered(self, status: int, count: int) -> None:
        """Count requests without tokens that ended with `status`."""
        code = self._codes.get(status)
        if code is None:
            code = self._codes[status] = self._registry.counter(
                "stoker_tenant_requests_total", code=str(status), **self._labels
            )
        code.value += count

    def ended(self, status: int, usage: Usage) -> None:
        """Count a request that ended with `status`."""
        self.answered(status, 1)
        if usage.input_tokens or usage.output_tokens:
            tokens = self._tokens
            if tokens is None:
                tokens = self._tokens = (self._kind("input"), self._kind("output"), self._kind("cached"))
            tokens[0].add(usage.input_tokens)
            tokens[1].add(usage.output_tokens)
            tokens[2].add(usage.cached_tokens)

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

    def sweep(self, now_s: float) -> None:
        """Give names to who is busier than those that have one, now and then."""
        if now_s - self._turned_s < TURN_S:
            return
        self._turned_s = now_s
        for tenant in self._leaders.turn():
            self._meters.pop(tenant, None)
            self._registry.forget(spare=PROMISED, tenant=tenant, **self._labels)
