"""Machines join a real control by its authority and a token; what they may then ask of it, and what not."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stoker.app import join
from stoker.app.home import Home
from stoker.client import nodes
from stoker.protocol import certificates, secure
from stoker.protocol.secure import Far
from stoker.protocol.unixhttp import request
from stoker.types.errors import Conflict, InvalidInput, NotFound, NotReachable, StokerError, Unauthenticated
from stoker.types.models import sha256_digest
from stoker.types.nodes import Issued, Joined, NewToken, Requests, SyncBody, Synced, TokenWish
from stoker.types.peers import OWN
from tests.control.rig import WAIT_S, Rig, until
from tests.ports import free_ports

MISSING = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A control that takes other nodes, whose certificates are short-lived."""
    rig = Rig(tmp_path_factory.mktemp("nodes") / "h")
    rig.environ["STOKER_NODES"] = f"127.0.0.1:{free_ports(1)[0]}"
    rig.environ["STOKER_NODE_CERTIFICATE"] = "1h"
    rig.start()
    yield rig
    rig.close()


class Machine:
    """Another machine: a home of its own."""

    def __init__(self, home: Home, rig: Rig) -> None:
        self.home = home
        self.rig = rig

    def join(self, made: NewToken, token: str = "", fingerprint: str = "") -> Joined:
        here = ("127.0.0.1", free_ports(1)[0], 17000)
        return join.join(self.home, made.url, token or made.token, fingerprint or made.fingerprint, here)

    def ask(self, method: str, path: str, body: Any = None, role: str = "agent") -> tuple[int, bytes]:
        """Ask control with the certificate of this machine's `role`."""
        host, _, port = self.rig.environ["STOKER_NODES"].rpartition(":")
        far = Far(host, int(port), OWN, "control", "control", str(self.home.tls / role))
        told = b"" if body is None else msgspec.json.encode(body)
        return asyncio.run(request(far.address, method, path, body=told, timeout_s=WAIT_S))

    def sync(self, role: str = "agent") -> int:
        return self.ask("POST", "/v1/sync", SyncBody(""), role)[0]


@pytest.fixture
def machine(tmp_path: Path, rig: Rig) -> Callable[[str], Machine]:
    return lambda name: Machine(Home(tmp_path / name), rig)


def token(rig: Rig, name: str, seconds: float = 600.0) -> NewToken:
    return nodes.token(rig.client, TokenWish(name, "default", seconds))


def joined(rig: Rig, machine: Callable[[str], Machine], name: str) -> Machine:
    made = machine(name)
    made.join(token(rig, name))
    return made


def test_a_machine_joins_with_keys_that_it_made_itself(rig: Rig, machine: Callable[[str], Machine]) -> None:
    made = machine("first")
    said = made.join(token(rig, "first"))
    assert (said.name, said.pool) == ("first", "default")
    for role in ("agent", "replica"):
        path = made.home.tls / role / secure.IDENTITY
        assert path.stat().st_mode & 0o777 == 0o600
        shown = certificates.peer(path.read_text())
        assert (shown.node, shown.role) == ("first", role)
    assert made.sync() == 200
    (row,) = (each for each in rig.client.nodes() if each.node == "first")
    assert {one.type: one.status for one in row.conditions} == {"NodeReady": False, "CertificateExpiresSoon": False}
    everything = b"".join(each.read_bytes() for each in rig.home.root.glob("state.db*"))
    authority = msgspec.json.decode(rig.home.authority.read_bytes())
    assert rig.home.authority.stat().st_mode & 0o777 == 0o600
    for each in authority["authorities"]:
        assert each["key"].splitlines()[1].encode() not in everything
    with pytest.raises(Conflict, match="is a node already"):
        made.join(token(rig, "second"))


def test_a_token_lets_in_once(rig: Rig, machine: Callable[[str], Machine]) -> None:
    made = token(rig, "once")
    machine("a").join(made)
    with pytest.raises(Unauthenticated, match="was used"):
        machine("b").join(made)
    with pytest.raises(Conflict, match="nodes remove once"):
        token(rig, "once")


def test_a_token_that_is_wrong_or_too_old_lets_nobody_in(rig: Rig, machine: Callable[[str], Machine]) -> None:
    made = token(rig, "late", 1.0)
    with pytest.raises(Unauthenticated):
        machine("a").join(made, token="stn_" + "x" * 43)
    late = machine("b")

    def is_refused() -> bool:
        if time.time() < made.expires_at_s:
            return False
        with pytest.raises(Unauthenticated):
            late.join(made)
        return True

    until(is_refused)
    assert not late.home.joined.exists()


def test_nothing_is_sent_to_who_has_another_authority(rig: Rig, machine: Callable[[str], Machine]) -> None:
    made = token(rig, "careful")
    with pytest.raises(Unauthenticated, match="nothing was sent"):
        machine("a").join(made, fingerprint=MISSING)
    machine("b").join(made)  # the token was not used up


def test_a_request_that_is_none_leaves_the_token_good(rig: Rig, machine: Callable[[str], Machine]) -> None:
    made, other = token(rig, "again"), joined(rig, machine, "helper")
    body = {
        "token": made.token, "requests": {"agent": "no pem", "replica": "no pem"}, "host": "h", "port": 7442,
        "ports_from": 17000, "home": "/h", "run": "/r", "python": "/p",
    }  # fmt: skip
    assert other.ask("POST", "/v1/join", body)[0] == 400
    assert other.ask("POST", "/v1/join", {**body, "host": "h; rm"})[0] == 400
    machine("a").join(made)


def test_only_an_agent_asks_control_and_only_for_its_own_node(rig: Rig, machine: Callable[[str], Machine]) -> None:
    one = joined(rig, machine, "asker")
    assert one.sync() == 200
    with pytest.raises(NotReachable):
        one.sync("replica")  # a replica's certificate, stolen by its model
    keys = {role: certificates.new_key() for role in ("agent", "replica")}
    wish = Requests(*(certificates.request(keys[each]) for each in ("agent", "replica")))
    status, said = one.ask("POST", "/v1/renew", wish)
    assert status == 200
    issued = msgspec.json.decode(said, type=Issued)
    assert certificates.peer(issued.agent).node == "asker"
    join.keep(one.home, issued, keys)
    assert one.sync() == 200
    for path in (f"/v1/blobs/{MISSING}", "/v1/blobs/..%2f..%2fca.json", "/v1/blobs/x"):
        assert one.ask("GET", path)[0] == 404
    for path in ("/api/v1/nodes", "/internal/v1/routes", "/metrics"):
        assert one.ask("GET", path)[0] == 404


def test_a_blob_is_given_to_nodes_that_run_it_only(
    rig: Rig, machine: Callable[[str], Machine], onnx_files: list[Path]
) -> None:
    one = joined(rig, machine, "curious")
    version = rig.push("secret", onnx_files[0]).version
    assert one.ask("GET", f"/v1/blobs/{version.manifest.files[0].digest}")[0] == 404


def test_a_node_that_was_removed_is_refused_at_once_and_can_join_anew(
    rig: Rig, machine: Callable[[str], Machine]
) -> None:
    one = joined(rig, machine, "leaver")
    nodes.remove(rig.client, "leaver")
    assert one.sync() == 401
    revoked = msgspec.json.decode((rig.home.tls / "gateway" / secure.REVOKED).read_bytes())
    assert certificates.peer((one.home.tls / "agent" / secure.IDENTITY).read_text()).life in revoked
    again = machine("leaver-again")
    again.join(token(rig, "leaver"))
    assert again.sync() == 200
    assert one.sync() == 401  # what it had is still worth nothing
    with pytest.raises(NotFound):
        nodes.remove(rig.client, "nobody")


def test_control_killed_keeps_its_authority_and_its_nodes(rig: Rig, machine: Callable[[str], Machine]) -> None:
    one = joined(rig, machine, "stays")
    rig.kill()
    rig.start()
    assert one.sync() == 200


def test_another_authority_follows_once_every_node_has_heard_of_it(rig: Rig, machine: Callable[[str], Machine]) -> None:
    one = joined(rig, machine, "hears")
    for each in rig.client.nodes():
        if each.host and each.node != "hears":
            nodes.remove(rig.client, each.node)
    before = (one.home.tls / "agent" / secure.TRUST).read_text()
    made = nodes.rotate(rig.client)
    assert "follows" in made.state
    with pytest.raises(Conflict):
        nodes.rotate(rig.client)
    said = msgspec.json.decode(one.ask("POST", "/v1/sync", SyncBody(""))[1], type=Synced)
    assert said.trust.startswith(before)
    assert not said.renew
    for role in ("agent", "replica"):
        (one.home.tls / role / secure.TRUST).write_text(said.trust)
    digest = sha256_digest(said.trust.encode())

    def is_followed() -> bool:
        answer = one.ask("POST", "/v1/sync", SyncBody(digest))
        return msgspec.json.decode(answer[1], type=Synced).renew

    until(is_followed)
    assert token(rig, "by-the-new-one").fingerprint == made.fingerprint
    assert one.sync() == 200  # by a certificate of the one before, which counts until it ends


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://127.0.0.1", "127.0.0.1:7443"])
def test_where_control_is_must_be_said_whole(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="https://HOST:PORT"):
        join.join(Home(tmp_path / "h"), url, "t", MISSING, ("", 1, 17000))


def test_a_platform_of_one_machine_says_how_to_take_others(tmp_path: Path) -> None:
    alone = Rig(tmp_path / "h")
    try:
        alone.start()
        with pytest.raises(StokerError, match="STOKER_NODES=HOST:PORT"):
            token(alone, "b")
        assert not alone.home.authority.exists()
        assert not alone.home.tls.exists()
    finally:
        alone.close()
