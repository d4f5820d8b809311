"""A platform of two machines: real processes, mutual TLS between them, and what is cut, killed and removed.

The second machine is a network namespace of its own where the system allows that, else another loopback address; a
network that is cut needs the former.
"""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from stoker.app.home import Home
from stoker.protocol import certificates, secure
from stoker.protocol.unixhttp import request
from stoker.types.errors import NotReachable
from tests.ports import free_ports
from tests.whole.load import Load
from tests.whole.rig import STOKER, WAIT_S, Platform, until

NAMESPACE = "stoker-test-"  # then the process whose it is
CERTIFICATE_S = 20  # renewed after ten: a cut must be over before what a node has ends


def _ip(*words: str) -> bool:
    try:
        return subprocess.run(["ip", *words], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _forget_the_dead() -> None:
    """Remove what a run that was killed has left: its interface goes with its namespace."""
    for left in Path("/run/netns").glob(f"{NAMESPACE}*"):
        if not Path("/proc", left.name.removeprefix(NAMESPACE)).exists():
            _ip("netns", "del", left.name)


class Network:
    """A second machine's network: a namespace behind a pair of interfaces, or a loopback address.

    Runs may be beside each other: each has a namespace and four addresses of its own.
    """

    def __init__(self) -> None:
        _forget_the_dead()
        own = os.getpid()
        self.link, self.namespace = f"stk{own}", f"{NAMESPACE}{own}"
        near, far = (str(ip_address("10.213.0.0") + 4 * (own % 2**14) + host) for host in (1, 2))
        self.is_apart = _ip("netns", "add", self.namespace) and all(
            _ip(*words)
            for words in (
                ("link", "add", self.link, "type", "veth", "peer", "name", "far", "netns", self.namespace),
                ("addr", "add", f"{near}/30", "dev", self.link),
                ("link", "set", self.link, "up"),
                ("-n", self.namespace, "addr", "add", f"{far}/30", "dev", "far"),
                ("-n", self.namespace, "link", "set", "far", "up"),
                ("-n", self.namespace, "link", "set", "lo", "up"),
            )
        )
        self.near, self.far = (near, far) if self.is_apart else ("127.0.0.1", "127.0.0.2")
        self.prefix = ("ip", "netns", "exec", self.namespace) if self.is_apart else ()

    def cut(self) -> None:
        assert _ip("link", "set", self.link, "down")

    def mend(self) -> None:
        if self.is_apart:
            assert _ip("link", "set", self.link, "up")

    def close(self) -> None:
        _ip("link", "del", self.link)
        _ip("netns", "del", self.namespace)


class Far(Platform):
    """The second machine: a home with an agent and replicas."""

    def __init__(self, home: Path, network: Network) -> None:
        super().__init__(home)
        self.network = network
        self.process: subprocess.Popen[bytes] | None = None
        self.log = home.with_suffix(".log")

    def start(self, *arguments: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.network.prefix, str(STOKER), "node", *arguments], env=self.environment, stdout=log, stderr=log
            )

    def kill_agent(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def replicas(self) -> dict[str, int]:
        return {each.name: each.pid for each in self.processes() if each.name.startswith("default.")}


class Pair:
    """Both machines."""

    def __init__(self, folder: Path) -> None:
        self.network = Network()
        self.folder = folder
        self.near = Platform(folder / "near", gateways=1)
        self.near.environment |= {
            "STOKER_NODES": f"{self.network.near}:{free_ports(1)[0]}",
            "STOKER_NODE_CERTIFICATE": str(CERTIFICATE_S),
        }
        self.far = Far(folder / "far", self.network)
        self.ports = (str(free_ports(1)[0]), str(free_ports(20)[0]))
        self.joins = 0

    def join(self) -> None:
        made = self.near.json("nodes", "token", "far")
        self.joins += 1
        self.far = Far(self.folder / f"far{self.joins}", self.network)
        told = ("--token", made["token"], "--ca-fingerprint", made["fingerprint"])
        where = ("--address", self.network.far, "--port", self.ports[0], "--ports-from", self.ports[1])
        self.far.start("join", made["url"], *told, *where)

    def node(self) -> Any:
        return next((each for each in self.near.client.nodes() if each.node == "far"), None)

    def is_ready(self) -> bool:
        node = self.node()
        return node is not None and any(one.type == "NodeReady" and one.status for one in node.conditions)

    def placed(self) -> dict[str, str]:
        """Return the nodes of the endpoint's ready replicas."""
        view = self.near.client.endpoint("default", "digits")
        return {each.replica: each.node for each in view.replicas if each.phase == "ready"}

    def is_spread(self) -> bool:
        return sorted(self.placed().values()) == ["far", "local"]

    def load(self, **settings: int) -> Load:
        return Load(f"{self.near.url}/v2/models/digits/infer", self.near.key, **settings)

    def close(self) -> None:
        self.network.mend()
        if self.far.process is not None:
            self.far.process.kill()
            self.far.process.wait()
        self.near.kill_everything()
        self.far.kill_everything()
        self.network.close()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, digits_model: str) -> Iterator[Pair]:
    """Two machines with a replica of a small classifier on each."""
    pair = Pair(tmp_path_factory.mktemp("pair"))
    try:
        pair.near.up()
        pair.join()
        until(pair.is_ready, what=pair.far.log.read_text)
        pair.near.cli("push", "digits", digits_model)
        manifest = {
            "apiVersion": "stoker/v1", "kind": "Endpoint", "metadata": {"name": "digits"},
            "spec": {
                "model": "digits@1", "replicas": {"min": 2, "max": 2}, "placement": {"spread": "required"},
                "resources": {"cpu": 0.25, "memory": "256Mi"},
            },
        }  # fmt: skip
        pair.near.cli("apply", "-f", "-", stdin=json.dumps(manifest))
        yield pair
    finally:
        pair.close()


@pytest.fixture
def pair(one: Pair) -> Pair:
    """Both machines, whole again after what the test before did to them."""
    one.network.mend()
    until(one.is_spread, what=lambda: f"{one.node()}\n{one.far.log.read_text()[-4000:]}\n{one.near.logs()}")
    return one


def served_by_the_other(pair: Pair, traffic: Load) -> None:
    """Have only the other machine answer for a while."""
    near = pair.near.pid("default.digits")
    os.kill(near, signal.SIGSTOP)
    try:
        traffic.wait_for(100)
    finally:
        os.kill(near, signal.SIGCONT)


def test_requests_are_served_by_the_other_machine_with_files_of_its_own(pair: Pair) -> None:
    far = pair.far.replicas()
    assert len(far) == 1
    with pair.load() as traffic:
        traffic.wait_for(200)
        served_by_the_other(pair, traffic)
    assert traffic.outcome.failed() == {}, traffic.outcome
    blobs = [each for each in Home(pair.far.home).blobs.rglob("*") if each.is_file()]
    assert blobs
    (spec,) = Home(pair.far.home).replicas.glob("*.json")
    assert json.loads(spec.read_text())["model_dir"].startswith(str(pair.far.home))


def test_the_other_machines_agent_killed_costs_no_request_and_it_adopts_its_replicas(pair: Pair) -> None:
    before = pair.far.replicas()
    with pair.load() as traffic:
        traffic.wait_for(100)
        pair.far.kill_agent()
        until(lambda: not pair.is_ready(), what="control misses it")
        traffic.wait_for(200)
        pair.far.start("run")
        until(pair.is_ready, what=lambda: pair.far.log.read_text()[-3000:])
        traffic.wait_for(100)
    assert traffic.outcome.failed() == {}, traffic.outcome
    assert traffic.outcome.broken == 0
    assert pair.far.replicas() == before


def test_a_network_that_is_cut_costs_no_request_and_heals_by_itself(pair: Pair) -> None:
    if not pair.network.is_apart:
        pytest.skip("this system gives no network namespaces")
    before = pair.far.replicas()
    with pair.load() as traffic:
        traffic.wait_for(200)
        pair.network.cut()
        until(lambda: not pair.is_ready(), what="control misses it")
        traffic.wait_for(200)
        pair.network.mend()
        until(pair.is_spread, what="it is back")
        traffic.wait_for(200)
    assert traffic.outcome.failed() == {}, traffic.outcome
    assert traffic.outcome.broken == 0
    assert pair.far.replicas() == before


def test_certificates_are_renewed_under_load_and_no_request_is_lost(pair: Pair) -> None:
    path = Home(pair.far.home).tls / "replica" / secure.IDENTITY

    def until_s() -> float:
        return certificates.times(path.read_text())[1]

    before_s = until_s()
    with pair.load(connections=4) as traffic:
        until(lambda: until_s() > before_s, what="renewed")
        traffic.wait_for(100)
    assert traffic.outcome.failed() == {}, traffic.outcome
    assert traffic.outcome.broken == 0
    assert pair.is_spread()
    assert pair.node().certificate_until_s > time.time()


def test_another_authority_follows_under_load(pair: Pair) -> None:
    def signers() -> set[str]:
        paths = [Home(pair.far.home).tls / role / secure.IDENTITY for role in ("agent", "replica")]
        paths += [Home(pair.near.home).tls / role / secure.IDENTITY for role in ("control", "gateway")]
        return {certificates.peer(path.read_text()).authority for path in paths}

    before = signers()
    assert len(before) == 1
    with pair.load(connections=4) as traffic:
        pair.near.cli("nodes", "rotate-ca")
        until(lambda: len(signers()) == 1 and signers() != before, what="all have certificates of the new one")
        traffic.wait_for(100)
    assert traffic.outcome.failed() == {}, traffic.outcome
    assert pair.is_spread()


def test_only_controls_certificate_opens_the_other_machines_agent(pair: Pair) -> None:
    near, far = Home(pair.near.home).tls, Home(pair.far.home).tls

    def asks(folder: Path) -> int:
        place = secure.Far(pair.network.far, int(pair.ports[0]), "far", "agent", "agent", str(folder))
        return asyncio.run(request(place.address, "GET", "/v1/node", timeout_s=WAIT_S))[0]

    assert asks(near / "control") == 200
    for stolen in (near / "gateway", far / "replica", far / "agent"):
        with pytest.raises(NotReachable):
            asks(stolen)


def test_people_see_the_nodes_and_how_they_are(pair: Pair) -> None:
    def listed() -> list[list[str]]:
        return [line.split()[:2] for line in pair.near.cli("get", "nodes").splitlines()[1:]]

    def told(claim: str) -> bool:
        return claim in pair.near.cli("describe", "node", "far")

    until(lambda: listed() == [["local", "Ready"], ["far", "Ready"]], what=listed)
    for claim in ("NodeReady=True", "CertificateExpiresSoon=False"):  # its certificate ends seconds after each renewal
        until(lambda claim=claim: told(claim), claim)
    metrics = pair.near.cli("query", 'stoker_node_ready{node="far"}')
    assert "1" in metrics


def test_a_node_that_is_removed_serves_nothing_more_and_ends(pair: Pair) -> None:
    with pair.load() as traffic:
        traffic.wait_for(100)
        pair.near.cli("nodes", "remove", "far")
        assert pair.far.process is not None
        until(lambda: pair.far.process is not None and pair.far.process.poll() is not None, what="its agent ends")
        traffic.wait_for(100)
    assert traffic.outcome.failed() == {}, traffic.outcome
    assert pair.far.replicas() == {}
    assert pair.node() is None
    pair.join()
    until(pair.is_spread, what=lambda: pair.far.log.read_text()[-3000:])
    with pair.load() as traffic:
        served_by_the_other(pair, traffic)
    assert traffic.outcome.failed() == {}, traffic.outcome
