"""Usage records in a journal's segments: whatever is cut or broken, those before it are whole, and none is doubled."""

from hypothesis import given
from hypothesis import strategies as st

from stoker.protocol.usage import HEAD_BYTES, Header, beginning, decode, encode, frame, read_frames, read_header
from stoker.types.usage import Charge, UsageRecord

FIRST = 41
PAYLOADS = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


def segment(payloads: list[bytes], room: int = 0) -> bytes:
    head = beginning(Header("gateway-0", "18f-ab", FIRST))
    return head + b"".join(frame(FIRST + at, each) for at, each in enumerate(payloads)) + bytes(room)


def read(data: bytes) -> tuple[list[bytes], bool]:
    head = read_header(data)
    if head is None:
        return [], bool(data.strip(b"\0"))
    frames = read_frames(data, head[1], head[0].first)
    return frames.payloads, frames.is_broken


@given(PAYLOADS, st.integers(0, 64))
def test_a_whole_segment_is_read_whole(payloads: list[bytes], room: int) -> None:
    assert read(segment(payloads, room)) == (payloads, False)


@given(PAYLOADS, st.data())
def test_records_before_a_cut_are_whole(payloads: list[bytes], data: st.DataObject) -> None:
    whole = segment(payloads)
    cut = data.draw(st.integers(0, len(whole)))
    found, _ = read(whole[:cut] + bytes(data.draw(st.sampled_from([0, 100]))))
    assert found == payloads[: len(found)]
    ends = [len(segment(payloads[:count])) for count in range(len(payloads) + 1)]
    assert len(found) >= sum(end <= cut for end in ends) - 1


@given(PAYLOADS.filter(bool), st.data())
def test_a_flipped_bit_costs_nothing_before_it_and_is_never_read(payloads: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(segment(payloads, room=32))
    at = data.draw(st.integers(0, len(whole) - 33))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    found, is_broken = read(bytes(whole))
    before = sum(len(segment(payloads[:count])) <= at for count in range(1, len(payloads) + 1))
    assert found == payloads[:before]
    assert is_broken


@given(PAYLOADS, PAYLOADS)
def test_a_frame_in_another_ones_place_is_not_read(payloads: list[bytes], others: list[bytes]) -> None:
    doubled = segment(payloads) + segment(payloads)[len(segment([])) :] + b"".join(frame(1, each) for each in others)
    assert read(doubled)[0] == payloads


def test_reads_on_from_where_it_was() -> None:
    data = segment([b"a", b"bb", b"ccc"])
    head = read_header(data)
    assert head is not None
    first = read_frames(data, head[1], FIRST, count_max=2)
    assert (first.payloads, first.offset) == ([b"a", b"bb"], head[1] + 2 * HEAD_BYTES + 3)
    assert read_frames(data, first.offset, FIRST + 2).payloads == [b"ccc"]


def test_a_record_is_what_it_was() -> None:
    record = UsageRecord(
        1_800_000_000_000, "req-1", "team", "chat", "", "team.chat-1", "k1", "acme", (("run", "7"),), "chat", 200, 4,
        1000, 500, 100, 0, 1_500_000, 900, 2000, 1, 450_000, (Charge("team", "l1", 450_000),),
    )  # fmt: skip
    assert decode(encode(record)) == record
    assert len(encode(record)) < 160
