"""A gateway of this build that counts nothing: `python -m bench.baselines.unmetered`, arguments as gateway_main's.

Every instrument does nothing, and what meter, admission and tries would count is not looked at.
"""

from typing import Any

from bench.build import need_sources
from stoker.app import gateway_main
from stoker.gateway import meters, tenants
from stoker.gateway.layers import meter
from stoker.telemetry.histogram import Histogram
from stoker.telemetry.metrics import Counter, Registry

need_sources("a gateway that counts nothing")  # before the classes below, which a compiled build does not let be made


def nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


class Null(Registry):
    """A registry whose instruments do nothing and are the same one for all."""

    def histogram(self, name: str, **labels: str) -> Histogram:
        return _HISTOGRAM

    def counter(self, name: str, **labels: str) -> Counter:
        return _COUNTER


class NullHistogram(Histogram):
    """Takes nothing."""

    observe = nothing
    show = nothing


class NullCounter(Counter):
    """Counts nothing."""

    add = nothing


_HISTOGRAM, _COUNTER = NullHistogram(), NullCounter()


def main() -> None:
    """Take metering out, and run."""
    meter.observe = nothing  # type: ignore[assignment]
    meters.ReplicaMeters.ended = nothing  # type: ignore[method-assign]
    tenants.TenantMeters.waited = nothing  # type: ignore[method-assign]
    gateway_main.Registry = Null  # type: ignore[misc]
    gateway_main.main()


if __name__ == "__main__":
    main()
