"""Comparisons with other servers: who is best is found inside the same rounds, and who is not there says why."""

from pathlib import Path

import pytest

from bench.figures import Sample
from bench.peers import compare, gateways, install, measured, predictive, upstream
from bench.peers.compare import ALONE, BUSY, BY_HAND, FRAMEWORK, OWN, TWO_WORKERS, Kind
from bench.peers.measured import Measured
from bench.peers.process import Running, Start, ask
from tests.ports import free_ports


def sample(rate: float, p99_s: float = 0.002) -> Sample:
    return Sample(int(rate), 0, 1.0, p50_s=0.001, p99_s=p99_s, cpu_s=rate * 50e-6)


def row(name: str, kind: Kind, busy: float, alone: float, p99_s: float = 0.002) -> compare.Row:
    ours = {BUSY: [sample(20_000, 0.004)], ALONE: [sample(5_000)]}
    return compare.Row(name, kind, {BUSY: [sample(busy, p99_s)], ALONE: [sample(alone)]}, ours, 100.0)


def test_stoker_is_held_to_the_best_of_each_kind_and_not_to_itself() -> None:
    found = compare.Found(
        [
            row(TWO_WORKERS, BY_HAND, 10_000, 6_000, p99_s=0.008),
            row("slow", FRAMEWORK, 1_000, 500, p99_s=0.040),
            row("fast", FRAMEWORK, 5_000, 2_500, p99_s=0.016),
            row("stoker, 1 gateway", OWN, 40_000, 9_000, p99_s=0.001),
        ]
    )
    held = {figure.what: (figure.value, figure.note, figure.verdict) for figure in compare.figures(found)}
    assert held["req/s against the best framework, c = 64"] == (4.0, "fast", "pass")
    assert held[f"req/s against {TWO_WORKERS}, c = 64"] == (2.0, TWO_WORKERS, "pass")
    assert held["p99 against the lowest, c = 64"] == (0.5, TWO_WORKERS, "pass")
    assert held["req/s against the fastest, c = 1"] == (pytest.approx(5 / 6), TWO_WORKERS, "MISSED")
    assert held["req/s against the fastest framework, c = 1"] == (2.0, "fast", "pass")


def test_a_comparison_with_nobody_holds_nothing() -> None:
    assert compare.figures(compare.Found(absent={"BentoML": "not installed: no wheel"})) == []
    assert measured.figures(measured.Found()) == []


def test_a_peer_that_is_not_there_is_a_row_that_says_why() -> None:
    found = compare.Found([row("fast", FRAMEWORK, 5_000, 2_500)], {"BentoML": "not installed: no wheel"})
    rows = compare.table(found, BUSY)
    assert {len(cells) for cells in rows} == {8}
    assert rows[-1][0] == "BentoML"
    assert rows[-1][-1] == "not installed: no wheel"
    assert rows[2][0] == "fast"
    assert rows[2][-1] == "4.00 ×"


def one(rate: float, first_s: float = 0.001, failed: int = 0) -> Measured:
    return Measured(sample(rate), first_s, first_s * 2, 1_000, 0.02, 50.0, failed)


def test_a_gateway_is_compared_with_the_upstream_of_its_own_rounds() -> None:
    found = measured.Found(processes_mb={"gateway-0": 60.0, "control": 70.0})
    for name, kind, rate, first_s in (("a", "router", 10_000, 0.001), ("b", "router", 5_000, 0.002)):
        taken = {
            name: [one(rate)],
            measured.STOKER: [one(20_000, first_s + 0.0002)],
            measured.DIRECT: [one(90_000, first_s)],
        }
        found.add(name, kind, taken)  # type: ignore[arg-type]
    held = {figure.what: figure for figure in measured.figures(found)}
    assert held["req/s against the best router in Rust"].value == 2.0
    assert held["req/s against the best router in Rust"].note == "a"
    assert held["first token later, p50"].value == pytest.approx(0.2)
    assert held["first token later, p50"].verdict == "pass"
    assert "req/s against LiteLLM" not in held
    assert {len(cells) for cells in measured.table(found)} == {10}


def test_failures_of_every_round_are_counted() -> None:
    assert measured.median_of([one(1), one(3, failed=2), one(2, failed=1)]).failed == 3
    assert measured.median_of([one(1), one(3), one(2)]).tiny.rate == 2


def test_every_peer_is_pinned_and_installed_into_its_own_folder() -> None:
    peers = [*predictive.PEERS, *gateways.PEERS]
    assert len({peer.name for peer in peers}) == len(peers)
    packages = {peer.package for peer in peers if peer.package}
    assert len({package.folder for package in packages}) == len(packages)
    for package in packages:
        last = install.commands(package, Path("/cache/x"))[-1]
        assert any(word.endswith(package.version) for word in last)
    assert install.commands(install.RAY, Path("/cache/x"))[-1][4] == "ray[serve,haproxy]==2.60.0"


def test_an_installer_that_fails_says_its_last_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(install, "commands", lambda package, folder: [["sh", "-c", "echo no such wheel >&2; exit 1"]])
    with pytest.raises(install.NotHere, match="not installed: no such wheel"):
        install.place(install.KSERVE)
    assert not (tmp_path / "stoker-bench" / install.KSERVE.folder / install.DONE).exists()


def test_the_answer_of_another_model_is_refused() -> None:
    predictive.check(b'{"outputs":[{"name":"label","data":[0]}]}')
    with pytest.raises(install.NotHere, match="answers wrongly"):
        predictive.check(b'{"outputs":[{"name":"label","data":[7]}]}')


def test_a_peer_that_ends_at_its_start_says_its_last_words(tmp_path: Path) -> None:
    start = Start(["sh", "-c", "echo no such flag; exit 2"], free_ports(1)[0], "/")
    with pytest.raises(install.NotHere, match="no such flag"), Running("peer", start, tmp_path, b"{}"):
        pass


def test_what_a_peer_left_to_itself_is_stopped_too(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    serve = f"import http.server as h; h.HTTPServer(('127.0.0.1', {port}), H).serve_forever()"
    code = (
        "import http.server, os, time\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_POST(self): self.send_response(200); self.send_header('Content-Length', '0'); self.end_headers()\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        {serve}\n"
        "    os._exit(0)\n"
        "time.sleep(600)\n"
    )
    script = tmp_path / "peer.py"
    script.write_text(code)
    with Running("peer", Start(["python3", str(script)], port, "/"), tmp_path, b"{}") as running:
        pids = running.contender().pids
        assert len(pids) >= 2
    assert running.pids() == []
    with pytest.raises(OSError, match="refused"):
        ask(f"http://127.0.0.1:{port}/", (), b"{}")


def test_the_fake_upstream_answers_whole() -> None:
    assert upstream.chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert upstream.end(3).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert b'"completion_tokens":3,"total_tokens":4' in upstream.end(3)
