"""Real replica processes over real sockets: start, serve, be cancelled, drain, fail, die."""

import asyncio
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from stoker.protocol import signing
from stoker.protocol.frames import Kind, RequestHead
from stoker.telemetry.metrics import decode_snapshot
from stoker.types.errors import (
    DeadlineExceeded,
    Draining,
    EngineFailed,
    InvalidInput,
    ReplicaLost,
    TooLarge,
    Unavailable,
    Unsupported,
)
from stoker.types.ids import Digest
from stoker.types.replica import ReplicaSpec
from stoker.types.sandbox import Sandbox
from stoker.types.signing import ProjectTrust, SignaturePolicy, SignedVersion, TrustRoot
from tests.runtime.models import Digits, python_spec
from tests.runtime.rig import Process, ask, drive, infer, infer_body, running, stats_of, until

# Waits for files, so that tests decide when a call ends.
GATED = """
import time
from pathlib import Path
FOLDER = Path({folder!r})


class Model:
    inputs = {{"input": ("FP64", [-1, 1])}}
    outputs = {{"y": ("FP64", [-1, 1]), "rows": ("INT64", [-1])}}
    started = 0

    def load(self, folder):
        while not (FOLDER / "load").exists():
            time.sleep(0.005)

    def predict(self, inputs):
        x = inputs["input"]
        if (x == 0).any():  # the warm-up
            return {{"y": x, "rows": [len(x)] * len(x)}}
        Model.started += 1
        (FOLDER / f"started-{{Model.started}}").touch()
        while not (FOLDER / "go").exists():
            time.sleep(0.005)
        return {{"y": x * 2, "rows": [len(x)] * len(x)}}
"""

PRINTS = """
import sys


class Model:
    inputs = {"input": ("FP64", [-1, 1])}
    outputs = {"y": ("FP64", [-1, 1])}

    def load(self, folder):
        pass

    def predict(self, inputs):
        print("said")
        print("said", file=sys.stderr)
        return {"y": inputs["input"]}
"""


def gated(folder: Path, *, is_loaded: bool = True, **changes: object) -> ReplicaSpec:
    # Its code writes where the sandbox would not let it.
    spec = python_spec(folder / "model", GATED.format(folder=str(folder)), sandbox=Sandbox(level="off"), **changes)
    if is_loaded:
        (folder / "load").touch()
    return spec


async def appears(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("engine", ["onnx", "sklearn", "python"])
def test_it_answers_each_of_many_at_once_as_it_answers_one(engine: str, digits: Digits, tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        assert link.hello is not None
        assert (link.hello.name, link.hello.pid) == (process.spec.replica, process.popen.pid)
        how = (await stats_of(link)).engine
        assert how == ("1 thread (the replica has 1 core)" if engine == "onnx" else "")
        rows = digits.rows[:200]
        found = await asyncio.gather(*(infer(link, row) for row in rows))
        assert [int(answer["label"][0]) for answer in found] == digits.model.predict(rows).tolist()
        together = np.vstack([answer["probabilities"] for answer in found])
        assert np.allclose(together, digits.model.predict_proba(rows), atol=1e-6)
        stats = await stats_of(link)
        assert stats.finished == 200
        assert stats.batch_rows_mean > 1
        assert f'"engine":"{how}"' in process.log

    with running(digits.spec(engine), tmp_path) as process:
        drive(process, body)


def test_requests_of_any_number_of_rows_come_back_whole(digits: Digits, tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        sizes = [1, 7, 8, 9, 500, 3, 64]
        found = await asyncio.gather(*(infer(link, digits.rows[:size]) for size in sizes))
        for size, answer in zip(sizes, found, strict=True):
            assert answer["label"].tolist() == digits.model.predict(digits.rows[:size]).tolist()

    with running(digits.spec("onnx", max_rows=8), tmp_path) as process:
        drive(process, body)


def test_an_answer_larger_than_a_frame_arrives(digits: Digits, tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        rows = np.tile(digits.rows, (8, 1))
        answer = await infer(link, rows)
        assert answer["probabilities"].shape == (len(rows), 10)

    with running(digits.spec("onnx"), tmp_path) as process:
        drive(process, body)


def test_bad_requests_are_refused_and_the_next_is_served(digits: Digits, tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        for hostile in (b"", b"{", infer_body([1.0]), infer_body(digits.rows[:1], name="x"), b"\xff" * 1000):
            with pytest.raises(InvalidInput):
                await ask(link, "infer", hostile)
        with pytest.raises(TooLarge):
            await ask(link, "infer", b" " * (process.spec.max_body_bytes + 1))
        with pytest.raises(Unsupported):
            await ask(link, "chat", b"{}")
        assert (await infer(link, digits.rows[0]))["label"].shape == (1,)

    with running(digits.spec("onnx", max_body_bytes=100_000), tmp_path) as process:
        drive(process, body)


def test_it_listens_while_it_loads_and_says_how_far_it_is(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.connect()
        assert link.hello is not None
        assert link.hello.state == "loading"
        stats = await until(link, lambda stats: stats.stage == "code", process)
        assert stats.state == "loading"
        with pytest.raises(Unavailable, match="loading") as raised:
            await infer(link, [1.0])
        assert raised.value.retry_after_s
        (tmp_path / "load").touch()
        await until(link, lambda stats: stats.state == "ready", process)

    with running(gated(tmp_path, is_loaded=False), tmp_path) as process:
        drive(process, body)


def test_a_stop_while_loading_does_not_wait_for_the_load(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        await until(await process.connect(), lambda stats: stats.stage == "code", process)

    with running(gated(tmp_path, is_loaded=False), tmp_path) as process:
        drive(process, body)
        process.signal(signal.SIGTERM)
        assert process.exit_code() == 0


@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "refused_artifact", "digest"),
        (lambda path: path.write_bytes(b""), "refused_artifact", "0 bytes"),
        (lambda path: path.unlink(), "refused_artifact", "cannot be read"),
    ],
)
def test_a_file_that_is_not_what_was_registered_is_never_opened(
    digits: Digits, tmp_path: Path, spoil: object, code: str, says: str
) -> None:
    model = tmp_path / "model"
    spec = python_spec(model, "raise SystemExit('it was opened')")
    spoil(model / "model.py")  # type: ignore[operator]
    with running(spec, tmp_path) as process:
        assert process.exit_code() == 3
        assert process.error["code"] == code
        assert says in process.error["message"]
        assert "it was opened" not in process.log


@pytest.mark.parametrize("policy", ["required", "warn", "off"])
@pytest.mark.parametrize("what", ["another key", "stripped", "other files", "trusted"])
def test_a_replica_opens_what_a_trusted_key_signed_or_what_its_project_lets_pass(
    tmp_path: Path, policy: SignaturePolicy, what: str
) -> None:
    spec = python_spec(tmp_path / "model", "class Model:\n  def predict(self, i): return i\n  def load(self, f): 1 / 0")
    own, other = (ed25519.Ed25519PrivateKey.generate() for _ in range(2))
    files = spec.manifest.files
    signed = (
        files if what != "other files" else (msgspec.structs.replace(files[0], digest=Digest("sha256:" + "0" * 64)),)
    )
    bundle = signing.sign("m", signed, other if what == "another key" else own)
    root = TrustRoot("team", signing.public_pem(own.public_key()))
    demand = SignedVersion(ProjectTrust(policy, (root,)), () if what == "stripped" else (bundle,))
    with running(msgspec.structs.replace(spec, signed=demand), tmp_path) as process:
        assert process.exit_code() == 3
        if policy == "required" and what != "trusted":
            assert process.error["code"] == "signature_refused"
            assert "is not signed by anyone this project trusts" in process.error["message"]
            assert "ZeroDivisionError" not in process.log
        else:
            assert "ZeroDivisionError" in process.error["message"]  # its code was reached
            assert ("no trusted key signed" in process.log) is (policy == "warn" and what != "trusted")


def test_a_load_that_fails_leaves_the_engines_own_words(tmp_path: Path) -> None:
    code = "class Model:\n  def load(self, folder): raise OSError('no weights here')\n  def predict(self, i): ..."
    with running(python_spec(tmp_path / "model", code), tmp_path) as process:
        assert process.exit_code() == 3
        assert process.error["code"] == "engine_failed"
        assert "OSError: no weights here (model.py line 2)" in process.error["message"]
        assert "no weights here" in process.log
        assert not list(tmp_path.glob("*.tmp"))


def test_an_artifact_outside_the_folder_is_refused(digits: Digits, tmp_path: Path) -> None:
    spec = digits.spec("onnx")
    entry = msgspec.structs.replace(spec.manifest.files[0], path="../onnx/model.onnx")
    manifest = msgspec.structs.replace(spec.manifest, files=(entry,))
    with running(msgspec.structs.replace(spec, manifest=manifest), tmp_path) as process:
        assert process.exit_code() == 3
        assert "leads out" in process.error["message"]


def test_what_waits_goes_together_when_the_engine_is_free(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        first = asyncio.create_task(infer(link, [[1.0]]))
        await appears(tmp_path / "started-1")
        rest = [asyncio.create_task(infer(link, [[float(n)]])) for n in range(2, 12)]
        apart = asyncio.create_task(infer(link, [[99.0]], alone=True))
        stats = await until(link, lambda stats: stats.queued == 11, process)
        assert stats.running == 1
        (tmp_path / "go").touch()
        assert (await first)["rows"].tolist() == [1]
        for number, answer in enumerate(await asyncio.gather(*rest), start=2):
            assert answer["y"].tolist() == [[number * 2.0]]
            assert answer["rows"].tolist() == [10]
        assert (await apart)["rows"].tolist() == [1]

    with running(gated(tmp_path), tmp_path) as process:
        drive(process, body)


def test_waiting_for_a_busy_engine_is_told_from_waiting_for_a_batch(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        first = asyncio.create_task(ask(link, "infer", infer_body([[1.0]])))
        await appears(tmp_path / "started-1")
        second = asyncio.create_task(ask(link, "infer", infer_body([[2.0]])))
        await until(link, lambda stats: stats.queued == 1, process)
        (tmp_path / "go").touch()
        (alone, _), (behind, _) = await first, await second
        assert alone.timings.queue_s == 0.0 < alone.timings.batch_wait_s
        assert 0.0 < behind.timings.queue_s < alone.timings.compute_s
        _, counted = await link.call(RequestHead("metrics"), kind=Kind.CALL).answer()
        numbers = decode_snapshot(counted)
        assert numbers.total("stoker_engine_finished_total") == 2
        assert numbers.total("process_resident_memory_bytes", process=process.spec.replica) > 10 << 20
        assert {"verify", "engine", "warm-up"} <= set(numbers.values_of("stoker_load_seconds", "stage"))
        assert numbers.total("stoker_load_seconds", stage="engine") > 0
        phases = (await stats_of(link)).phases
        assert list(phases) == ["imports", "verify", "engine", "code", "warm-up", "first answer"]
        assert phases["first answer"] >= alone.timings.compute_s

    with running(gated(tmp_path), tmp_path) as process:
        drive(process, body)


def test_a_cancelled_request_leaves_the_queue_and_harms_nobody(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link, other = await process.ready(), await process.connect()
        data = infer_body([[5.0]])
        running_ = link.call(RequestHead("infer", body_bytes=len(data)), data)
        await appears(tmp_path / "started-1")
        waiting = [link.call(RequestHead("infer", body_bytes=len(data)), data) for _ in range(5)]
        kept = asyncio.create_task(infer(other, [[3.0]]))
        await until(other, lambda stats: stats.queued == 6, process)
        for call in waiting[:3]:
            call.cancel()
        running_.cancel()
        await until(other, lambda stats: stats.queued == 3, process)
        link.close()  # the gateway dies: what it still waits for is forgotten
        await until(other, lambda stats: stats.queued == 1, process)
        (tmp_path / "go").touch()
        assert (await kept)["rows"].tolist() == [1]

    with running(gated(tmp_path), tmp_path) as process:
        drive(process, body)


def test_a_request_whose_deadline_passes_in_the_queue_is_dropped_and_never_run(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        first = asyncio.create_task(infer(link, [[1.0]]))
        await appears(tmp_path / "started-1")
        late = asyncio.create_task(infer(link, [[2.0]], timeout_s=0.05))
        kept = asyncio.create_task(infer(link, [[3.0]], timeout_s=60.0))
        await until(link, lambda stats: stats.queued == 2, process)
        await asyncio.sleep(0.06)  # the deadline itself, not a wait for something to happen
        (tmp_path / "go").touch()
        with pytest.raises(DeadlineExceeded):
            await late
        assert (await kept)["rows"].tolist() == [1]
        await first

    with running(gated(tmp_path), tmp_path) as process:
        drive(process, body)


def test_one_bad_row_fails_its_own_request_only(digits: Digits, tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        bad = np.full(64, -999.0)
        calls = [infer(link, bad if at == 7 else digits.rows[at]) for at in range(20)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(found[7], EngineFailed)
        assert "ValueError: a pixel of -999" in found[7].message
        for at, answer in enumerate(found):
            if at != 7:
                assert isinstance(answer, dict), answer
                assert answer["label"].tolist() == digits.model.predict(digits.rows[at : at + 1]).tolist()

    with running(digits.spec("python"), tmp_path) as process:
        drive(process, body)
        assert "Traceback" in process.log


def test_a_log_that_cannot_be_written_fails_no_request(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        hard = resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE, (0, hard))
        for _ in range(3):
            assert (await infer(link, [[1.0]]))["y"].tolist() == [[1.0]]
        resource.prlimit(process.popen.pid, resource.RLIMIT_FSIZE, (hard, hard))
        before = process.log.count("said")
        await infer(link, [[1.0]])
        assert process.log.count("said") == before + 2

    with running(python_spec(tmp_path / "model", PRINTS), tmp_path) as process:
        drive(process, body)


def test_a_request_that_kills_the_process_is_seen_as_lost_by_all_it_took_along(digits: Digits, tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        with pytest.raises(ReplicaLost):
            await infer(link, np.full(64, -9999.0))
        assert process.exit_code() == -signal.SIGABRT

    with running(digits.spec("python"), tmp_path) as process:
        drive(process, body)


def test_draining_finishes_what_runs_and_what_waits_and_refuses_what_is_new(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        kept = [asyncio.create_task(infer(link, [[1.0]]))]
        await appears(tmp_path / "started-1")
        kept += [asyncio.create_task(infer(link, [[2.0]])) for _ in range(5)]
        await until(link, lambda stats: stats.queued == 5, process)
        link.drain()
        assert (await stats_of(link)).state == "draining"
        with pytest.raises(Draining):
            await infer(link, [[3.0]])
        process.signal(signal.SIGTERM)
        (tmp_path / "go").touch()
        assert [len(answer["y"]) for answer in await asyncio.gather(*kept)] == [1] * 6
        assert process.exit_code() == 0
        assert not Path(process.spec.address.removeprefix("unix:")).exists()

    with running(gated(tmp_path), tmp_path) as process:
        drive(process, body)


def test_a_large_answer_is_sent_to_its_end_before_the_process_ends(digits: Digits, tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        data = infer_body(np.tile(digits.rows, (8, 1)))
        call = link.call(RequestHead("infer", body_bytes=len(data)), data)
        piece = await call.next()  # it is under way; more than the window is still to come
        assert isinstance(piece, bytes)
        process.signal(signal.SIGTERM)
        end, rest = await call.answer()
        assert end.usage.rows == 8 * len(digits.rows)
        assert json.loads(piece + rest)["outputs"]
        assert process.exit_code() == 0

    with running(digits.spec("onnx", max_rows=65536), tmp_path) as process:
        drive(process, body)


@pytest.mark.parametrize("arguments", [[], ["/no/such/file"]])
def test_a_wrong_call_of_the_program_is_told_on_stderr(arguments: list[str], tmp_path: Path) -> None:

    done = subprocess.run(
        [sys.executable, "-m", "stoker.app.replica_main", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "usage" in done.stderr or "/no/such/file" in done.stderr
    assert "Traceback" not in done.stderr
