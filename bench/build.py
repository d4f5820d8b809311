"""Which benchmarks need the sources: those that take a part of the gateway out, or hand it stand-ins."""

import sys

from stoker.telemetry import build


def need_sources(what: str) -> None:
    """End with words where the gateway is compiled: what is put into such a module is not seen by it."""
    if build.build() == "compiled":
        sys.exit(
            f"error: {what} puts its own parts into the gateway, which a compiled build does not see; run it with "
            "stoker installed from its sources, without STOKER_COMPILE (docs/how-to/operate.md)"
        )
