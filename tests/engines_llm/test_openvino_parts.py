"""The pieces in front of OpenVINO's pipeline that need no model: text, grammar, memory, messages."""

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.runtime.engines.openvino_grammar import compact_grammar, refuse_unenforced
from stoker.runtime.engines.openvino_memory import BLOCK_TOKENS, Shape, plan_pool, read_shape
from stoker.runtime.engines.openvino_text import Detokenizer, KnownBlocks, StopScanner
from stoker.runtime.engines.openvino_wire import Cancel, FromChild, Piece, Step, ToChild, Wire
from stoker.types.errors import InvalidInput, Unsupported
from tests.engines_llm.support import packaged_model

SMOL = Shape(layers=30, kv_heads=3, key_size=64, value_size=64, context_tokens=8192, file_bytes=98_362_432)


def decode(tokens: list[int]) -> str:
    """Bytes as tokens; what is no whole character is dropped, as the pipeline's detokenizer does."""
    return bytes(tokens).decode("utf-8", "ignore")


@given(st.text(max_size=80))
def test_text_from_its_bytes_is_the_same_text(text: str) -> None:
    detokenizer = Detokenizer(decode)
    pieces = [detokenizer.add(byte) for byte in text.encode("utf-8", "ignore")]
    assert "".join(pieces) == text.encode("utf-8", "ignore").decode()


@given(st.text(alphabet="ab€😀", max_size=60), st.data())
def test_a_stop_text_is_found_however_the_text_is_cut(text: str, data: st.DataObject) -> None:
    stops = data.draw(st.lists(st.text(alphabet="ab€😀", min_size=1, max_size=4), max_size=3))
    scanner, shown, at = StopScanner(stops), "", 0
    while at < len(text) and not scanner.is_stopped:
        size = data.draw(st.integers(1, 5))
        shown += scanner.feed(text[at : at + size])
        at += size
    shown += "" if scanner.is_stopped else scanner.end()
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    assert shown == (text[: min(ends)[1]] if ends else text)
    assert scanner.is_stopped == bool(ends)
    assert not any(stop in shown for stop in stops)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_known_tokens_are_a_common_beginning_and_never_the_last(one: list[int], other: list[int]) -> None:
    known = KnownBlocks(block_tokens=4, blocks_max=100)
    known.add(one)
    count = known.known(other)
    assert other[:count] == one[:count]
    assert count < len(other)
    assert known.known(one) == min(len(one) // 4 * 4, len(one) - 1)


def test_the_least_recently_used_blocks_are_forgotten() -> None:
    known = KnownBlocks(block_tokens=2, blocks_max=2)
    known.add([1, 1])
    known.add([2, 2])
    assert known.known([1, 1, 9]) == 2
    known.add([3, 3])
    assert known.known([1, 1, 9]) == 2
    assert known.known([2, 2, 9]) == 0


def test_the_shape_of_a_model_is_read_from_its_header() -> None:
    assert read_shape(packaged_model()) == SMOL
    assert SMOL.block_bytes == 437_760  # as the pipeline itself said


def test_the_pool_holds_every_slot_where_the_memory_is() -> None:
    pool = plan_pool(SMOL, context=4096, slots=4, memory_bytes=2**30)
    assert pool.blocks * BLOCK_TOKENS >= 4 * 4096
    assert plan_pool(SMOL, context=None, slots=1, memory_bytes=0).context_tokens == 4096


@given(st.integers(2**28, 2**33), st.integers(64, 8192), st.integers(1, 64))
def test_the_pool_fits_the_memory_and_holds_one_request_or_is_refused(memory: int, context: int, slots: int) -> None:
    need = 300 * 2**20 + 2 * SMOL.file_bytes + (-(-context // BLOCK_TOKENS) + 1) * SMOL.block_bytes
    if memory < need:
        with pytest.raises(InvalidInput, match=r"resources\.memory"):
            plan_pool(SMOL, context=context, slots=slots, memory_bytes=memory)
        return
    pool = plan_pool(SMOL, context=context, slots=slots, memory_bytes=memory)
    assert pool.blocks * SMOL.block_bytes < memory
    assert pool.blocks * BLOCK_TOKENS > pool.context_tokens


@pytest.mark.parametrize(
    ("schema", "is_ours"),
    [
        ({"type": "object"}, True),
        ({"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}}, True),
        ({"enum": ["a", 1]}, True),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": ["null", "string"]}}}, True),
        ({"type": "integer", "minimum": 3, "maximum": 5}, True),
        ({"type": "integer", "minimum": -70000}, False),
        ({"type": "string", "pattern": "a+"}, False),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": True}, False),
        ({"anyOf": [{"type": "string"}], "type": "string"}, False),
        ({}, True),
    ],
)
def test_what_is_written_as_a_grammar_here(schema: dict[str, object], is_ours: bool) -> None:
    assert bool(compact_grammar(schema)) == is_ours


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "number", "minimum": 1}}},
        {"type": "array", "items": {"type": "integer", "multipleOf": 2}},
        {"type": "string", "pattern": "a", "maxLength": 3},
        {"allOf": [{"type": "string"}, {"minLength": 1}]},
    ],
)
def test_what_would_be_dropped_without_a_word_is_refused(schema: dict[str, object]) -> None:
    with pytest.raises(Unsupported):
        refuse_unenforced(schema, "response_format")


def test_names_and_values_that_look_like_keywords_are_no_keywords() -> None:
    names = {"multipleOf": {"type": "string"}, "pattern": {"type": "string"}, "minimum": {"type": "integer"}}
    refuse_unenforced({"type": "object", "properties": names, "default": {"multipleOf": 3}}, "x")


def test_messages_arrive_whole_in_order_and_the_end_is_seen() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        here, there = Wire(ours, FromChild), Wire(theirs, ToChild)
        big = Step([Piece(1, "x" * 3_000_000)], 0.5)
        sender = threading.Thread(target=lambda: [there.send(big), there.send(Step([], 0.0))], daemon=True)
        sender.start()
        assert here.receive() == big
        assert here.receive() == Step([], 0.0)
        sender.join(60)
        assert there.waiting() == []
        here.send(Cancel((1, 2)))
        here.send(Cancel((3,)))
        assert there.waiting() == [Cancel((1, 2)), Cancel((3,))]
        here.close()
        with pytest.raises(EOFError):
            there.receive()
