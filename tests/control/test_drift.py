"""The watch on drift, with real replicas' counts over real sockets: verdicts, what survives, learning, events."""

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import numpy as np
import pytest

from stoker.blob.folder import FolderBlobs
from stoker.control.drift.files import sweep
from stoker.control.drift.learning import learned
from stoker.control.drift.watch import DriftWatch
from stoker.core import conditions
from stoker.observe.drift.reference import build
from stoker.observe.drift.space import compared
from stoker.protocol import frames
from stoker.protocol.frames import EndHead, Hello
from stoker.protocol.link import Exchange, serve
from stoker.protocol.openai import decode_chat
from stoker.protocol.webhooks import sign
from stoker.runtime.drift import Watch
from stoker.runtime.drift_texts import ChatWatch
from stoker.store import endpoints, journal, models, revisions
from stoker.store.engine import Database, open_engine, sqlite_url
from stoker.store.projects import put as put_project
from stoker.store.schema import metadata
from stoker.telemetry.metrics import Registry
from stoker.types.drift import REFERENCE_FILE, Question
from stoker.types.errors import Conflict, NotFound, SecretUnavailable
from stoker.types.generation import Delta
from stoker.types.ids import ModelName
from stoker.types.models import FileEntry, Signature, TensorSpec
from stoker.types.replica import ReplicaStats, Usage
from stoker.types.resources import Drift, EndpointSpec, Task, Trigger
from tests.store.rows import assignment, endpoint, manifest, project, revision

SIGNATURE_OF = Signature((TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "FP32", (-1, 1)),))
KEY = ("default", "a")
SECRET = b"0123456789abcdef"


async def named(project: str, reference: str) -> str:
    """Return what a reference names, of files, for any project."""
    try:
        return Path(reference.removeprefix("file:")).read_text()
    except OSError as missing:
        raise SecretUnavailable(str(missing)) from missing


class Replica:
    """A replica as control sees it: it answers `drift` with what it counted."""

    body_max_bytes = 1 << 20

    def __init__(self, watch: Watch | ChatWatch | None = None) -> None:
        self.watch = watch or Watch(SIGNATURE_OF, batches=True)

    def hello(self) -> Hello:
        return Hello(wire=frames.WIRE_VERSION, name="r", kind="replica", pid=1, boot="b", state="ready")

    def stats(self) -> ReplicaStats:
        return ReplicaStats()

    def drain(self) -> None: ...

    def request(self, exchange: Exchange) -> None: ...

    def call(self, exchange: Exchange) -> None:
        answer = self.watch.answer(msgspec.msgpack.decode(exchange.body, type=Question))
        exchange.end(EndHead(), msgspec.msgpack.encode(answer))

    def sees(self, rows: int, shift: float = 0.0, seed: int = 0) -> None:
        x = np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)
        x[:, 1] += shift
        self.watch.seen({"x": x}, {"y": x.sum(axis=1, keepdims=True)}, rows)


class Rig:
    """A database with one endpoint that serves, its replica, and the watch."""

    def __init__(
        self, folder: Path, spec: Drift, *, with_reference: bool = True, watch: ChatWatch | None = None
    ) -> None:
        self.folder = folder
        self.task: Task = "chat" if watch is not None else "predict"
        engine = open_engine(sqlite_url(folder / "state.db"))
        metadata.create_all(engine)
        self.database = Database(engine)
        for name in ("blobs", "tmp"):
            (folder / name).mkdir()
        self.blobs = FolderBlobs(folder / "blobs", folder / "tmp")
        self.metrics = Registry("control")
        self.replica = Replica(watch)
        self.begin()
        self._write(spec, with_reference)

    def begin(self) -> None:
        """Make the watch anew, as a restarted control does."""
        self.watch = DriftWatch(
            self.database,
            self.blobs,
            self.folder / "drift",
            lambda _: f"unix:{self.folder}/r",
            self.metrics,
            learned,
            compared,
            named,
        )

    def _write(self, spec: Drift, with_reference: bool) -> None:
        rng = np.random.default_rng(99)
        made = build({f"x[{at}]": rng.normal(size=2_000) for at in range(3)}, source="rows.csv", made_at_s=0.0)
        blob = self.blobs.put([msgspec.json.encode(made)])
        files = (FileEntry(REFERENCE_FILE, blob.digest, blob.size_bytes),) if with_reference else ()
        about = manifest()
        about = msgspec.structs.replace(about, signature=SIGNATURE_OF, files=(*about.files, *files))
        resource = msgspec.structs.replace(endpoint(), spec=EndpointSpec(model="m", drift=spec))

        def write(connection) -> None:
            put_project(connection, project(), 1.0)
            version, _ = models.add(connection, ModelName("m"), about, 1.0)
            endpoints.put(connection, resource, 1, 1.0)
            one = revision(version)
            one = msgspec.structs.replace(one, config=msgspec.structs.replace(one.config, task=self.task))
            revisions.add(connection, one)
            revisions.assign(connection, assignment(one))
            endpoints.set_serving(connection, *KEY, one.revision)

        self.database.write(write)

    def condition(self):
        state = self.database.read(lambda connection: endpoints.get(connection, *KEY))
        return conditions.find(state.status.conditions, conditions.DRIFTED)

    def actions(self) -> list[str]:
        return [one.action for one in reversed(self.database.read(lambda connection: journal.last(connection, 50)))]


def run(
    folder: Path,
    spec: Drift,
    body: Callable[[Rig], Awaitable[None]],
    *,
    with_reference: bool = True,
    watch: ChatWatch | None = None,
) -> None:
    async def main() -> None:
        rig = Rig(folder, spec, with_reference=with_reference, watch=watch)
        server = await serve(f"unix:{folder}/r", rig.replica)
        try:
            async with asyncio.timeout(30):
                await body(rig)
        finally:
            await server.close()
            rig.database.close()

    asyncio.run(main())


@contextlib.asynccontextmanager
async def receiver(status: int) -> AsyncIterator[tuple[str, list[tuple[str, bytes]]]]:
    got: list[tuple[str, bytes]] = []

    class Takes(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((dict(self.headers), self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Takes) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook", got
        finally:
            server.shutdown()
            thread.join()


def test_a_shift_becomes_a_condition_after_two_verdicts_and_ends_when_the_window_is_well(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.watch.turn(1_000.0)  # hands over the reference
        assert rig.condition().reason == "TooFewRows"
        rig.replica.sees(1_000)
        await rig.watch.turn(1_060.0)
        assert (rig.condition().status, rig.condition().reason) == (False, "AsReference")
        rig.replica.sees(3_000, shift=1.0, seed=1)
        await rig.watch.turn(1_120.0)
        assert not rig.condition().status
        await rig.watch.turn(1_180.0)
        assert rig.condition().status
        assert rig.condition().message.startswith("x[1] (PSI ")
        view = await rig.watch.view(*KEY)
        assert view.features[0].shift.feature == "x[1]"
        assert (sum(view.features[0].before), sum(view.features[0].now)) == pytest.approx((1.0, 1.0))
        assert rig.metrics.gauge("stoker_drifted", project="default", endpoint="a").value == 1.0
        shifts = rig.metrics.histogram("stoker_drift_shift", project="default", endpoint="a")
        assert shifts.read().count == 3, "too few rows are no event of an objective"
        rig.replica.sees(2_000, seed=2)
        for minute in range(62, 66):  # what was moved is now an hour old
            await rig.watch.turn(1_120.0 + 60 * minute)
        assert not rig.condition().status
        assert rig.actions() == ["Drifted", "DriftEnded"]

    run(tmp_path, Drift(), body)


def test_a_control_that_was_killed_goes_on_with_the_window_it_had(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.watch.turn(1_000.0)
        rig.replica.sees(700)
        await rig.watch.turn(1_060.0)
        rig.replica.sees(300, seed=3)
        rig.begin()
        await rig.watch.turn(1_070.0)
        assert (await rig.watch.view(*KEY)).rows == 1_000
        (rig.folder / "drift" / "default.a.watched.msgpack").write_bytes(b"\xc1 damaged")
        rig.begin()
        await rig.watch.turn(1_140.0)  # begins anew, with what the replica has counted
        assert (await rig.watch.view(*KEY)).rows == 1_000

    run(tmp_path, Drift(), body)


def test_a_replica_that_is_gone_or_mute_is_left_out(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        rig.watch = DriftWatch(
            rig.database, rig.blobs, rig.folder / "d", lambda _: "unix:/nowhere", rig.metrics, learned, compared, named
        )
        await rig.watch.turn(1_000.0)
        assert rig.condition().reason == "TooFewRows"

    run(tmp_path, Drift(), body)


def test_a_reference_is_learned_from_what_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(rig: Rig) -> None:
        now_s = 1_000.0
        monkeypatch.setattr("stoker.control.drift.watch.time.time", lambda: now_s)
        await rig.watch.turn(now_s)
        assert rig.condition() is None
        assert not (await rig.watch.view(*KEY)).is_watched
        await rig.watch.learn(*KEY, 60.0)
        await rig.watch.turn(now_s)
        rig.replica.sees(400)
        await rig.watch.turn(1_061.0)
        rig.replica.sees(500, seed=5)
        await rig.watch.turn(1_062.0)
        rig.replica.sees(500, seed=6)
        await rig.watch.turn(1_123.0)
        view = await rig.watch.view(*KEY)
        assert view.source == "400 live rows over 60 s"
        assert [(one.shift.side, one.shift.level) for one in view.features].count(("output", "steady")) == 1
        assert rig.condition().reason == "AsReference"
        with pytest.raises(NotFound):
            await rig.watch.learn("default", "b", 60.0)
        rig.database.write(lambda connection: endpoints.set_serving(connection, *KEY, ""))
        with pytest.raises(Conflict):
            await rig.watch.learn(*KEY, 60.0)
        assert rig.actions() == ["LearnReference", "ReferenceLearned"]
        sweep(rig.folder / "drift", {("default", "b")})
        assert list((rig.folder / "drift").iterdir()) == []

    run(tmp_path, Drift(), body, with_reference=False)


def test_a_language_model_learns_what_it_is_asked_and_drifts_when_that_is_another_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = ChatWatch()
    words = {"en": "the cat sat on a mat near my old dog", "de": "über die Straße geht schnell ein Zug"}
    monkeypatch.setattr("stoker.runtime.drift_texts.ROWS_A_SECOND", 1e9)

    def says(language: str, many: int) -> None:
        rng = np.random.default_rng(many)
        for _ in range(many):
            content = " ".join(rng.choice(words[language].split(), 9))
            messages = [{"role": "user", "content": content}]
            said = watch.begin(decode_chat(json.dumps({"model": "m", "messages": messages}).encode()))
            assert said is not None
            said.hear(Delta(text="So be it."))
            said.finish = "stop"
            watch.end(said, Usage(input_tokens=9, output_tokens=4))

    async def body(rig: Rig) -> None:
        now_s = 1_000.0
        monkeypatch.setattr("stoker.control.drift.watch.time.time", lambda: now_s)
        await rig.watch.turn(now_s)
        await rig.watch.learn(*KEY, 60.0)
        await rig.watch.turn(now_s)
        says("en", 200)
        await rig.watch.turn(1_061.0)
        await rig.watch.turn(1_062.0)
        says("en", 201)
        await rig.watch.turn(1_123.0)
        assert rig.condition().reason == "AsReference"
        rig.begin()  # a control that was killed has the vectors too
        says("de", 400)
        for at_s in (1_184.0, 1_245.0):
            await rig.watch.turn(at_s)
        assert rig.condition().status
        view = await rig.watch.view(*KEY)
        found = {one.shift.feature: one.shift for one in view.features}
        assert found["prompt.wording"].level == "drifted"
        assert found["prompt.wording"].auc > found["prompt.wording"].auc_expected > 0.5
        assert (found["answer.finish"].level, found["answer.kind"].level) == ("steady", "steady")
        assert rig.actions() == ["LearnReference", "ReferenceLearned", "Drifted"]

    run(tmp_path, Drift(), body, with_reference=False, watch=watch)


@pytest.mark.parametrize("status", [204, 500])
def test_the_event_is_signed_and_sent_until_it_is_taken_and_then_not_again(tmp_path: Path, status: int) -> None:
    async def main() -> None:
        (tmp_path / "hooks").mkdir()
        (tmp_path / "hooks" / "key").write_bytes(SECRET + b"\n")
        async with receiver(status) as (url, got):
            spec = Drift(trigger=Trigger(webhook=url, secret="key", cooldown="1h"))
            rig = Rig(tmp_path, spec)
            server = await serve(f"unix:{tmp_path}/r", rig.replica)
            await rig.watch.turn(1_000.0)
            rig.replica.sees(1_000, shift=2.0)
            for at_s in (1_060.0, 1_120.0, 1_180.0, 1_240.0):
                await rig.watch.turn(at_s)
            await server.close()
            sent = len(got)
            assert sent == (1 if status == 204 else 3)
            assert rig.actions() == ["Drifted", "TriggerRetraining"][: 2 if status == 204 else 1]
            rig.database.close()
        headers, event = got[0]
        loaded = json.loads(event)
        assert headers == {**headers, **sign(SECRET, loaded["id"], 1_120.0, event)}
        before = hmac.new(SECRET, b"1120." + event, hashlib.sha256).hexdigest()
        assert headers["Stoker-Signature"] == f"t=1120,v1={before}"
        assert (loaded["type"], loaded["endpoint"], loaded["model"]) == ("endpoint.drifted", "default/a", "m@1")
        assert len({json.loads(each)["id"] for _, each in got}) == 1

    asyncio.run(main())


def test_address_and_secret_of_the_event_may_be_named(tmp_path: Path) -> None:
    async def main() -> None:
        async with receiver(204) as (url, got):
            trigger = Trigger(webhook_from=f"file:{tmp_path}/url", sign_with=f"file:{tmp_path}/key")
            rig = Rig(tmp_path, Drift(trigger=trigger))
            server = await serve(f"unix:{tmp_path}/r", rig.replica)
            await rig.watch.turn(1_000.0)
            rig.replica.sees(1_000, shift=2.0)
            for at_s in (1_060.0, 1_120.0):
                await rig.watch.turn(at_s)
            assert got == []  # neither can be had yet
            (tmp_path / "key").write_bytes(SECRET + b"\n")
            (tmp_path / "url").write_text("ftp://somewhere")
            await rig.watch.turn(1_180.0)
            assert got == []
            (tmp_path / "url").write_text(url + "\n")
            await rig.watch.turn(1_240.0)
            await server.close()
            entries = await rig.database.reading(lambda each: journal.last(each, 50))
            rig.database.close()
        ((headers, event),) = got
        assert headers == {**headers, **sign(SECRET, json.loads(event)["id"], 1_240.0, event)}
        assert url not in str(entries)  # who is told is said by the name of the address

    asyncio.run(main())


def test_a_command_is_one_of_the_hooks_and_reads_the_event(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        hooks = rig.folder / "hooks"
        hooks.mkdir()
        (hooks / "retrain").write_text(f"#!/bin/sh\ncat > {hooks}/got\n")
        await rig.watch.turn(1_000.0)
        rig.replica.sees(1_000, shift=2.0)
        for at_s in (1_060.0, 1_120.0):
            await rig.watch.turn(at_s)
        assert "TriggerRetraining" not in rig.actions()  # it may not be run yet
        (hooks / "retrain").chmod(0o700)
        await rig.watch.turn(1_180.0)
        assert json.loads((hooks / "got").read_bytes())["drift"]["is_drifted"]
        assert rig.actions()[-1] == "TriggerRetraining"

    run(tmp_path, Drift(trigger=Trigger(command="retrain")), body)
