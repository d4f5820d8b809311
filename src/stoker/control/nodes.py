"""The other nodes of the platform: who may join, what each is sent, and who is one no more.

`run` looks each second: it renews what this node shows, lets authorities follow one another, and writes down whom to
refuse. A platform that takes no other nodes has none of it.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from stoker.control.ports import Folders
from stoker.core import certificates as rules
from stoker.core import joined
from stoker.protocol.secure import Far, Identity
from stoker.store import nodes
from stoker.store.engine import Connection, Database
from stoker.telemetry.metrics import Registry
from stoker.types.errors import Conflict, StokerError, Unauthenticated
from stoker.types.nodes import Issued, JoinBody, NewToken, NodeRow, NodeToken, Requests, SyncBody, Synced, TokenWish
from stoker.types.peers import OWN, Peer
from stoker.types.process import NodeStatus

if TYPE_CHECKING:
    from stoker.control.authority import CertificateAuthority

LOOK_S: Final = 1.0
FORGET_EVERY: Final = 60  # looks
PREFIX: Final = "stn_"  # of a token
CLOSED: Final = (
    "this platform takes no other nodes; start it with STOKER_NODES=HOST:PORT, an address that they can reach"
)
log: Final = logging.getLogger(__name__)


class FarSite(msgspec.Struct, frozen=True):
    """What control must know to have a replica run on another node: its folders there, its Python, where to listen."""

    folders: Folders
    python: str
    host: str
    identity: str


class Nodes:
    """The nodes that joined. `listen`: HOST:PORT where they reach control; "" takes none."""

    def __init__(
        self,
        database: Database,
        authority: "CertificateAuthority | None",
        home: Folders,
        listen: str,
        metrics: Registry,
        place: Callable[[NodeRow], FarSite],
    ) -> None:
        self.listen = listen
        self.rows: Mapping[str, NodeRow] = {}
        self._authority = authority
        self.on_look: Callable[[], object] = lambda: None  # what this process shows may have changed
        self.on_removed: Callable[[str], None] = lambda _: None
        self.answering: Callable[[], Collection[str]] = tuple  # nodes whose agents do
        self.own_until_s = 0.0
        self._database = database
        self._home = home
        self._metrics = metrics
        self._place = place
        self._ports: Mapping[str, tuple[str, int]] = {}
        self._answers: dict[str, tuple[bool, float]] = {}  # and since when
        self._looking = asyncio.Lock()
        self._trusts: dict[str, str] = {}  # digest of the authorities, by node, as it last said

    @property
    def authority(self) -> "CertificateAuthority":
        """Who signs. Raises Conflict where no node may join."""
        if self._authority is None:
            raise Conflict(CLOSED)
        return self._authority

    @property
    def is_open(self) -> bool:
        """Whether other nodes may join."""
        return self._authority is not None

    @property
    def identity(self) -> Identity:
        """What control shows. Raises OSError."""
        return Identity(self._home.tls / "control")

    def open(self) -> None:
        """Have everything ready; blocks. Raises OSError."""
        if self.is_open:
            self.authority.open(time.time())
            rows, revoked = self._database.read(_known)
            self.rows = {each.name: each for each in rows}
            self._tend(dict.fromkeys(self.rows, False), revoked)

    # ---- where things are

    def site(self, node: str) -> FarSite | None:
        """Return what is particular to starting a replica there; None on control's own node."""
        row = self.rows.get(node)
        return None if row is None else self._place(row)

    def agents(self) -> Mapping[str, str]:
        """Return the address of every node's agent."""
        return {
            name: self._far(row.host, row.port, name, "agent", "agent", "control") for name, row in self.rows.items()
        }

    def located(self, connection: Connection) -> Callable[[str], str]:
        """Return what tells gateways where a replica is, by the rows of this transaction."""
        if not self.is_open:
            return self._home.address
        self._ports = nodes.ports(connection)
        self.rows = {each.name: each for each in nodes.everything(connection)}

        def where(replica: str) -> str:
            return self._address(replica, "gateway") or self._home.address(replica)

        return where

    def address(self, name: str) -> str:
        """Return where control itself reaches a process."""
        return self._address(name, "control") or self._home.address(name)

    def _address(self, replica: str, as_role: str) -> str:
        node, port = self._ports.get(replica, ("", 0))
        row = self.rows.get(node)
        return "" if row is None else self._far(row.host, port, node, "replica", replica, as_role)

    def _far(self, host: str, port: int, node: str, role: str, name: str, as_role: str) -> str:
        return Far(host, port, node, role, name, str(self._home.tls / as_role)).address

    def shown(self, statuses: Iterable[NodeStatus]) -> list[NodeStatus]:
        """Return every node, those too that joined and do not answer, with what is to be said of it."""
        found = {each.node: each for each in statuses}
        for name, row in self.rows.items():
            told = joined.conditions(row, self.authority.life_s, self._answers.get(name, (False, 0.0)), time.time())
            seen = found.get(name, NodeStatus(name, 0, 0.0, 0, 0, (), pool=row.pool))
            said = {"host": row.host, "certificate_until_s": row.until_s, "conditions": told}
            found[name] = msgspec.structs.replace(seen, **said)
        return list(found.values())

    # ---- joining and leaving

    async def token(self, wish: TokenWish) -> NewToken:
        """Make a token for one node. Raises Conflict."""
        fingerprint, now_s, text = self.authority.fingerprint, time.time(), PREFIX + secrets.token_urlsafe(32)
        row = NodeToken(secrets.token_hex(4), _hash(text), wish.name, wish.pool, now_s, now_s + wish.expires_in_s)
        await self._database.writing(lambda connection: nodes.add_token(connection, row))
        url = f"https://{self.listen}"
        return NewToken(text, wish.name, wish.pool, row.expires_at_s, url, fingerprint)

    async def join(self, body: JoinBody) -> Issued:
        """Let a node in: its token goes out of use and its certificates are made, or neither.

        Raises Unauthenticated, Conflict, InvalidInput.
        """

        def let_in(connection: Connection) -> Issued:
            now_s, life = time.time(), self.authority.new_life()
            token = nodes.redeem(connection, _hash(body.token), now_s)
            issued, until_s = self.authority.issue(token.name, token.pool, life, body.requests, now_s)
            row = NodeRow(
                token.name, token.pool, life, body.host, body.port, body.ports_from, body.ports_from,
                body.home, body.run, body.python, now_s, until_s,
            )  # fmt: skip
            nodes.add(connection, row)
            return issued

        issued = await self._database.writing(let_in)
        await self._look()
        log.info("a node joined", extra={"node": issued.name, "pool": issued.pool})
        return issued

    async def renew(self, peer: Peer, requests: Requests) -> Issued:
        """Return fresh certificates for a node. Raises Unauthenticated when it is one no more, InvalidInput."""

        def again(connection: Connection) -> Issued:
            row = next((each for each in nodes.everything(connection) if each.life == peer.life), None)
            if row is None or row.name != peer.node:
                raise Unauthenticated(f"node {peer.node} was removed; it must join again")
            issued, until_s = self.authority.issue(row.name, row.pool, row.life, requests, time.time())
            nodes.renewed(connection, row.name, row.life, until_s)
            return issued

        return await self._database.writing(again)

    def sync(self, peer: Peer, body: SyncBody) -> Synced:
        """Note what a node trusts, and return what it should know. Raises Unauthenticated."""
        self.must_be_node(peer)
        digest = self.authority.trust_digest
        self._trusts[peer.node] = body.trust
        renew = peer.authority != self.authority.signer
        return Synced("" if body.trust == digest else self.authority.trust, renew, time.time())

    def must_be_node(self, peer: Peer) -> None:
        """Raise Unauthenticated unless it is one of the nodes now."""
        row = self.rows.get(peer.node)
        if row is None or row.life != peer.life:
            raise Unauthenticated(f"node {peer.node} was removed; it must join again")

    async def remove(self, name: str) -> None:
        """Have a node be one no more: its certificates are refused, its replicas start elsewhere. Raises NotFound."""
        life_s = self.authority.life_s + rules.SKEW_S
        await self._database.writing(lambda connection: nodes.remove(connection, name, time.time() + life_s))
        await self._look()
        self.on_removed(name)

    async def rotate(self) -> str:
        """Have another authority follow; return its fingerprint. Raises Conflict."""
        made = await asyncio.to_thread(self.authority.rotate, time.time())
        await self._look()
        return made

    # ---- as time goes by

    async def run(self) -> None:
        """Look until cancelled."""
        turns = 0
        while self.is_open:
            await asyncio.sleep(LOOK_S)
            turns += 1
            try:
                await self._look()
                if turns % FORGET_EVERY == 0:
                    await self._database.writing(lambda connection: nodes.forget(connection, time.time()))
            except (StokerError, OSError) as problem:  # the next look makes up for it
                log.warning("other nodes could not be looked after", extra={"reason": str(problem)})

    async def _look(self) -> None:
        async with self._looking:  # what was read first must not be taken last
            rows, revoked = await self._database.reading(_known)
            self.rows = {each.name: each for each in rows}
            digest = self.authority.trust_digest
            self._trusts = {name: seen for name, seen in self._trusts.items() if name in self.rows}
            told = {name: self._trusts.get(name) == digest for name in self.rows}
            await asyncio.to_thread(self._tend, told, revoked)
        self._tell()
        self.on_look()

    def _tend(self, told: Mapping[str, bool], revoked: list[str]) -> None:
        now_s = time.time()
        self.authority.turn(told, now_s)
        self.own_until_s = self.authority.tend_own(revoked, now_s)

    def _tell(self) -> None:
        """Count how the nodes are, and forget those that left."""
        now_s, there = time.time(), set(self.answering())
        for name in self._answers.keys() - self.rows.keys():
            self._metrics.forget(node=name)
        before, self._answers = self._answers, {}
        for name in self.rows:
            is_there, since_s = before.get(name, (False, now_s))
            self._answers[name] = (name in there, since_s if is_there == (name in there) else now_s)
            self._metrics.gauge("stoker_node_ready", node=name).set(float(name in there))
        ends = {OWN: self.own_until_s, **{name: row.until_s for name, row in self.rows.items()}}
        for name, until_s in ends.items():
            left = joined.left_ratio(until_s, self.authority.life_s, now_s)
            self._metrics.gauge("stoker_node_certificate_expiry_timestamp_seconds", node=name).set(until_s)
            self._metrics.gauge("stoker_node_certificate_left_ratio", node=name).set(round(left, 4))


def _known(connection: Connection) -> tuple[list[NodeRow], list[str]]:
    return nodes.everything(connection), nodes.revoked(connection, time.time())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
