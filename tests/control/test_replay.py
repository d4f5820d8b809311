"""Kept requests sent to two revisions of an endpoint past the gateways: who is asked, what never is."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stoker.control import replay
from stoker.control.releases import ask
from stoker.control.replay import Replay, Replayer
from stoker.core.refs import ModelRef
from stoker.observe.samples import SampleStore, Wanted
from stoker.protocol import frames, link
from stoker.protocol.frames import EndHead, Hello, RequestHead
from stoker.store import endpoints, models, projects, revisions
from stoker.store.engine import Connection, Database
from stoker.telemetry.sealing import KeyRing
from stoker.telemetry.segments import Writer
from stoker.types.errors import Busy, Conflict, InvalidInput, NotFound, StokerError, Unavailable
from stoker.types.ids import ModelName
from stoker.types.process import NodeStatus, ProcessStatus
from stoker.types.replay import Outcome, Summary
from stoker.types.replica import ReplicaStats
from stoker.types.samples import SampleRecord
from tests.databases import migrated
from tests.store import rows

OLD, NEW = "default.a-1", "default.a-2"


class Model:
    """A replica that answers every chat with one text; `running` is what it does for clients."""

    body_max_bytes = 1 << 20

    def __init__(self, text: str) -> None:
        self.text = text
        self.running = 0
        self.heads: list[RequestHead] = []
        self.asked: list[Any] = []

    def hello(self) -> Hello:
        return Hello(wire=frames.WIRE_VERSION, name="r", kind="replica", pid=os.getpid(), boot="b", state="ready")

    def stats(self) -> ReplicaStats:
        return ReplicaStats(state="ready", slots=2, running=self.running)

    def drain(self) -> None:
        raise AssertionError("nobody drains it")

    def call(self, exchange: link.Exchange) -> None:
        raise link.refuse(exchange.head.method)

    def request(self, exchange: link.Exchange) -> None:
        self.heads.append(exchange.head)
        self.asked.append(msgspec.json.decode(exchange.body))
        if exchange.head.method != "chat":
            raise InvalidInput("nothing but chats")
        usage = {"prompt_tokens": 3, "completion_tokens": len(self.text)}
        answer = {"id": str(time.time()), "choices": [{"message": {"content": self.text}}], "usage": usage}
        exchange.end(EndHead(), msgspec.json.encode(answer))


def keep(folder: Path, **changes: Any) -> None:
    """Write a sample as a gateway would."""
    now_s = time.time()
    asked = {"model": "a", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    record = SampleRecord("s", now_s, "default", "a", "chat", 200, ("drawn",), 0.1, request=asked, stream=True)
    record = msgspec.structs.replace(record, **changes)
    writer = Writer(folder / "default" / "a", f"g0-{record.id}")
    writer.append(KeyRing(folder).project("default").data, msgspec.json.encode(record), 3600, now_s)
    writer.close()


def written(connection: Connection) -> None:
    projects.put(connection, rows.project(), 1.0)
    version, _ = models.add(connection, ModelName("m"), rows.manifest(), 1.0)
    assert models.get(connection, ModelRef(ModelName("m"), number=1)) == version
    endpoints.put(connection, rows.endpoint(), 1, 1.0)
    for number in (1, 2, 3):
        revisions.add(connection, rows.revision(version, number=number))
    endpoints.set_serving(connection, "default", "a", OLD)


Body = Callable[[Replayer, Path, dict[str, Model]], Awaitable[None]]


def played(tmp_path: Path, body: Body) -> None:
    """Run `body` with two revisions that are up, and a third that is not."""

    async def main() -> None:
        engine = migrated(tmp_path / "state.db")
        database = Database(engine)
        database.write(written)
        ready = [ProcessStatus(each, "replica", "ready", labels={"revision": each}) for each in (OLD, NEW)]
        status = NodeStatus("local", 1, 2.0, 1, 1, tuple(ready))
        up = {OLD: Model("it is four."), NEW: Model("it is five.")}
        fleet = ask.Fleet(lambda: [status], lambda name: f"unix:{tmp_path / name}.sock")
        servers = [await link.serve(f"unix:{tmp_path / name}.sock", model) for name, model in up.items()]
        samples = SampleStore(tmp_path / "samples", KeyRing(tmp_path / "samples"), 1 << 30)
        try:
            await asyncio.wait_for(body(Replayer(database, samples, fleet), tmp_path / "samples", up), 40)
        finally:
            for server in servers:
                await server.close()
            database.close()

    asyncio.run(main())


async def said(replayer: Replayer, after: str, before: str = "") -> tuple[list[Outcome], Summary]:
    found = [each async for each in replayer.run("default", "a", Replay(after, Wanted(100), before))]
    assert isinstance(found[-1], Summary)
    return [each for each in found if isinstance(each, Outcome)], found[-1]


def test_a_kept_chat_is_answered_by_both_and_told_where_they_part(tmp_path: Path) -> None:
    async def body(replayer: Replayer, folder: Path, up: dict[str, Model]) -> None:
        keep(folder, id="good")
        keep(folder, id="killer", code="replica_lost", status=503)
        keep(folder, id="unkept", request=None)
        keep(folder, id="wrong", method="infer", request={"inputs": []}, stream=False)
        outcomes, numbers = await said(replayer, "2")
        assert {each.id for each in outcomes} == {"good", "wrong"}
        good = next(each for each in outcomes if each.id == "good")
        assert good.agreement is not None
        assert good.agreement.where == "choices[0].content at character 7: it is four. → it is five."
        assert (good.before.output_tokens, good.after.output_tokens) == (11, 11)
        assert (numbers.before, numbers.after, numbers.sent, numbers.equal) == (OLD, NEW, 2, 0)
        assert numbers.statuses == {"200 → 200": 1, "400 → 400": 1}
        assert sum(numbers.skipped.values()) == 2
        for model in up.values():
            assert all(head.probe for head in model.heads)  # neither drift nor predictions see it
            assert [head.alone for head in model.heads if head.method == "infer"] == [True]
            assert [asked["stream"] for asked in model.asked if "stream" in asked] == [False]

    played(tmp_path, body)


def test_clients_come_first_and_what_finds_no_room_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "ROOM_S", 0.05)

    async def body(replayer: Replayer, folder: Path, up: dict[str, Model]) -> None:
        keep(folder)
        up[NEW].running = 2
        outcomes, numbers = await said(replayer, NEW)
        assert outcomes == []
        assert numbers.skipped == {replay.NO_ROOM: 1}
        assert up[NEW].heads == []
        up[NEW].running = 1
        assert len((await said(replayer, "a-2"))[0]) == 1

    played(tmp_path, body)


def test_only_two_different_revisions_that_are_up_are_asked_and_one_replay_at_a_time(tmp_path: Path) -> None:
    async def body(replayer: Replayer, folder: Path, up: dict[str, Model]) -> None:
        keep(folder)
        refused: list[tuple[type[StokerError], str, str]] = [
            (NotFound, "9", ""),
            (NotFound, "default.b-1", ""),
            (Conflict, "1", ""),
            (Unavailable, "3", ""),
            (Unavailable, "2", "3"),
            (InvalidInput, "", ""),
        ]
        for problem, after, before in refused:
            with pytest.raises(problem):
                await said(replayer, after, before)
        first = replayer.run("default", "a", Replay("2", Wanted(100)))
        await anext(first)
        with pytest.raises(Busy):
            await said(replayer, "2")
        await first.aclose()
        assert (await said(replayer, "1", "2"))[1].before == NEW

    played(tmp_path, body)
