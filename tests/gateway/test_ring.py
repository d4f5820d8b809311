"""The ring of traces: bounded by count and size, found by what is asked, and read on from where one was."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stoker.gateway.ring import ENTRY_BYTES, Ring
from stoker.types.traces import Trace, TraceAnswer, TraceQuestion


def trace(number: int, **more: Any) -> Trace:
    found: dict[str, Any] = {
        "id": f"{number:032x}", "span": "1" * 16, "request": f"req-{number}", "because": "sampled", "method": "infer",
        "endpoint": "digits", "project": "default", "status": 200, "began_at_s": float(number), "seconds": 0.1,
    }  # fmt: skip
    return Trace(**{**found, **more})


def ask(ring: Ring, **wanted: Any) -> TraceAnswer:
    return msgspec.msgpack.decode(ring.answer(TraceQuestion(**wanted)), type=TraceAnswer)


@given(st.lists(st.integers(0, 2000), max_size=60), st.integers(1, 10), st.integers(500, 6000))
def test_it_never_holds_more_than_it_may_and_always_the_newest(sizes: list[int], count: int, size_bytes: int) -> None:
    ring = Ring(count, size_bytes)
    for number, size in enumerate(sizes):
        ring.add(trace(number, state="x" * size), is_slow=False)
        assert len(ring) <= count
        assert ring.size_bytes <= size_bytes or len(ring) == 1
    held = [int(each.id, 16) for each in ask(ring, limit=100).items]
    assert held == list(range(len(sizes) - 1, len(sizes) - 1 - len(ring), -1))
    assert ring.size_bytes >= ENTRY_BYTES * len(ring)


def test_traces_are_found_by_either_id_and_by_what_they_are() -> None:
    ring = Ring()
    ring.add(trace(1), is_slow=False)
    ring.add(trace(2, status=503, endpoint="smol"), is_slow=False)
    ring.add(trace(3, served_by="small", endpoint="big"), is_slow=True)
    ring.add(trace(4, project="team"), is_slow=False)

    def numbers(**wanted: Any) -> list[int]:
        return [int(each.id, 16) for each in ask(ring, **wanted).items]

    assert numbers() == [4, 3, 2, 1]
    assert numbers(limit=2) == [4, 3]
    assert numbers(limit=-5) == []
    assert numbers(id="req-2") == numbers(id=f"{2:032x}") == numbers(is_error=True) == [2]
    assert numbers(endpoint="small") == numbers(endpoint="big") == numbers(is_slow=True) == [3]
    assert numbers(project="team") == [4]
    assert numbers(id="req-4", project="default") == []


def test_a_reader_sees_each_once_and_hears_what_it_missed() -> None:
    ring = Ring(count_max=4)
    for number in range(3):
        ring.add(trace(number), is_slow=False)
    first = ask(ring, after=0, limit=2)
    assert ([each.request for each in first.items], first.missed) == (["req-0", "req-1"], 0)
    for number in range(3, 8):
        ring.add(trace(number), is_slow=False)
    second = ask(ring, boot=first.boot, after=first.next, limit=10)
    assert [each.request for each in second.items] == ["req-4", "req-5", "req-6", "req-7"]
    assert second.missed == 2
    assert ask(ring, boot=first.boot, after=second.next).items == []
    assert len(ask(ring, boot="another start", after=second.next).items) == 4
    assert ask(ring, boot=first.boot, after=10**9).items == []
