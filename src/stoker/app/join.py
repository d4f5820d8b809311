"""How a machine becomes a node: control's authority by its fingerprint, keys made here, certificates for them.

Blocks. What is sent before the fingerprint was compared is nothing; the token goes only to who has the right key.
"""

import http.client
import json
import socket
import ssl
import sys
import time
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from stoker.app.home import Home
from stoker.control.files import write_whole
from stoker.core.certificates import SKEW_S
from stoker.protocol import certificates, secure
from stoker.types.errors import Conflict, InvalidInput, NotReachable, Unauthenticated, all_codes
from stoker.types.nodes import Issued, JoinBody, Joined, Requests

TIMEOUT_S: Final = 10.0
BODY_BYTES_MAX: Final = 1 << 20


def join(home: Home, url: str, token: str, fingerprint: str, here: tuple[str, int, int]) -> Joined:
    """Join the platform at `url`. here: the address others reach this machine by, its agent's port, replicas' first.

    Raises Conflict when this home is a node, or a platform, already; NotReachable, Unauthenticated, InvalidInput.
    """
    if home.joined.exists():
        raise Conflict(f"{home.root} is a node already: `stoker node run` starts it; another STOKER_HOME can join")
    if home.database.exists():
        raise Conflict(f"{home.root} holds a platform of its own; join with another STOKER_HOME")
    place = urlsplit(url)
    if place.scheme != "https" or not place.hostname or not place.port:
        raise InvalidInput(f"{url}: expected https://HOST:PORT, as `stoker nodes token` prints it")
    control = (place.hostname, place.port)
    trust = _authority(control, fingerprint)
    keys = {"agent": certificates.new_key(), "replica": certificates.new_key()}
    host, port, ports_from = here
    home.make()
    body = JoinBody(
        token, Requests(*(certificates.request(keys[role]) for role in ("agent", "replica"))), host or _own(control),
        port, ports_from, str(home.root), str(home.run), sys.executable,
    )  # fmt: skip
    issued = msgspec.json.decode(
        _ask(control, _verified(trust), "POST", "/v1/join", msgspec.json.encode(body)), type=Issued
    )
    keep(home, issued, keys)
    joined = Joined(issued.name, issued.pool, f"https://{place.netloc}", body.host, port, ports_from)
    write_whole(home.joined, msgspec.json.format(msgspec.json.encode(joined)))
    return joined


def keep(home: Home, issued: Issued, keys: dict[str, str]) -> None:
    """Write certificates with their keys where processes look for them. Raises OSError."""
    for role, pem in (("agent", issued.agent), ("replica", issued.replica)):
        folder = home.tls / role
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(folder / secure.TRUST, issued.trust.encode())
        write_whole(folder / secure.IDENTITY, secure.identity_file(certificates.peer(pem), keys[role], pem))


def read(home: Home) -> Joined:
    """Return how this machine joined. Raises Conflict when it did not."""
    try:
        return msgspec.json.decode(home.joined.read_bytes(), type=Joined)
    except FileNotFoundError:
        raise Conflict(f"{home.root} is no node; `stoker node join` makes it one") from None


def _authority(control: tuple[str, int], fingerprint: str) -> str:
    """Return the one authority that has the fingerprint (PEM), from a server that nobody vouches for yet."""
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    said = _ask(control, blind, "GET", "/v1/ca").decode("ascii", "replace")
    end = "-----END CERTIFICATE-----\n"
    for pem in (part + end for part in said.split(end) if part.strip()):
        if certificates.fingerprint(pem) == fingerprint.lower():
            return pem
    raise Unauthenticated(
        f"who answers on {control[0]}:{control[1]} has no authority with the fingerprint {fingerprint}: it is another "
        "platform, or somebody sits between; nothing was sent"
    )


def _verified(trust: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a certificate is of a role, not of a host: see _ask
    context.load_verify_locations(cadata=trust)
    return context


def _ask(control: tuple[str, int], context: ssl.SSLContext, method: str, path: str, body: bytes = b"") -> bytes:
    opened = http.client.HTTPSConnection(*control, timeout=TIMEOUT_S, context=context)
    try:
        opened.connect()
        if context.verify_mode == ssl.CERT_REQUIRED:
            peer = secure.peer_of(opened.sock.getpeercert())
            if peer is None or peer.role != "control":
                raise Unauthenticated("who answers is a node of that platform, but not its control")
        opened.request(method, path, body or None, {"content-type": "application/json"})
        answer = opened.getresponse()
        said = answer.read(BODY_BYTES_MAX)
    except ssl.SSLError as wrong:
        raise NotReachable(_words(control, wrong)) from wrong
    except (OSError, http.client.HTTPException) as down:
        raise NotReachable(f"nobody answers on {control[0]}:{control[1]}: {down}") from down
    finally:
        opened.close()
    if answer.status >= 400:
        raise _told(said)
    return said


def _words(control: tuple[str, int], wrong: ssl.SSLError) -> str:
    said = f"no TLS with {control[0]}:{control[1]}: {getattr(wrong, 'verify_message', '') or wrong.reason or wrong}"
    if "not yet valid" in said:
        now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        said += f"; this machine's clock says {now}, and may be behind control's by {SKEW_S:g} s at the most"
    return said


def _told(body: bytes) -> Exception:
    try:
        error: dict[str, Any] = json.loads(body)["error"]
        return all_codes().get(error["code"], Conflict)(str(error["message"]))
    except (ValueError, KeyError, TypeError):
        return NotReachable(f"control answered {body[:200]!r}")


def _own(control: tuple[str, int]) -> str:
    """Return the address of this machine that control sees."""
    with socket.socket(socket.AF_INET6 if ":" in control[0] else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(control)
        return str(probe.getsockname()[0])
