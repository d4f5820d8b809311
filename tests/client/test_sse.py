"""Events come out whole however the bytes were cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.client.sse import EVENT_BYTES_MAX, events
from stoker.types.errors import NotReachable

STREAM = b': ping\n\ndata: {"a":1}\n\ndata: {"b":2}\r\n\r\nevent: error\ndata:{"c":3}\n\ndata: [DONE]\n\ndata: late\n\n'


@given(st.lists(st.integers(min_value=0, max_value=len(STREAM)), max_size=20))
def test_the_cuts_between_reads_do_not_matter(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(edges)]
    said: list[str] = []
    assert list(events(pieces, said.append)) == [b'{"a":1}', b'{"b":2}', b'{"c":3}']
    assert said == ["ping"]


def test_a_stream_without_its_last_blank_line_still_gives_the_last_event() -> None:
    assert list(events([b"data: x\n"])) == [b"x"]


def test_an_event_without_end_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(NotReachable):
        list(events([b"data: "] + [b"x" * 2**20] * (EVENT_BYTES_MAX // 2**20 + 1)))
