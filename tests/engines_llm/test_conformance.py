"""What every language-model engine must do, run over each adapter."""

import asyncio
import json
import time

import pytest

from stoker.runtime.engines.openvino import OpenvinoEngine
from stoker.runtime.engines.port import Delta, Final, Finish, GenerateEngine
from stoker.types.errors import InvalidInput, Unsupported
from tests.engines_llm.support import aclose, answer, chat, collect, completion, run

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


def schema_format(schema: object) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def test_an_answer_is_deltas_then_a_finish_then_one_final(engine: GenerateEngine) -> None:
    got = answer(engine, chat(max_tokens=8, temperature=0))
    kinds = [type(item) for item in got.items]
    assert kinds[-2:] == [Finish, Final]
    assert set(kinds[:-2]) == {Delta}
    assert got.text()


def test_usage_adds_up(engine: GenerateEngine) -> None:
    got = answer(engine, chat(max_tokens=8, temperature=0, ignore_eos=True))
    assert got.final.usage.output_tokens == 8
    assert 1 <= sum(item.tokens for item in got.deltas) <= 8
    assert got.final.usage.input_tokens > 4
    assert got.finishes == {0: "length"}


def test_the_time_is_split_into_prompt_and_answer(engine: GenerateEngine) -> None:
    got = answer(engine, chat("Name three colours.", max_tokens=4))
    assert got.final.prefill_s > 0
    assert got.final.decode_s > 0


def test_a_seed_makes_an_answer_again(engine: GenerateEngine) -> None:
    request = chat("Tell me a secret.", max_tokens=12, temperature=1.5, seed=7)
    answer(engine, request)  # afterwards the prompt is known, and every run computes the same
    assert answer(engine, request).text() == answer(engine, request).text()


def test_a_known_prefix_is_not_computed_again(engine: GenerateEngine) -> None:
    request = chat("Remember this prefix, word for word, for later. " * 4, max_tokens=2, temperature=0)
    answer(engine, request)
    usage = answer(engine, request).final.usage
    assert usage.cached_tokens >= usage.input_tokens // 2


def test_text_stops_before_a_stop_text(engine: GenerateEngine) -> None:
    whole = answer(engine, completion(max_tokens=12, temperature=0)).text()
    stop = whole[4:8]
    got = answer(engine, completion(max_tokens=12, temperature=0, stop=[stop]))
    assert stop not in got.text()
    assert got.finishes == {0: "stop"}


def test_each_choice_comes_whole(engine: GenerateEngine) -> None:
    got = answer(engine, chat(max_tokens=4, n=3, seed=1, temperature=1.0, ignore_eos=True))
    assert got.finishes == {0: "length", 1: "length", 2: "length"}
    assert all(got.text(index) for index in range(3))


def test_a_prompt_is_counted_once_for_all_its_choices(llama: GenerateEngine) -> None:
    one = answer(llama, chat("Once.", max_tokens=2, ignore_eos=True)).final.usage
    two = answer(llama, chat("Once.", max_tokens=2, n=2, ignore_eos=True)).final.usage
    assert two.input_tokens == one.input_tokens
    assert two.output_tokens == 4


def test_log_probabilities_come_with_each_token(engine: GenerateEngine) -> None:
    got = answer(engine, chat(max_tokens=4, temperature=0, logprobs=True))
    tokens = [token for item in got.deltas for token in item.logprobs]
    assert "".join(token.token for token in tokens) == got.text()
    assert all(token.logprob < 0 for token in tokens)


def test_log_probabilities_come_with_their_alternatives_or_are_refused(engine: GenerateEngine) -> None:
    request = chat(max_tokens=4, temperature=0, logprobs=True, top_logprobs=2)
    if isinstance(engine, OpenvinoEngine):
        with pytest.raises(Unsupported, match="llamacpp"):
            answer(engine, request)
        return
    got = answer(engine, request)
    tokens = [token for item in got.deltas for token in item.logprobs]
    assert "".join(token.token for token in tokens) == got.text()
    for token in tokens:
        assert token.logprob <= 0
        assert len(token.top) == 2
        assert token.top[0][1] >= token.top[1][1]


def test_no_log_probabilities_come_unasked(engine: GenerateEngine) -> None:
    assert not any(item.logprobs for item in answer(engine, chat(max_tokens=3)).deltas)


def test_an_answer_keeps_to_a_schema(engine: GenerateEngine) -> None:
    got = answer(engine, chat("A person.", max_tokens=60, seed=3, response_format=schema_format(PERSON)))
    assert got.finishes == {0: "stop"}
    value = json.loads(got.text())
    assert set(value) == {"name", "age"}
    assert isinstance(value["age"], int)


def test_a_prompt_over_the_context_is_refused_with_the_numbers(engine: GenerateEngine) -> None:
    with pytest.raises(InvalidInput, match="1024") as refused:
        answer(engine, chat("word " * 1500))
    assert "1531" in refused.value.message or "15" in refused.value.message


def test_a_failed_request_leaves_the_engine_well(engine: GenerateEngine) -> None:
    with pytest.raises(InvalidInput):
        answer(engine, chat("word " * 1500))
    assert answer(engine, chat(max_tokens=2)).final.usage.output_tokens == 2


def test_text_is_never_cut_inside_a_character(engine: GenerateEngine) -> None:
    # Three tokens make one of these; each delta must hold whole ones.
    got = answer(engine, completion("😀😀😀😀😀😀😀😀😀😀", max_tokens=12, temperature=0))
    assert not got.text().isascii(), got.text()
    assert "\ufffd" not in got.text()


def test_sixteen_at_once_are_all_answered(engine: GenerateEngine) -> None:
    async def together() -> None:
        requests = [chat(f"Number {n}.", max_tokens=4, ignore_eos=True) for n in range(16)]
        for got in await asyncio.gather(*(collect(engine, request) for request in requests)):
            assert got.final.usage.output_tokens == 4
            assert got.finishes == {0: "length"}

    run(together())


def test_items_come_as_they_are_made(engine: GenerateEngine) -> None:
    async def gaps() -> int:
        """Return how many items came a moment after the one before; a busy reader has to look at more of them."""
        now_s, found = time.monotonic(), 0
        items = engine.generate(chat("Count to a hundred.", max_tokens=200, ignore_eos=True))
        async for _ in items:
            before_s, now_s = now_s, time.monotonic()
            found += now_s - before_s > 0.001
            if found > 5:
                break
        await aclose(items)
        return found

    assert run(gaps()) > 5  # not all in one lump at the end


def test_closing_before_the_first_step_does_nothing(engine: GenerateEngine) -> None:
    async def close() -> None:
        items = engine.generate(chat())
        await aclose(items)
        assert [item async for item in items] == []

    run(close())


def test_closing_in_the_middle_ends_the_items(engine: GenerateEngine) -> None:
    async def close() -> None:
        items = engine.generate(chat("Count to a thousand.", max_tokens=500, ignore_eos=True))
        await anext(items)
        await aclose(items)
        assert [item async for item in items] == []

    run(close())
    assert answer(engine, chat(max_tokens=1)).final.usage.output_tokens == 1
