"""Mutual TLS between nodes: whom this process is, whom it trusts, and how it tells a peer by its certificate.

A folder holds what a process shows and trusts; who renews it writes there, and every process looks for itself:

    identity.pem   its key and its certificate       trust.pem   the authorities
    revoked.json   incarnations of nodes that were removed

TLS 1.3 only, both sides with a certificate. Names of hosts are not looked at: a peer is who its certificate says, and
what its role may is decided in `core/certificates.py`. A certificate that is renewed serves new connections; open ones
go on. No tickets: a resumed session would skip the peer's certificate.
"""

import asyncio
import contextlib
import json
import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from stoker.core.certificates import Door, life_of, named, refusal
from stoker.types.errors import NotReachable
from stoker.types.peers import Peer

PREFIX: Final = "tls:"
IDENTITY: Final = "identity.pem"
TRUST: Final = "trust.pem"
REVOKED: Final = "revoked.json"
LOOK_EVERY_S: Final = 1.0
LOG_EVERY_S: Final = 10.0
IDENTITIES_MAX: Final = 16  # folders that one process knows; it has one or two
_HEAD: Final = "# stoker "
_log: Final = logging.getLogger(__name__)


class Far(NamedTuple):
    """Where a process on another node is: `tls:HOST:PORT/NODE/ROLE/NAME?FOLDER`; the folder is the caller's own."""

    host: str
    port: int
    node: str
    role: str
    name: str
    folder: str

    @property
    def address(self) -> str:
        """Return it as one word."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{PREFIX}{host}:{self.port}/{self.node}/{self.role}/{self.name}?{self.folder}"


def parse(address: str) -> Far:
    """Return what an address says. Raises ValueError."""
    place, _, rest = address.removeprefix(PREFIX).partition("/")
    host, _, port = place.rpartition(":")
    who, _, folder = rest.partition("?")
    parts = who.split("/")
    if not address.startswith(PREFIX) or not host or len(parts) != 3 or not folder:
        raise ValueError(f"{address!r} is no address of another node")
    node, role, name = parts
    return Far(host.strip("[]"), int(port), node, role, name, folder)


class Identity:
    """What a folder holds, read again by `look` when it changed. Raises OSError or ValueError when it holds none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client = _context(ssl.PROTOCOL_TLS_CLIENT)
        self.server = _context(ssl.PROTOCOL_TLS_SERVER)
        self.me = Peer("", "", "", "", "", 0.0)
        self.trusted: frozenset[str] = frozenset()
        self.revoked: frozenset[str] = frozenset()
        self._stamps: tuple[tuple[int, int], ...] = ()
        self._looked_s = time.monotonic()
        self._read(self._stamp())

    def look(self) -> bool:
        """Return whether the files changed, and were taken. What cannot be read leaves things as they were."""
        self._looked_s = time.monotonic()
        try:
            stamps = self._stamp()
            if stamps == self._stamps:
                return False
            self._read(stamps)
        except (OSError, ValueError) as problem:
            _log.error("what this process shows to other nodes cannot be read", extra={"reason": str(problem)})
            return False
        return True

    def refusal(self, certificate: Mapping[str, Any] | None, door: Door) -> str:
        """Return why a peer with this certificate (as `ssl` tells it) is not who may come; "" when it is."""
        return self.judged(peer_of(certificate), door)

    def judged(self, peer: Peer | None, door: Door) -> str:
        """Return why a peer is not, or no more, who may come; "" when it is."""
        return refusal(peer, self.me, door, self.trusted, self.revoked, time.time())

    def doubt(self, peer: Peer | None, door: Door) -> str:
        """Return why a peer that was let in is to go. That its certificate has ended meanwhile is no reason.

        Looks at the files when that was LOOK_EVERY_S ago.
        """
        if time.monotonic() - self._looked_s >= LOOK_EVERY_S:
            self.look()
        return refusal(peer, self.me, door, self.trusted, self.revoked, 0.0)

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        found = [(self.folder / name).stat() for name in (IDENTITY, TRUST)]
        with contextlib.suppress(FileNotFoundError):
            found.append((self.folder / REVOKED).stat())
        return tuple((each.st_mtime_ns, each.st_ino) for each in found)

    def _read(self, stamps: tuple[tuple[int, int], ...]) -> None:
        trust = (self.folder / TRUST).read_text("ascii")
        try:
            revoked = frozenset(json.loads((self.folder / REVOKED).read_bytes()))
        except FileNotFoundError:
            revoked = frozenset()
        for context in (self.client, self.server):
            context.load_cert_chain(self.folder / IDENTITY)
            context.load_verify_locations(cadata=trust)  # adds; what was trusted before is refused by `refusal`
        self.me = _own(self.folder / IDENTITY)
        self.trusted = frozenset(map(_subject, _certificates(trust)))
        self.revoked = revoked
        self._stamps = stamps


class Gate:
    """Lets peers from other nodes in by their certificates (protocol/link/server.py, Guard). Counts the refused."""

    def __init__(self, mine: Identity, door: Door) -> None:
        self.context = mine.server
        self.refused = 0
        self._mine = mine
        self._door = door
        self._logged_s = -LOG_EVERY_S

    def admits(self, transport: asyncio.BaseTransport) -> Callable[[], str] | None:
        """See Guard."""
        peer = peer_of(transport.get_extra_info("peercert"))
        if why := self._mine.judged(peer, self._door):
            self.refused += 1
            if time.monotonic() - self._logged_s >= LOG_EVERY_S:
                self._logged_s = time.monotonic()
                where = str(transport.get_extra_info("peername"))
                _log.warning("refused a peer", extra={"peer": where, "reason": why, "refused": self.refused})
            return None
        return lambda: self._mine.doubt(peer, self._door)


@lru_cache(maxsize=IDENTITIES_MAX)
def known(folder: str) -> Identity:
    """Return what `folder` holds; the same object for the same folder. Raises OSError or ValueError."""
    return Identity(Path(folder))


def peer_of(certificate: Mapping[str, Any] | None) -> Peer | None:
    """Return whom a certificate is of, as `ssl` decodes it; None when it is of no node."""
    if not certificate:
        return None
    names: Sequence[tuple[str, str]] = certificate.get("subjectAltName", ())
    who = named(names[0][1]) if len(names) == 1 and names[0][0] == "URI" else None
    if who is None:
        return None
    until_s = float(ssl.cert_time_to_seconds(certificate["notAfter"]))
    return Peer(*who, life_of(certificate["serialNumber"]), _common_name(certificate["issuer"]), until_s)


async def open_far(far: Far, timeout_s: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect and make sure who answers. Raises NotReachable, which says why."""
    try:
        mine = known(far.folder)
        mine.look()
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(far.host, far.port, ssl=mine.client)
    except (OSError, ValueError, TimeoutError) as down:
        raise NotReachable(f"node {far.node} does not answer on {far.host}:{far.port}: {down or 'in time'}") from down
    if why := mine.refusal(writer.get_extra_info("peercert"), Door((far.role,), far.node)):
        writer.transport.abort()
        raise NotReachable(f"{far.host}:{far.port} is not the {far.role} of node {far.node}: {why}")
    return reader, writer


async def keep_looking(mine: Identity, then: Callable[[], None]) -> None:
    """Read the files as they change and call `then` each time anew, until cancelled."""
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        mine.look()
        then()


def _context(kind: int) -> ssl.SSLContext:
    context = ssl.SSLContext(kind)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    if kind == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    return context


def _certificates(pem: str) -> list[dict[str, Any]]:
    """Return the authorities in `pem` as `ssl` decodes them."""
    reading = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    reading.load_verify_locations(cadata=pem)
    return reading.get_ca_certs()


def identity_file(me: Peer, key_pem: str, certificate_pem: str) -> bytes:
    """Return what `identity.pem` holds: whom it is of in a line that PEM readers skip, the key, the certificate."""
    return f"{_HEAD}{msgspec.json.encode(me).decode()}\n{key_pem}{certificate_pem}".encode()


def _own(path: Path) -> Peer:
    with path.open("rb") as file:
        head = file.readline(4096).decode("ascii")
    if not head.startswith(_HEAD):
        raise ValueError(f"{path} does not say whom it is of")
    return msgspec.json.decode(head.removeprefix(_HEAD), type=Peer)


def _subject(decoded: Mapping[str, Any]) -> str:
    return _common_name(decoded["subject"])


def _common_name(name: Sequence[Sequence[tuple[str, str]]]) -> str:
    return next((value for part in name for key, value in part if key == "commonName"), "")
