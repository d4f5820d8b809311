"""A gateway of this build that traces nothing: `python -m bench.baselines.untraced`, arguments as gateway_main's."""

from typing import Any

from bench.build import need_sources
from stoker.app import gateway_main
from stoker.gateway.tracer import Tracer
from stoker.protocol import tracecontext


def nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


def main() -> None:
    """Take tracing out, and run."""
    need_sources("a gateway that traces nothing")
    Tracer.begin = nothing  # type: ignore[method-assign]
    Tracer.end = nothing  # type: ignore[method-assign]
    tracecontext.write = lambda *_, **__: ""  # type: ignore[assignment]
    gateway_main.main()


if __name__ == "__main__":
    main()
