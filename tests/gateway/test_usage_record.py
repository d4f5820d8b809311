"""What a usage record says, and that it is in the file before its answer's last byte leaves."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from stoker.gateway.exchange import GONE, Exchange
from stoker.gateway.fleet.replica import Replica
from stoker.gateway.http.incoming import HttpRequest
from stoker.gateway.lane import Lane
from stoker.gateway.layers.usage import usage
from stoker.gateway.meters import Meters
from stoker.gateway.protocols.openai_http import OpenAIShapes
from stoker.gateway.relay import Relay
from stoker.gateway.router import Route
from stoker.gateway.usage.journal import Journal
from stoker.gateway.usage.reading import Place, Reader
from stoker.gateway.usage.record import Bill
from stoker.gateway.usage.tags import TagReader, parse
from stoker.protocol.frames import EndHead, RequestHead
from stoker.protocol.link import Receiver
from stoker.protocol.usage import decode
from stoker.telemetry.metrics import Registry
from stoker.types.errors import EngineFailed, InvalidInput, UsageJournalFull
from stoker.types.ids import EndpointName, KeyId, ProjectName, ReplicaId
from stoker.types.keys import KeyLimits
from stoker.types.prices import Card, DatedCard
from stoker.types.replica import Timings, Usage
from stoker.types.routes import EndpointRoute, KeyRoute, ReplicaRoute
from stoker.types.usage import Charge, Flag, UsageRecord

CARD = Card(input=1_000_000_000, cached=100_000_000, output=2_000_000_000, requests=0, compute=3_000_000_000)
KEY = KeyRoute("00", KeyId("k1"), ProjectName("team"), limits=KeyLimits(tenant="acme", tags={"team": "search"}))


def lane(*, card: Card | None = CARD, name: str = "chat") -> Lane:
    prices = (DatedCard(card),) if card is not None else ()
    route = EndpointRoute(ProjectName("team"), EndpointName(name), "chat", 1.0, (), prices=prices)
    return Lane(route, Meters(Registry("gateway-0"), "team", name), lambda *_: None)


class Listener:
    """A client that looks into the journal whenever an end is told to it."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.on_writable: Callable[[], None] | None = None
        self.told: list[bytes] = []
        self.written: list[int] = []
        self.is_stalled = False

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        self.written.append(self.journal.last)
        self.told += [headers, body]

    def start_stream(self, headers: bytes, first: bytes) -> None:
        self.told += [headers, first]

    def send_piece(self, data: bytes) -> None:
        self.told.append(data)

    def comment(self, data: bytes, headers: bytes = b"") -> None:
        self.told.append(data)

    def end_stream(self, last: bytes) -> None:
        self.written.append(self.journal.last)
        self.told.append(last)

    def hold(self, count: int) -> None: ...

    def abort(self) -> None: ...


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path, "gateway-0", Registry("gateway-0"), 1 << 20, 64 << 10)
    made.tend()
    return made


async def never(_: Exchange) -> None:
    raise AssertionError


class Wire:
    """A way to a replica that takes a request and says no more."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    def send(self, _receiver: Receiver, _head: RequestHead, _body: bytes = b"") -> int:
        return 1

    def forget(self, stream: int) -> None: ...

    def credit(self, stream: int, count: int) -> None: ...


async def answer(exchange: Exchange, end: EndHead) -> None:
    """Have a replica, which is gone by then, have answered."""
    assert exchange.lane is not None
    replica = Replica(ReplicaRoute(ReplicaId("r0"), "unix:/r0"), "team.chat-1", "1", exchange.lane)
    Relay(exchange, replica, Wire(), RequestHead(method="chat"), b"").end = end
    await replica.close()


def ended(tokens: Usage, timings: Timings = Timings()) -> EndHead:  # noqa: B008 - frozen
    return EndHead("application/json", usage=tokens, timings=timings)


def exchange(journal: Journal, asked: Lane, end: EndHead | None = None, **given: Any) -> Exchange:
    """Return a request, with what its replica said at the end where that is given."""
    request = HttpRequest(b"POST", b"/v1/chat/completions", {}, time.monotonic())
    made = Exchange(Listener(journal), request, Route(OpenAIShapes(), never, "chat"), "chat", "")
    made.id, made.key, made.lane, made.body = "req-1", KEY, asked, b"x" * 100
    made.deadline_s = request.started_s + 60
    made.bill = Bill(journal, asked, (("team", "search"),))
    if end is not None:
        asyncio.run(answer(made, end))
    for name, value in given.items():
        setattr(made, name, value)
    return made


def records(journal: Journal) -> list[UsageRecord]:
    segments = [Place(each.first, each.path) for each in journal.segments if each.last >= each.first]
    batch = Reader().next(segments, 100, 1 << 20)
    return [decode(each) for each in batch.payloads] if batch is not None else []


def the_record(journal: Journal) -> UsageRecord:
    (one,) = records(journal)
    return one


def test_the_record_of_a_whole_answer_is_written_before_it_leaves_and_prices_all_parts(journal: Journal) -> None:
    tokens = Usage(input_tokens=100, cached_tokens=40, output_tokens=30)
    one = exchange(journal, lane(), usage=tokens, end=ended(tokens, Timings(compute_s=0.25)), sends=1)
    one.send(200, b"", b"words")
    client = cast(Listener, one.connection)
    assert client.written == [1]
    found = the_record(journal)
    assert (found.project, found.endpoint, found.served_by, found.key, found.tenant) == (
        "team",
        "chat",
        "",
        "k1",
        "acme",
    )
    assert (found.input_tokens, found.cached_tokens, found.output_tokens) == (100, 40, 30)
    assert (found.compute_us, found.bytes_in, found.bytes_out, found.attempts, found.flags) == (250_000, 100, 5, 1, 0)
    assert found.price_nano_usd == 60 * 1000 + 40 * 100 + 30 * 2000 + 750_000_000
    assert b"x-stoker-cost: 0.750124\r\n" in client.told[0]


def test_the_record_of_a_stream_is_written_before_its_end_and_told_in_a_comment(journal: Journal) -> None:
    tokens = Usage(input_tokens=10, output_tokens=2)
    one = exchange(journal, lane(), usage=tokens, end=ended(tokens), stream=True)
    one.start(b"data: a\n\n")
    assert records(journal) == []
    one.end(b"data: [DONE]\n\n")
    client = cast(Listener, one.connection)
    assert client.written == [1]
    assert client.told[-2:] == [b": x-stoker-cost 0.000014\n\n", b"data: [DONE]\n\n"]
    assert the_record(journal).flags == Flag.STREAM


def test_an_error_costs_nothing_and_a_request_is_recorded_once(journal: Journal) -> None:
    one = exchange(journal, lane())
    one.fail(EngineFailed("it broke"))
    one.record()
    found = the_record(journal)
    assert (found.status, found.flags, found.price_nano_usd) == (500, Flag.FAILED, 0)


def test_a_stream_that_fails_costs_nothing_and_one_that_its_client_left_what_was_made(journal: Journal) -> None:
    for _ in range(2):
        one = exchange(journal, lane(), stream=True, max_tokens=5)
        assert one.bill is not None
        one.start(b"data: a\n\n")
        one.bill.pieces = 9
        if records(journal):
            one.status = GONE
            one.record()
        else:
            one.fail(EngineFailed("it broke"))
    failed, left = records(journal)
    assert (failed.price_nano_usd, failed.flags) == (0, Flag.FAILED | Flag.STREAM | Flag.ESTIMATED)
    assert left.flags == Flag.CANCELLED | Flag.STREAM | Flag.ESTIMATED
    assert left.output_tokens == 5  # never more than it allowed
    assert left.price_nano_usd == left.input_tokens * 1000 + 5 * 2000


def test_a_kept_answer_costs_its_share_of_requests(journal: Journal) -> None:
    one = exchange(journal, lane(card=Card(input=10**9, requests=10**9)))
    one.send(200, b"", b"kept")
    found = the_record(journal)
    assert (found.flags, found.price_nano_usd) == (Flag.CACHED, 10**6)


def test_who_serves_for_another_is_named_and_its_price_holds_where_the_other_has_none(journal: Journal) -> None:
    tokens = Usage(input_tokens=1)
    for asked in (lane(card=None, name="tier"), lane(card=Card(input=5 * 10**9), name="tier")):
        one = exchange(journal, asked, usage=tokens, end=ended(tokens))
        one.lane = lane(name="small")
        one.send(200, b"", b"")
    own, named = records(journal)
    assert (own.endpoint, own.served_by, own.flags, own.price_nano_usd) == ("tier", "small", Flag.MOVED, 1000)
    assert named.price_nano_usd == 5000


def test_pays_its_part_of_a_batch_and_never_more_than_its_deadline(journal: Journal) -> None:
    tokens = Usage(rows=2)
    for timings in (Timings(compute_s=0.5, batch_rows=10), Timings(compute_s=500.0, batch_rows=2)):
        one = exchange(journal, lane(), usage=tokens, end=ended(tokens, timings))
        one.send(200, b"", b"")
    assert [each.compute_us for each in records(journal)] == [100_000, 60_000_000]


def test_a_hold_on_budgets_says_who_pays(journal: Journal) -> None:
    class Half:
        def spend(self, nano_usd: int, requests: int = 0, tokens: int = 0) -> tuple[Charge, ...]:
            return (Charge("team", "l1", nano_usd),)

    tokens = Usage(input_tokens=7)
    one = exchange(journal, lane(), usage=tokens, end=ended(tokens))
    assert one.bill is not None
    one.bill.hold = Half()
    one.send(200, b"", b"")
    assert the_record(journal).charges == (Charge("team", "l1", 7000),)


def test_what_must_be_paid_is_refused_while_it_cannot_be_recorded_and_the_rest_runs(tmp_path: Path) -> None:
    registry = Registry("gateway-0")
    (tmp_path / "usage").write_text("a file where a folder should be")
    journal = Journal(tmp_path / "usage", "gateway-0", registry, 1 << 20, 64 << 10)
    journal.tend()
    layer = usage(journal, TagReader(), never)
    with pytest.raises(UsageJournalFull) as refused:
        layer(exchange(journal, lane()))
    assert (refused.value.code, refused.value.status) == ("usage_journal_full", 503)
    free = exchange(journal, lane(card=None))
    layer(free).close()
    free.send(200, b"", b"")
    assert cast(Listener, free.connection).written == [0]
    assert registry.snapshot().total("stoker_usage_records_lost_total") == 1


def test_tags_are_those_of_the_header_and_the_key_bounded() -> None:
    reader = TagReader()
    assert reader.read(KEY, b"run=7, team=me") == (("run", "7"), ("team", "search"))
    assert reader.read(KEY, b"run=7, team=me") is reader.read(KEY, b"run=7, team=me")
    assert reader.read(KEY, None) == (("team", "search"),)
    assert parse(b" a = b ,, c=") == {"a": "b", "c": ""}
    for wrong in (b"a", b"=b", b"a" * 65 + b"=b", b"a=" + b"b" * 65, b"a=\x01"):
        with pytest.raises(InvalidInput, match="is no tag"):
            parse(wrong)
    with pytest.raises(InvalidInput, match="9 tags"):
        reader.read(KEY, b",".join(b"t%d=1" % number for number in range(8)))
