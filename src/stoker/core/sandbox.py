"""What a replica needs of the network, which walls must stand, and what is said of those that do. Pure.

What is in force is what trying it showed (confine/probe.py), not what was asked for.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from stoker.types.engines import AUTO
from stoker.types.sandbox import Confinement, Finding, Network, Sandbox, Wall

CALLS_OUT: Final = "openai"  # the engine whose server is elsewhere
# llama.cpp's server listens on a socket in its own folder, and is asked over it; `auto` may choose it.
NEEDS_SOCKETS: Final = frozenset(("llamacpp", AUTO))
# A machine without these serves on with `standard`, and the condition is not false for them alone: others lose room,
# not what is theirs.
BOUNDS: Final[frozenset[Wall]] = frozenset(("room",))
ORDER: Final[tuple[Wall, ...]] = ("files", "network", "sockets", "processes", "kernel", "room")
REASONS: Final[dict[Wall, str]] = {
    "files": "FilesOpen",
    "network": "NetworkOpen",
    "sockets": "SocketsOpen",
    "processes": "ProcessesOpen",
    "kernel": "KernelOpen",
    "room": "RoomUnbounded",
}


class Said(NamedTuple):
    """What a condition says."""

    status: bool
    reason: str
    message: str


def network(asked: Sandbox, engine: str) -> Network:
    """Return `none` or `open`: what `auto` means for the engine."""
    if asked.network != "auto":
        return asked.network
    return "open" if engine == CALLS_OUT else "none"


def lacking(seen: Confinement) -> tuple[Finding, ...]:
    """Return the walls that do not stand, the gravest first."""
    return tuple(sorted((each for each in seen.findings if not each.holds), key=lambda each: ORDER.index(each.wall)))


def refusal(seen: Confinement) -> str:
    """Return why a replica may not start, "" where it may."""
    missing = lacking(seen)
    if seen.level != "strict" or not missing:
        return ""
    what = "; ".join(f"{each.wall}: {each.said}" for each in missing)
    return (
        f"spec.sandbox.level is strict, and this machine cannot keep it: {what}. Run it where the kernel has Landlock "
        "(6.12 or later), seccomp and mount namespaces, or set the level to standard"
    )


def is_open(seen: Confinement | None) -> bool:
    """Return whether a replica told that it may reach what is not its own. One that told nothing yet is not counted."""
    said = condition([seen]) if seen is not None else None
    return said is not None and not said.status


def condition(replicas: Iterable[Confinement]) -> Said | None:
    """Return what is to be said of an endpoint whose replicas told this; None where none of them did."""
    told = sorted(replicas, key=_openness, reverse=True)
    if not told:
        return None
    worst = told[0]
    if worst.level == "off":
        return Said(False, "Off", "spec.sandbox.level is off: its replicas may do what the platform's user may")
    stands = [each.said for each in worst.findings if each.holds]
    in_force = f"{', '.join((*worst.by, *stands))}" or "nothing"
    missing = lacking(worst)
    open_ = "; ".join(f"{each.wall}: {each.said}" for each in missing)
    grave = [each for each in missing if each.wall not in BOUNDS]
    if grave:
        return Said(False, REASONS[grave[0].wall], f"{open_}; in force: {in_force}")
    return Said(True, "Confined", f"{in_force}; but {open_}" if open_ else in_force)


def _openness(seen: Confinement) -> tuple[bool, int, int]:
    missing = lacking(seen)
    return seen.level == "off", sum(each.wall not in BOUNDS for each in missing), len(missing)
