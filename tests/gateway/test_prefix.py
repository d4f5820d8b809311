"""What identifies the beginning of a prompt, and whose session a request is."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.gateway.protocols import prefix
from stoker.protocol.openai import decode_chat, decode_completion

texts = st.text(max_size=600)
messages = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), texts), min_size=1, max_size=8)


def body(talk: list[tuple[str, Any]], **more: Any) -> bytes:
    told = [{"role": role, "content": content} for role, content in talk]
    return json.dumps({"model": "m", "messages": told, **more}).encode()


def exchange(**headers: str) -> Any:
    given_ = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return SimpleNamespace(request=SimpleNamespace(headers=given_))


def blocks(talk: list[tuple[str, Any]], **more: Any) -> list[int]:
    return prefix.of_chat(exchange(), decode_chat(body(talk, **more)), with_prefix=True).blocks


@settings(max_examples=40)
@given(messages, messages)
def test_a_conversation_that_goes_on_begins_with_the_same_blocks(
    talk: list[tuple[str, str]], rest: list[tuple[str, str]]
) -> None:
    before, after = blocks(talk), blocks([*talk, *rest])
    assert after[: len(before)] == before
    assert len(after) <= prefix.PROMPT_MAX_BYTES // prefix.BLOCK_BYTES


def test_another_beginning_has_no_block_in_common() -> None:
    tail = [("user", "x" * 5000)]
    one, other = blocks([("system", "a"), *tail]), blocks([("system", "b"), *tail])
    assert len(one) > 10
    assert not set(one) & set(other)


@pytest.mark.parametrize(
    "change",
    [
        {"talk": [("assistant", "y" * 600)]},
        {"talk": [("user", [{"type": "text", "text": "y" * 600}])]},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
    ],
)
def test_roles_parts_and_tools_are_part_of_the_prompt(change: dict[str, Any]) -> None:
    plain = blocks([("user", "y" * 600)])
    assert plain
    talk = change.pop("talk", [("user", "y" * 600)])
    assert not set(plain) & set(blocks(talk, **change))


def test_a_huge_prompt_is_read_to_its_bound() -> None:
    found = blocks([("user", "z" * 300_000), ("user", "w" * 300_000)])
    assert len(found) == prefix.PROMPT_MAX_BYTES // prefix.BLOCK_BYTES
    assert len(set(found)) == len(found)


def test_the_header_names_the_session_before_the_body_does_and_a_session_needs_no_blocks() -> None:
    def session(raw: bytes, **headers: str) -> int:
        wish = prefix.of_chat(exchange(**headers), decode_chat(raw), with_prefix=True)
        assert bool(wish.blocks) == (not wish.session)
        return wish.session

    talk = [("user", "y" * 600)]
    by_header = session(body(talk), x_session_id="s")
    assert by_header == session(body(talk, user="u", prompt_cache_key="k"), x_session_id="s") != 0
    assert session(body(talk, prompt_cache_key="k", user="u")) == session(body(talk, user="k")) != by_header
    assert session(body(talk)) == session(body(talk), x_session_id="") == 0
    assert prefix.of_session(exchange()) is None


@pytest.mark.parametrize("prompt", ["p" * 600, ["p" * 600], list(range(600)), [list(range(600))]])
def test_completions_have_prompts_of_every_kind(prompt: Any) -> None:
    request = decode_completion(json.dumps({"model": "m", "prompt": prompt, "max_tokens": 5}).encode())
    wish = prefix.of_completion(exchange(), request, with_prefix=True)
    assert len(wish.blocks) >= 2
    assert prefix.of_completion(exchange(), request, with_prefix=False).blocks == []
