"""The platform's own certificate authority: its key in the state folder, who it signs for, and how it is followed.

`ca.json` (mode 600) holds the platform's name and its authorities with their keys; nothing of it is in the database.
What control and the gateways show to other nodes is made here too, a folder a role (protocol/secure.py).
"""

import logging
import secrets
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from stoker.control.files import write_whole
from stoker.core import certificates as rules
from stoker.core.certificates import Authority
from stoker.protocol import certificates, secure
from stoker.types.errors import Conflict, InvalidInput
from stoker.types.ids import Digest
from stoker.types.models import sha256_digest
from stoker.types.nodes import Issued, Requests
from stoker.types.peers import OWN, Peer, Role

OWN_ROLES: Final[tuple[Role, ...]] = ("control", "gateway")
log: Final = logging.getLogger(__name__)


class Held(msgspec.Struct, frozen=True):
    """An authority, its key and its certificate (PEM)."""

    rules: Authority
    key: str
    certificate: str


class Kept(msgspec.Struct, frozen=True):
    """What `ca.json` holds. life: the incarnation of control's own node."""

    platform: str
    life: str
    authorities: tuple[Held, ...]


class CertificateAuthority:
    """Signs for nodes. Blocks; only the control that holds the state folder's lock may use it."""

    def __init__(self, path: Path, own: Path, life_s: float) -> None:
        self.life_s = life_s
        self._path = path
        self._own = own
        self._kept: Kept | None = None
        self._changing = threading.Lock()

    def open(self, now_s: float) -> None:
        """Read the authorities, or make the first. Raises OSError, or InvalidInput for a file that is none."""
        if self._path.exists():
            try:
                self._kept = msgspec.json.decode(self._path.read_bytes(), type=Kept)
            except msgspec.MsgspecError as wrong:
                raise InvalidInput(f"{self._path} holds no authority: {wrong}") from wrong
            return
        platform = secrets.token_hex(8)
        self._keep(Kept(platform, certificates.new_life(), (_made(platform, now_s, signs_at_s=now_s),)))

    @property
    def trust(self) -> str:
        """Every authority that is trusted (PEM), oldest first."""
        return "".join(each.certificate for each in self._now.authorities)

    @property
    def trust_digest(self) -> Digest:
        """What tells two sets of authorities apart."""
        return sha256_digest(self.trust.encode())

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the authority that signs: what a machine that joins is told by people."""
        return certificates.fingerprint(self._signer.certificate)

    @property
    def signer(self) -> str:
        """The name of the authority that signs."""
        return self._signer.rules.name

    def new_life(self) -> str:
        """Return the incarnation of a node that joins."""
        return certificates.new_life()

    def issue(self, node: str, pool: str, life: str, requests: Requests, now_s: float) -> tuple[Issued, float]:
        """Return certificates for the agent and the replicas of a node, and when they end. Raises InvalidInput."""
        agent, replica = (
            self._sign(Peer(self._now.platform, node, role, life, self.signer, 0.0), asked, now_s)
            for role, asked in (("agent", requests.agent), ("replica", requests.replica))
        )
        return Issued(node, pool, agent.pem, replica.pem, self.trust), agent.until_s

    def rotate(self, now_s: float) -> str:
        """Make the authority that will follow; return its fingerprint. Raises Conflict while one follows already."""
        with self._changing:
            return self._rotate(now_s)

    def _rotate(self, now_s: float) -> str:
        held = self._now.authorities
        if len(held) >= rules.AUTHORITIES_MAX:
            raise Conflict("the authority is being followed already; `stoker nodes list` says how far that is")
        made = _made(self._now.platform, now_s, signs_at_s=0.0)
        self._keep(msgspec.structs.replace(self._now, authorities=(*held, made)))
        return certificates.fingerprint(made.certificate)

    def turn(self, told: Mapping[str, bool], now_s: float) -> None:
        """Have an authority sign, or end, when it is time. told: by node, whether it trusts all of them."""
        with self._changing:
            self._turn(told, now_s)

    def _turn(self, told: Mapping[str, bool], now_s: float) -> None:
        held = {each.rules.name: each for each in self._now.authorities}
        after = rules.turn(tuple(each.rules for each in held.values()), told, self.life_s, now_s)
        authorities = tuple(msgspec.structs.replace(held[each.name], rules=each) for each in after)
        if authorities != self._now.authorities:
            self._keep(msgspec.structs.replace(self._now, authorities=authorities))
            log.info("authorities changed", extra={"signs": self.signer, "trusted": len(authorities)})

    def words(self) -> str:
        """Return which authorities there are and what they do, for people."""
        said = []
        for each in self._now.authorities:
            state = "follows" if not each.rules.signs_at_s else "ends" if each.rules.ends_at_s else "signs"
            said.append(f"{state} {certificates.fingerprint(each.certificate)}")
        return "; ".join(said)

    def tend_own(self, revoked: Iterable[str], now_s: float) -> float:
        """Renew what control and gateways show, when it is time; write whom they trust. Returns when theirs end."""
        text = msgspec.json.encode(sorted(revoked))
        until_s = 0.0
        for role in OWN_ROLES:
            folder = self._own / role
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_if_new(folder / secure.TRUST, self.trust.encode())
            _write_if_new(folder / secure.REVOKED, text)
            until_s = self._tend(role, folder, now_s)
        return until_s

    def _tend(self, role: Role, folder: Path, now_s: float) -> float:
        path = folder / secure.IDENTITY
        who = Peer(self._now.platform, OWN, role, self._now.life, self.signer, 0.0)
        try:
            text = path.read_text("ascii")
            begins_s, until_s = certificates.times(text)
            shown = certificates.peer(text)
            is_good = shown == msgspec.structs.replace(who, until_s=shown.until_s)
        except (OSError, InvalidInput):
            is_good = False
        if is_good and not rules.is_due(begins_s, until_s, now_s):
            return until_s
        key = certificates.new_key()
        made = self._sign(who, certificates.request(key), now_s)
        write_whole(path, secure.identity_file(certificates.peer(made.pem), key, made.pem))
        return made.until_s

    def _sign(self, who: Peer, asked: str, now_s: float) -> certificates.Made:
        signer, until_s = self._signer, float(int(now_s + self.life_s))
        who = msgspec.structs.replace(who, until_s=until_s)
        return certificates.issue(who, asked, signer.certificate, signer.key, now_s)

    @property
    def _now(self) -> Kept:
        if self._kept is None:
            raise Conflict("the authority is not open")
        return self._kept

    @property
    def _signer(self) -> Held:
        name = rules.signing(each.rules for each in self._now.authorities).name
        return next(each for each in self._now.authorities if each.rules.name == name)

    def _keep(self, kept: Kept) -> None:
        write_whole(self._path, msgspec.json.format(msgspec.json.encode(kept)))
        self._kept = kept


def _made(platform: str, now_s: float, signs_at_s: float) -> Held:
    name, key = f"stoker {platform} {secrets.token_hex(4)}", certificates.new_key()
    return Held(Authority(name, now_s, signs_at_s), key, certificates.authority(name, key, now_s))


def _write_if_new(path: Path, data: bytes) -> None:
    try:
        if path.read_bytes() == data:
            return
    except OSError:
        pass
    write_whole(path, data)
