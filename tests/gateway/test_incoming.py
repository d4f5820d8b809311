"""Reading requests, wherever the reads happen to end."""

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
