"""How a journal comes to control that loses answers, forgets, or is away: all of it, once, and then nothing stays."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from stoker.core.usage import new_of
from stoker.gateway.usage import shipping
from stoker.gateway.usage.shipping import Shipper
from stoker.protocol.usage import encode
from stoker.telemetry.metrics import Registry
from stoker.types.budgets import Ended
from stoker.types.usage import UsageBatch, UsageRecord
from tests.gateway.test_usage_journal import SEGMENT, Journal
from tests.store.test_usage import record
from tests.streams import serving


@dataclass
class Control:
    """Settles what comes over a Unix socket. fails: how many of the next answers are lost, after they were settled."""

    settled: dict[str, int] = field(default_factory=dict)
    records: list[UsageRecord] = field(default_factory=list)
    lost: int = 0
    fails: int = 0
    asked: int = 0
    meanwhile: Callable[[], None] = lambda: None  # while a batch is under way
    ended: list[str] = field(default_factory=list)  # incarnations whose leases of budgets are given back

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].split()[0])
        body = await reader.readexactly(size)
        if head.startswith(b"POST /internal/v1/budgets/end "):
            self.ended.append(msgspec.json.decode(body, type=Ended).holder)
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            writer.close()
            return
        batch = msgspec.msgpack.decode(body, type=UsageBatch)
        self.asked += 1
        self.meanwhile()
        new = new_of(self.settled.get(batch.incarnation, 0), batch.first, batch.lost, len(batch.records))
        self.settled[batch.incarnation] = new.until
        self.records += batch.records[new.skip :]
        self.lost += new.lost
        if self.fails:
            self.fails -= 1
        else:
            body = msgspec.json.encode({"until": new.until})
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
        writer.close()


def shipped(tmp_path: Path, work: Callable[[Control, Callable[[], Shipper]], Coroutine[Any, Any, None]]) -> Control:
    """Run `work` beside a control, with what makes a gateway's shipper; return control."""
    control, socket = Control(), tmp_path / "c.sock"

    def gateway() -> Shipper:
        registry = Registry("gateway-0")
        journal = Journal(tmp_path / "usage", "gateway-0", registry, 64 * SEGMENT, SEGMENT)
        journal.tend()
        return Shipper(journal, socket, registry)

    async def run() -> None:
        async with asyncio.timeout(20), serving(control.serve, socket):
            await work(control, gateway)

    asyncio.run(run())
    return control


def write(shipper: Shipper, count: int) -> None:
    journal = shipper.journal
    for _ in range(count):
        assert journal.append(encode(record(20 + journal.last)))


def names(control: Control) -> list[str]:
    return [each.request for each in control.records]


def wanted(count: int) -> list[str]:
    return [f"req-{20 + number}" for number in range(count)]


def folders(tmp_path: Path) -> int:
    return len(list((tmp_path / "usage").iterdir()))


def test_what_is_answered_to_nobody_is_sent_again_and_settled_once(tmp_path: Path) -> None:
    async def work(control: Control, gateway: Callable[[], Shipper]) -> None:
        one = gateway()
        write(one, 30)
        control.fails = 2
        for _ in range(3):
            await one.ship()
        write(one, 70)
        await one.ship()
        assert len(one.journal.segments) == 1  # what is settled is deleted

    control = shipped(tmp_path, work)
    assert names(control) == wanted(100)
    assert control.lost == 0


def test_batches_are_bounded(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(shipping, "BATCH_MAX", 8)

    async def work(control: Control, gateway: Callable[[], Shipper]) -> None:
        one = gateway()
        write(one, 60)
        await one.ship()
        assert control.asked >= 8

    assert names(shipped(tmp_path, work)) == wanted(60)


def test_what_comes_while_a_batch_is_under_way_waits_for_the_next_time(tmp_path: Path) -> None:
    async def work(control: Control, gateway: Callable[[], Shipper]) -> None:
        one = gateway()
        control.meanwhile = lambda: write(one, 1)
        write(one, 20)
        await one.ship()
        assert (control.asked, len(control.records)) == (1, 20)
        await one.ship()
        assert (control.asked, len(control.records)) == (2, 21)

    shipped(tmp_path, work)


def test_what_a_dead_gateway_left_is_shipped_by_the_next_and_a_living_ones_is_not(tmp_path: Path) -> None:
    async def work(control: Control, gateway: Callable[[], Shipper]) -> None:
        dead, living, heir = gateway(), gateway(), gateway()
        write(dead, 40)
        write(living, 1)
        control.fails = 1
        await dead.ship()  # settled, and it never hears of it
        write(dead, 10)
        dead.journal.close(0)
        await heir.ship()
        assert folders(tmp_path) == 2
        assert control.settled == {dead.journal.incarnation: 50}
        assert control.ended == [dead.journal.incarnation]

    assert names(shipped(tmp_path, work)) == wanted(50)


def test_a_control_that_was_set_back_gets_what_is_still_there_and_is_told_what_is_lost(tmp_path: Path) -> None:
    async def work(control: Control, gateway: Callable[[], Shipper]) -> None:
        one = gateway()
        write(one, 100)
        await one.ship()
        kept = one.journal.segments[0].first
        control.settled.clear()
        control.records.clear()
        write(one, 5)
        await one.ship()
        assert names(control) == wanted(105)[kept - 1 :]
        assert control.lost == kept - 1
        await one.ship()
        assert len(names(control)) == 106 - kept

    shipped(tmp_path, work)


def test_records_that_the_disk_broke_are_passed_over_told_and_counted(tmp_path: Path) -> None:
    registries: list[float] = []

    async def work(control: Control, gateway: Callable[[], Shipper]) -> None:
        one = gateway()
        write(one, 130)
        middle = one.journal.segments[1]
        data = bytearray(middle.path.read_bytes())
        data[300] ^= 1
        middle.path.write_bytes(data)
        one.journal.close(0)
        heir = gateway()
        await heir.ship()
        assert folders(tmp_path) == 1
        registries.append(heir.registry.snapshot().total("stoker_usage_journal_broken_total"))

    control = shipped(tmp_path, work)
    assert control.lost > 0
    assert len(names(control)) + control.lost == 130
    assert len(set(names(control))) == len(names(control))
    assert registries == [1]


def test_an_end_ships_what_is_left_and_leaves_nothing(tmp_path: Path) -> None:
    async def work(control: Control, gateway: Callable[[], Shipper]) -> None:
        one = gateway()
        task = asyncio.create_task(one.run())
        await asyncio.sleep(0)
        write(one, 5)
        task.cancel()
        await asyncio.wait([task])
        assert folders(tmp_path) == 0

    assert names(shipped(tmp_path, work)) == wanted(5)


def test_without_control_nothing_is_deleted(tmp_path: Path) -> None:
    async def work(control: Control, gateway: Callable[[], Shipper]) -> None:
        one = gateway()
        control.fails = 1 << 30
        write(one, 90)
        await one.ship()
        task = asyncio.create_task(one.run())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert folders(tmp_path) == 1
        control.fails = 0
        control.settled.clear()
        control.records.clear()
        await gateway().ship()

    assert names(shipped(tmp_path, work)) == wanted(90)
