"""What a replica is kept from, as an endpoint says it; and what was found to be in force, from inside the replica."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from stoker.types.fields import Bytes

PATHS_MAX: Final = 32
PORTS_MAX: Final = 16
# standard: all that this machine has. strict: all there is, or the replica does not start. off: nothing.
Level = Literal["standard", "strict", "off"]
Network = Literal["auto", "none", "open"]
# What a wall keeps apart. files: those of others. network: other machines. sockets: processes of this one that listen.
# processes: others of this machine. kernel: what only administrators need of it. room: the disk and memory of others.
Wall = Literal["files", "network", "sockets", "processes", "kernel", "room"]
AbsolutePath = Annotated[str, Meta(pattern=r"^/.*$", max_length=1000, description="an absolute path")]
Port = Annotated[int, Meta(ge=1, le=65535)]


class Sandbox(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the replicas of an endpoint, and all that they start, are kept from."""

    level: Annotated[
        Level,
        Meta(
            description="standard: by all that the machine has for it, and what is missing is said; strict: a machine "
            "that lacks any of it starts no replica; off: not at all"
        ),
    ] = "standard"
    network: Annotated[
        Network,
        Meta(
            description="none: no socket but what the platform gives it; open: every address; auto: none, but open "
            "for the engine openai, whose server is elsewhere"
        ),
    ] = "auto"
    ports: Annotated[
        tuple[Port, ...],
        Meta(
            max_length=PORTS_MAX,
            description="without an open network: TCP ports, of any machine, that it may call nevertheless; names are "
            "then looked up over TCP",
        ),
    ] = ()
    read: Annotated[
        tuple[AbsolutePath, ...],
        Meta(
            max_length=PATHS_MAX,
            description="files and folders it may read, besides its model and what programs are made of; never the "
            "platform's own",
        ),
    ] = ()
    write: Annotated[
        tuple[AbsolutePath, ...],
        Meta(max_length=PATHS_MAX, description="folders it may write, besides its own for temporary files"),
    ] = ()
    tmp: Annotated[Bytes, Meta(description="the most that its temporary files, and shared memory, may each take")] = (
        "256Mi"
    )


class Finding(msgspec.Struct, frozen=True):
    """What was tried at one wall, and what came of it: `holds`, and `said` in words."""

    wall: Wall
    holds: bool
    said: str


class Confinement(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a replica is confined. by: the mechanisms, in words. findings: what trying them showed."""

    level: Level
    by: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
