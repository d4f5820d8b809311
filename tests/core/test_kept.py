"""What is kept of a body: JSON that stays JSON, in which nothing that was planted can be read."""

import hmac
import json
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import kept
from stoker.core.pseudonyms import Pseudonyms
from stoker.core.recognise.custom import compiled

KEY = bytes(range(32))
MAX = 1 << 20
PLANTED = (
    "alice.secret@example.com", "4242424242424242", "4111 1111 1111 1111", "DE89370400440532013000", "078-05-1120",
    "+49 30 12345678", "(415) 555-0132", "203.0.113.77", "2001:db8::8a2e:370:7334", "AKIAIOSFODNN7EXAMPLE",
    "ghp_a8Xk2Lm9Qw3Er5Ty7Ui1Op4As6Df0Gh2Jk8L", "sk-proj-aB3dE5gH7jK9mN1pQ3sT5vW7", "12345678Z",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLXRoYXQtaXM", "Zm9vYmFyQmF6UXV4MTIzNDU2Nzg5MEFiQ2RFZg",
)  # fmt: skip
words = st.sampled_from(["", "hello ", "see ", "naïve ", "\n", "\\", '"', "\x00", "漢字", "🎉 ", "{", "1. ", "</s>"])
planted = st.sampled_from(PLANTED)
texts = st.tuples(words, st.sampled_from(["", " "]), planted | words, st.sampled_from([" ", "\n", ", "]), words).map(
    "".join
)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(texts | st.sampled_from(["content", "name", "data"]), inner, max_size=5)
    ),
    max_leaves=20,
)


def names() -> Pseudonyms:
    return Pseudonyms(KEY)


def spelled(value: Any) -> str:
    """Every text in `value`, as it is after JSON's escapes are undone."""
    if isinstance(value, dict):
        return "\n".join(f"{name}\n{spelled(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return "\n".join(map(spelled, value))
    return str(value)


def recognised(text: str) -> list[str]:
    """Which of the planted texts stand in `text` as words of their own."""
    return [
        secret
        for secret in PLANTED
        if f" {secret} " in f" {text} ".replace("\n", " ").replace(",", " ").replace("漢字", " ")
    ]


@given(values)
def test_what_was_planted_is_in_no_byte_of_what_is_kept(value: Any) -> None:
    found = kept.value(value, names())
    raw = json.dumps(found, ensure_ascii=False)
    for secret in recognised(spelled(value)):
        assert secret not in raw
        assert secret not in spelled(found)


@given(values)
def test_json_stays_the_json_it_was_but_for_its_texts(value: Any) -> None:
    found = kept.value(value, names())
    json.loads(json.dumps(found))

    def same_form(was: Any, now: Any) -> None:
        if isinstance(was, dict):
            assert isinstance(now, dict)
        elif isinstance(was, list):
            assert isinstance(now, list)
            assert len(was) == len(now)
            for one, other in zip(was, now, strict=True):
                same_form(one, other)
        else:
            assert was == now or isinstance(now, str)

    same_form(value, found)


@given(values)
def test_what_is_redacted_once_stays_as_it_is_when_redacted_again(value: Any) -> None:
    once = kept.value(value, names())
    assert kept.value(once, names()) == once


@given(planted, planted)
def test_a_value_has_one_name_under_one_key_and_another_under_another(one: str, other: str) -> None:
    first, again, strange = Pseudonyms(KEY), Pseudonyms(KEY), Pseudonyms(bytes(32))
    assert first.text(f"a {one} b") == again.text(f"a {one} b") != strange.text(f"a {one} b")
    assert (first.text(one) == first.text(other)) == (one == other)


@given(st.sampled_from(["email", "card", "own"]), st.text(min_size=1, max_size=80))
def test_a_name_is_the_hmac_of_kind_and_value(kind: str, value: str) -> None:
    same = value.casefold()
    if kind == "card":
        same = "".join(letter for letter in same if letter.isalnum())
    told = kind.encode() + b"\0" + same.encode("utf-8", "surrogatepass")
    digest = hmac.new(KEY, told, "sha256").hexdigest()[:12]
    name = "".join(chr(ord("g") + int(letter, 16)) for letter in digest)
    assert Pseudonyms(KEY, [compiled("own", "x")]).name(kind, value) == f"<{kind}:{name}>"


def test_each_of_several_texts_has_its_own_names_and_all_are_counted() -> None:
    named = Pseudonyms(KEY, [compiled("own", r"[a-z]+!\n\x00\n".replace("+", "{1,9}"))])
    bob, end = named.name("email", "bob@example.com"), named.name("own", "end!")
    told = [
        ("", "none"),
        ("to", "bob@example.com"),
        ("", ""),
        ("cc", "a bob@example.com b"),
        ("", "the end!"),
        ("", "c"),
    ]
    assert named.texts(told) == ["none", bob, "", f"a {bob} b", f"the {end}", "c"]
    assert named.hidden == {"email": 2, "own": 1}


def test_spelling_that_means_the_same_has_the_same_name() -> None:
    named = names()
    assert named.text("Bob@Example.com") == named.text("bob@example.com")
    assert named.text("4111 1111 1111 1111") == named.text("4111111111111111")


def test_the_name_of_a_field_says_what_its_value_is() -> None:
    body = {"ssn": "219099999", "password": "hunter22", "phone": ["4155550132"], "other": "219099999"}
    found = kept.value(body, names())
    assert found["ssn"].startswith("<id:")
    assert found["password"].startswith("<secret:")
    assert found["phone"][0].startswith("<phone:")
    assert found["other"] == "219099999"


def test_texts_of_a_tensor_are_read_and_its_numbers_stay() -> None:
    body = {
        "inputs": [
            {"name": "phone", "datatype": "BYTES", "shape": [2], "data": ["4155550132", "none"]},
            {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [[0.5, -1e30, 7.0]]},
        ]
    }
    found = kept.body(msgspec.json.encode(body), names(), bytes_max=MAX)
    assert found["inputs"][0]["data"][0].startswith("<phone:")
    assert found["inputs"][0]["data"][1] == "none"
    assert found["inputs"][1] == body["inputs"][1]


def test_a_number_that_is_a_card_becomes_a_name() -> None:
    assert kept.value({"n": 4242424242424242, "m": 4242424242424242.0, "k": 12}, names()) == {
        "n": names().name("card", "4242424242424242"),
        "m": names().name("card", "4242424242424242"),
        "k": 12,
    }


def test_raw_tensors_files_and_tokens_are_only_counted() -> None:
    head = b'{"inputs":[{"name":"x"}]}'
    secret = struct.pack("<I", 24) + b"alice.secret@example.com"
    found = kept.body(head + secret, names(), header_bytes=len(head), bytes_max=MAX)
    assert found == {"json": {"inputs": [{"name": "x"}]}, "binary_bytes": 28}
    assert kept.value({"prompt": [1, 2, 3]}, names()) == {"prompt": {"tokens": 3}}
    assert kept.value({"url": "data:image/png;base64,AAAA"}, names()) == {"url": "data:;base64,(26 characters)"}
    assert kept.value({"logprobs": {"content": [{"token": "ali"}]}}, names()) == {"logprobs": {"tokens": 1}}


@pytest.mark.parametrize(
    "data", [b"mail bob@example.com", b"", b"[" * 5000, b'{"a": "\xff"}', b'{"a": bob@example.com}']
)
def test_what_cannot_be_read_is_only_measured(data: bytes) -> None:
    assert kept.body(data, names(), bytes_max=MAX) == {"bytes": len(data), "why": "no JSON that can be read"}


def test_what_is_larger_than_allowed_is_only_measured() -> None:
    assert kept.body(b'"%b"' % (b"a" * 100), names(), bytes_max=50) == {"bytes": 102, "why": "larger than max_bytes"}


def event(text: str) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode()


@given(st.lists(st.integers(1, 12), min_size=1, max_size=20))
def test_what_a_stream_tells_in_pieces_is_recognised_as_a_whole(sizes: list[int]) -> None:
    text = "write to alice.secret@example.com or pay 4111 1111 1111 1111 today"
    pieces, at = [], 0
    for size in [*sizes, len(text)]:
        pieces.append(event(text[at : at + size]))
        at += size
    found = kept.stream(b"".join(pieces) + b"data: [DONE]\n\n", names(), is_cut=False)
    told = found["choices"][0]["content"]
    assert told == kept.value({"content": text}, names())["content"]
    assert "alice" not in json.dumps(found)


@given(st.integers(0, 4000))
def test_of_a_stream_that_was_cut_nothing_half_recognised_is_left(length: int) -> None:
    text = "filler " * 40 + "4111 1111 1111 1111 and alice.secret@example.com end. " * 8
    whole = b"".join(event(text[at : at + 3]) for at in range(0, len(text), 3))
    found = json.dumps(kept.stream(whole[: length * 4], names(), is_cut=True))
    assert "alice" not in found
    assert "4111 1111" not in found
