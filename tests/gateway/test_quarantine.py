"""What is left of a request that killed two replicas: a file without its words, a log line, a count."""

import asyncio
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.gateway.fleet import quarantine
from stoker.gateway.fleet.quarantine import Quarantine
from tests.gateway import rig as rigs
from tests.gateway.rig import Rig, ask, infer, keep_alive, run, until
from tests.gateway.talkers import metric, metrics


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rigs.rig(tmp_path_factory.mktemp("quarantine"), replicas=2) as made:
        yield made


def test_a_conviction_leaves_a_record_without_the_clients_words(rig: Rig) -> None:
    async def work() -> None:
        stop = asyncio.Event()
        keepers = [keep_alive(rig, name, stop) for name in ("r0", "r1")]
        text = 'the secret of Otto: "die now" 4711'
        body = {"model": "smol", "messages": [{"role": "user", "content": text}], "max_tokens": 5}
        answer = await ask(rig, "POST", "/v1/chat/completions", json.dumps(body).encode(), x_request_id="killer-1")
        assert answer.status == 422
        assert answer.json["error"]["code"] == "poison_request"
        folder = rig.home.quarantine
        until(lambda: list(folder.glob("*.json")) != [], "the record is there")
        (path,) = folder.glob("*.json")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        record: dict[str, Any] = json.loads(path.read_text())
        assert (record["method"], record["endpoint"], record["request"]) == ("chat", "smol", "killer-1")
        assert record["revision"] == "default.smol-1"
        assert record["replica"] in ("r0", "r1")
        assert record["body"]["max_tokens"] == 5
        assert record["body"]["messages"] == [{"role": "user", "content": "xxx xxxxxx xx Xxxx. .xxx xxx. 9999"}]
        log = rig.log("gateway-0").read_text()
        assert record["shape"] in log
        for secret in ("Otto", "secret", "4711"):
            assert secret not in path.read_text()
            assert secret not in log
        # Refused at once from now on, without another record.
        assert (await ask(rig, "POST", "/v1/chat/completions", json.dumps(body).encode())).status == 422
        assert metric(await metrics(rig), "stoker_quarantined_total", endpoint="smol") == 1
        assert (await infer(rig, "{}")).status == 200
        stop.set()
        await asyncio.gather(*keepers)

    run(work)


def test_records_are_bounded_and_the_oldest_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "FILES_MAX", 5)
    kept = Quarantine(tmp_path / "quarantine")
    for number in range(9):
        kept._write({"shape": f"{number:032x}"}, b"{}", -1)
    names = sorted(path.name for path in (tmp_path / "quarantine").iterdir())
    assert len(names) == 5
    assert json.loads((tmp_path / "quarantine" / names[-1]).read_text())["shape"] == f"{8:032x}"


def test_records_of_one_shape_and_one_moment_in_two_gateways_are_all_kept_in_their_order(tmp_path: Path) -> None:
    gateways = [Quarantine(tmp_path / "quarantine", clock_ns=lambda: 1_764_000_000_000_000_000) for _ in range(2)]
    for number in range(6):
        gateways[number % 2]._write({"shape": "a" * 32, "request": str(number)}, b"{}", -1)
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "quarantine").iterdir())]
    assert [record["request"] for record in records] == ["0", "1", "2", "3", "4", "5"]


def test_a_full_disk_is_a_line_in_the_log_and_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    Quarantine(tmp_path / "file")._write({"shape": "0" * 32}, b"{}", -1)
    assert "cannot be kept" in caplog.text
