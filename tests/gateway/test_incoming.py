"""Reading requests, wherever the reads happen to end."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.gateway.http.incoming import HEAD_MAX_BYTES, HttpRequest, Incoming, Phase
from stoker.types.errors import StokerError

ONE = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


class Recorder:
    """Takes what is read (incoming.Owner)."""

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []
        self.problems: list[StokerError] = []

    def take(self, request: HttpRequest) -> None:
        self.requests.append(request)

    def refuse(self, problem: StokerError) -> None:
        self.problems.append(problem)

    def say_continue(self) -> None: ...

    def body_limit(self, request: HttpRequest) -> int:
        return 1 << 20

    def reserve(self, count: int) -> bool:
        return True

    def now_s(self) -> float:
        return 0.0


def read(data: bytes, cuts: list[int]) -> Recorder:
    """Read `data` in pieces that end at `cuts`."""
    owner = Recorder()
    incoming = Incoming(owner)
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        if begin < end:
            incoming.feed(data[begin:end])
    return owner


@settings(max_examples=25)  # 108 KB each
@given(st.lists(st.integers(1, 3000 * len(ONE) - 1), max_size=4).map(sorted))
def test_pipelined_requests_are_all_read_wherever_a_read_ends(cuts: list[int]) -> None:
    owner = read(ONE * 3000, cuts)
    assert owner.problems == []
    assert len(owner.requests) == 3000


@given(st.integers(20_000, 60_000), st.integers(1, len(ONE) - 1))
def test_a_head_that_begins_behind_a_body_is_not_charged_for_it(size: int, into: int) -> None:
    post = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (size, b"x" * size)
    owner = read(post + ONE, [len(post) + into])
    assert owner.problems == []
    assert len(owner.requests) == 2


@pytest.mark.parametrize("before", [b"", ONE * 10])
def test_a_head_without_end_is_refused_after_its_limit_and_one_read(before: bytes) -> None:
    owner = Recorder()
    incoming = Incoming(owner)
    incoming.feed(before + b"GET / HTTP/1.1\r\nx-long: ")
    fed = 0
    while not owner.problems:
        incoming.feed(b"y" * 1000)
        fed += 1000
        assert fed <= HEAD_MAX_BYTES + 1000
    assert incoming.phase is Phase.HEAD
    assert owner.problems[0].status == 413


HEAD = (
    b"POST /v1/%b HTTP/1.1\r\nHost: x\r\n%bContent-Type: application/json\r\nContent-Length: %b\r\n"
    b"Authorization: Bearer %b\r\n\r\n"
)
MORE = [b"", b"Connection: keep-alive\r\n", b"X-Request-Id: 1\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n", b"X-Note: a\r\n"]  # fmt: skip
LENGTHS = [b"%d", b"00%d", b"+%d", b"-%d", b"%dx", b"%d ", b"\t%d", b"%d\r", b"%d\r\nX-A: b", b""]
GOOD = (b"chat", b"", 4, b"%d", b"one", 0)
OTHERS = (
    st.just(b"embeddings"), st.sampled_from(MORE), st.integers(0, 12), st.sampled_from(LENGTHS), st.just(b"two"),
    st.sampled_from([-1, 1]),
)  # fmt: skip


@st.composite
def alike(draw: st.DrawFn) -> list[tuple[object, ...]]:
    """Return requests that differ from each other in one thing or two, if in any."""
    base = list(GOOD)
    base[1] = draw(st.sampled_from(MORE[:4]))
    made = []
    for _ in range(draw(st.integers(2, 5))):
        one = list(base)
        for at in draw(st.sets(st.integers(0, 5), max_size=2)):
            one[at] = draw(OTHERS[at])
        made.append(tuple(one))
    return made


def post(path: bytes, more: bytes, size: int, form: bytes, key: bytes, over: int) -> bytes:
    """Return a request, most of them good, whose body is `over` bytes longer than it says."""
    length = form % size if b"%d" in form else form
    return HEAD % (path, more, length, key) + b"GET "[: max(size + over, 0)].ljust(max(size + over, 0), b"x")


def seen(owner: Recorder) -> list[tuple[object, ...]]:
    """Return all that is read of requests but the length, which nobody asks for once the body is here."""
    return [
        (
            one.method,
            one.path,
            {name: value for name, value in one.headers.items() if name != b"content-length"},
            one.body,
            one.keep_alive,
        )
        for one in owner.requests
    ]


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Return `data` cut."""
    ends = [min(cut, len(data)) for cut in cuts]
    return [data[begin:end] for begin, end in zip([0, *ends], [*ends, len(data)], strict=True) if begin < end]


@settings(max_examples=400)
@given(alike(), st.lists(st.integers(1, 200), max_size=2).map(sorted), st.booleans())
def test_what_a_known_head_begins_is_read_as_the_parser_reads_it(
    asked: list[tuple[Any, ...]], cuts: list[int], together: bool
) -> None:
    first, *said = (post(*one) for one in asked)
    reads = [first, *([b"".join(said)] if together else [piece for one in said for piece in pieces(one, cuts)])]
    known, plain = Keeper(), Keeper()
    knowing, parsing = Incoming(known), Incoming(plain)
    known.incoming, plain.incoming = knowing, parsing
    for piece in reads:
        knowing.feed(piece)
        parsing._known = None  # it has never heard the head
        parsing.feed(piece)
        assert (knowing.phase, knowing.received) == (parsing.phase, parsing.received) or knowing.phase is Phase.IDLE
    assert seen(known) == seen(plain)
    assert [one.status for one in known.problems] == [one.status for one in plain.problems]
    assert known.continues == plain.continues


class Keeper(Recorder):
    """One that stops reading when it refuses, as a connection does."""

    incoming: Incoming
    continues = 0

    def say_continue(self) -> None:
        self.continues += 1

    def refuse(self, problem: StokerError) -> None:
        super().refuse(problem)
        self.incoming.deafen()


def test_a_head_that_is_said_again_is_known_and_one_that_changes_each_time_is_not_kept() -> None:
    owner = Recorder()
    incoming = Incoming(owner)
    good = post(b"chat", b"Connection: keep-alive\r\n", 4, b"%d", b"one", 0)
    incoming.feed(good)
    first = incoming._known
    assert first is not None
    for size in (0, 4, 11):
        incoming.feed(post(b"chat", b"Connection: keep-alive\r\n", size, b"%d", b"one", 0))
        assert incoming._known is first
    assert [len(one.body) for one in owner.requests] == [4, 0, 4, 11]
    for number in range(10):
        incoming.feed(post(b"chat", b"X-Request-Id: %d\r\n" % number, 4, b"%d", b"one", 0))
    assert incoming._known is None
    assert owner.problems == []
    assert len(owner.requests) == 14


def test_a_header_that_is_read_from_now_on_is_read_of_a_known_head_too() -> None:
    owner, more = Recorder(), set[bytes]()
    incoming = Incoming(owner, more)
    said = post(b"chat", b"X-Note: a\r\n", 4, b"%d", b"one", 0)
    incoming.feed(said)
    more.add(b"x-note")
    incoming.feed(said)
    incoming.feed(said)
    more.clear()
    incoming.feed(said)
    assert [b"x-note" in one.headers for one in owner.requests] == [False, True, True, False]
