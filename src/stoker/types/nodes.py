"""Other machines of a platform: who they are, what they are told when they join, and what they show of themselves."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from stoker.types.fields import Name
from stoker.types.placement import DEFAULT_POOL
from stoker.types.process import ProcessSpec
from stoker.types.replica import ReplicaSpec

NODES_MAX: Final = 64
TOKENS_MAX: Final = 256
PORTS: Final = 1024  # of a node, for its replicas, from the one that it names first
PEM_MAX: Final = 16_384

Pem = Annotated[str, Meta(max_length=PEM_MAX)]
Port = Annotated[int, Meta(ge=1, le=65_535)]


class NodeRow(msgspec.Struct, frozen=True):
    """A node that joined. Its folders are on its own disk; `host` is what others reach it by."""

    name: str
    pool: str
    life: str
    host: str
    port: int  # of its agent
    ports_from: int  # of its replicas
    ports_next: int
    home: str
    run: str
    python: str
    joined_at_s: float
    until_s: float  # when its certificates end


class NodeToken(msgspec.Struct, frozen=True):
    """What lets one node in, once. `sha256` is of its whole text, which is shown once and kept nowhere."""

    id: str
    sha256: str
    name: str
    pool: str
    created_at_s: float
    expires_at_s: float
    used_at_s: float = 0.0


class TokenWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token to make."""

    name: Name
    pool: Name = DEFAULT_POOL
    expires_in_s: Annotated[float, Meta(ge=1, le=7 * 86_400)] = 3600.0


class NewToken(msgspec.Struct, frozen=True):
    """A token, shown this once, and what else the other machine must know."""

    token: str
    name: str
    pool: str
    expires_at_s: float
    url: str
    fingerprint: str  # of the authority: sha256:<64 hex digits>


class Requests(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Certificate requests (PKCS #10, PEM) of a node, for keys that never leave it."""

    agent: Pem
    replica: Pem


class JoinBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a machine says when it joins."""

    token: Annotated[str, Meta(max_length=200)]
    requests: Requests
    host: Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9:.-]+$")]
    port: Port
    ports_from: Annotated[int, Meta(ge=1024, le=65_535 - PORTS)]
    home: Annotated[str, Meta(min_length=1, max_length=4096)]
    run: Annotated[str, Meta(min_length=1, max_length=4096)]
    python: Annotated[str, Meta(min_length=1, max_length=4096)]


class Issued(msgspec.Struct, frozen=True):
    """Certificates for a node, and the authorities it trusts (PEM)."""

    name: str
    pool: str
    agent: str
    replica: str
    trust: str


class SyncBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node knows: the digest of the authorities it trusts."""

    trust: Annotated[str, Meta(max_length=80)]


class Synced(msgspec.Struct, frozen=True):
    """What it should know. trust: PEM, "" where it has it. renew: its certificates are of an authority that ends."""

    trust: str
    renew: bool
    now_s: float


class Joined(msgspec.Struct, frozen=True):
    """What a node keeps of its joining, in `node.json`."""

    name: str
    pool: str
    control: str  # https://HOST:PORT
    host: str
    port: int
    ports_from: int


class NodeStart(msgspec.Struct, frozen=True):
    """What the agent of another node is to run, and what that process is to be told."""

    process: ProcessSpec
    replica: ReplicaSpec
