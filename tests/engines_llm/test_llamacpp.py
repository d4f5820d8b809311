"""What is particular to llama.cpp: the holes that are closed in front of it, and its loads that fail."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from stoker.runtime.engines import llamacpp
from stoker.runtime.engines.choices import Feed
from stoker.runtime.engines.cores import usable_cores
from stoker.runtime.engines.llamacpp import LlamaEngine
from stoker.runtime.engines.llamacpp_load import thread_count
from stoker.runtime.engines.llamacpp_request import chat_job
from stoker.runtime.engines.llamacpp_stream import RunState
from stoker.runtime.engines.port import Delta
from stoker.types.errors import EngineFailed, InvalidInput, RefusedArtifact, StokerError, Unsupported
from tests.engines_llm.support import ROOT, aclose, answer, chat, collect, completion, quiet, run, spec, until
from tests.engines_llm.test_conformance import schema_format

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"numbers": {"type": "array", "items": {"$ref": "#/$defs/N"}, "maxItems": 2}},
            "required": ["numbers"],
            "additionalProperties": False,
            "$defs": {"N": {"type": "integer", "minimum": 0, "maximum": 99}},
        },
    },
}


def schema(**keywords: Any) -> dict[str, Any]:
    return {"max_tokens": 40, "response_format": schema_format(keywords)}


def test_an_abort_frees_the_slot_at_the_next_token(llama: LlamaEngine) -> None:
    async def abort() -> tuple[float, int]:
        items = llama.generate(chat("Count to a thousand.", max_tokens=900, ignore_eos=True))
        for _ in range(3):
            await anext(items)
        assert llama.running == 1
        assert llama.kv_used_ratio() > 0
        (state,) = llama._running  # what the engine still adds after the abort is seen here only
        await aclose(items)
        start_s = time.monotonic()
        await until(lambda: llama.running == 0)
        return time.monotonic() - start_s, state.output_tokens

    spent_s, made = run(abort())
    assert made < 50
    assert spent_s < 5, f"{spent_s:.2f} s of 900 tokens after the abort"
    assert llama.kv_used_ratio() == 0


def test_an_abort_ends_a_prompt_after_the_step_that_runs(llama: LlamaEngine) -> None:
    # 7 steps of 64 tokens; the engine by itself would take them all, whoever reads.
    async def abort_at_once() -> float:
        items = llama.generate(chat("river stone cloud " * 150, max_tokens=1))
        first = asyncio.ensure_future(anext(items))
        await until(lambda: llama.kv_used_ratio() > 0)
        first.cancel()
        start_s = time.process_time()  # the engine's threads are this process's
        await until(lambda: llama.running == 0)
        return time.process_time() - start_s

    async def a_third() -> float:
        start_s = time.process_time()
        await collect(llama, chat("grass water light " * 40, max_tokens=1))
        return time.process_time() - start_s

    aborted_s, third_s = run(abort_at_once()), run(a_third())
    assert aborted_s < third_s, f"{aborted_s:.2f} s to abort a prompt of which a third takes {third_s:.2f} s"


def test_closing_the_event_loop_in_the_middle_leaves_the_engine_well(llama: LlamaEngine) -> None:
    async def leave() -> None:
        items = llama.generate(chat("Count.", max_tokens=900, ignore_eos=True))
        await anext(items)

    run(leave())
    run(until(lambda: llama.running == 0))
    assert answer(llama, chat(max_tokens=1)).final.usage.output_tokens == 1


@pytest.mark.parametrize(
    ("keywords", "where"),
    [
        ({"type": "nonsense"}, "schema.type"),
        ({"$ref": "http://example.com/schema"}, "schema.$ref"),
        ({"$ref": "#/$defs/missing"}, "schema.$ref"),
        ({"type": "object", "properties": {"a": {"not": {}}}}, "schema.properties.a.not"),
        ({"type": "array", "uniqueItems": True}, "schema.uniqueItems"),
        ({"type": "string", "minLength": 10**9}, "schema.minLength"),
        (
            {"type": "integer", "minimum": 5, "maximum": 4},
            "schema",
        ),  # well formed; only a trial shows that nothing fits
        ({"type": "string", "pattern": "(?=a)b"}, "schema"),
    ],
    ids=str,
)
def test_a_schema_that_cannot_be_enforced_is_refused_with_its_place(
    llama: LlamaEngine, keywords: dict[str, Any], where: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        answer(llama, chat(**schema(**keywords)))
    assert refused.value.field == f"response_format.json_schema.{where}"


def test_an_answer_under_a_recursive_schema_keeps_to_it_or_is_cut(llama: LlamaEngine) -> None:
    tree = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]}}}
    tree |= {"required": ["next"], "additionalProperties": False}
    got = answer(llama, chat(**schema(**{"$ref": "#/$defs/tree", "$defs": {"tree": tree}})))
    assert got.text().startswith('{"next":')
    if got.finishes == {0: "stop"}:
        assert set(json.loads(got.text())) == {"next"}


def test_json_object_is_json(llama: LlamaEngine) -> None:
    got = answer(llama, chat("A person as JSON.", max_tokens=60, seed=1, response_format={"type": "json_object"}))
    assert got.text().startswith("{")
    if got.finishes == {0: "stop"}:
        assert isinstance(json.loads(got.text()), dict)


def test_a_required_tool_is_called(llama: LlamaEngine) -> None:
    request = chat("Weather in Paris?", max_tokens=60, tools=[WEATHER, ADD], tool_choice="required", seed=2)
    got = answer(llama, request)
    name, arguments = got.call
    assert name in ("get_weather", "add")
    assert isinstance(json.loads(arguments), dict)
    assert got.text() == ""
    assert got.finishes == {0: "tool_calls"}


def test_the_named_tool_is_called_with_arguments_that_keep_to_its_schema(llama: LlamaEngine) -> None:
    choice = {"type": "function", "function": {"name": "add"}}
    got = answer(llama, chat("Weather?", max_tokens=60, tools=[WEATHER, ADD], tool_choice=choice, seed=2))
    name, arguments = got.call
    assert name == "add"
    assert all(0 <= number <= 99 for number in json.loads(arguments)["numbers"])
    first = next(item for item in got.deltas if item.tool_calls)
    assert first.tool_calls[0].id.startswith("call_")


def test_tools_left_to_the_model_give_text_or_one_whole_call(llama: LlamaEngine) -> None:
    got = answer(llama, chat("Hello!", max_tokens=40, tools=[WEATHER], seed=2))
    if got.finishes == {0: "tool_calls"}:
        assert isinstance(json.loads(got.call[1]), dict)
    else:
        assert got.text()
        assert got.call == ("", "")


def test_tools_switched_off_cost_nothing(llama: LlamaEngine) -> None:
    without = answer(llama, chat(max_tokens=1)).final.usage.input_tokens
    with_none = answer(llama, chat(max_tokens=1, tools=[WEATHER], tool_choice="none")).final.usage.input_tokens
    assert with_none == without


def test_a_conversation_with_calls_and_their_results_goes_on(llama: LlamaEngine) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}, {"type": "text", "text": "In Paris."}]},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]
    got = answer(llama, chat(max_tokens=4, messages=messages))
    assert got.final.usage.input_tokens > 30


@pytest.mark.parametrize(
    ("request_", "kind", "field"),
    [
        (chat([{"type": "image_url", "image_url": {"url": "http://x/"}}]), InvalidInput, "messages[0].content[0]"),
        (chat(top_logprobs=3), InvalidInput, "top_logprobs"),
        (chat(stop=[""]), InvalidInput, "stop"),
        (chat(logit_bias={"99999999": 1}), InvalidInput, "logit_bias"),
        (chat(logit_bias={"-1": 1}), InvalidInput, "logit_bias"),
        (chat(logit_bias={"1": 1e300}), InvalidInput, "logit_bias"),
        (chat(tool_choice="required"), InvalidInput, "tool_choice"),
        (chat(tools=[WEATHER], tool_choice={"function": {"name": "nope"}}), InvalidInput, "tool_choice"),
        (chat(tools=[{"function": {"name": 'a"b'}}]), InvalidInput, "tools[0].function.name"),
        (
            chat(tools=[{"function": {"name": "f", "parameters": {"type": "zzz"}}}]),
            InvalidInput,
            "tools[0].function.parameters.type",
        ),
        (chat(tools=[WEATHER], response_format={"type": "json_object"}), Unsupported, "response_format"),
        (chat(response_format={"type": "json_schema"}), InvalidInput, "response_format.json_schema"),
        (completion(""), InvalidInput, "prompt"),
        (completion([]), InvalidInput, "prompt"),
        (completion(["a", 1]), InvalidInput, "prompt"),
        (completion([99999999]), InvalidInput, None),
        (completion(["a"] * 20, n=16), InvalidInput, "n"),
        (completion([1, 2], echo=True), Unsupported, "echo"),
        (completion("a", echo=True, logprobs=1), Unsupported, "echo"),
    ],
    ids=lambda value: None if not isinstance(value, str) else value,
)
def test_a_hostile_or_wrong_request_is_refused_with_its_field(
    llama: LlamaEngine, request_: Any, kind: type[StokerError], field: str | None
) -> None:
    with pytest.raises(kind) as refused:
        answer(llama, request_)
    assert refused.value.field == field
    assert refused.value.status in (400, 501)


def test_many_prompts_are_answered_in_their_order_of_index(llama: LlamaEngine) -> None:
    got = answer(llama, completion(["One", "Two"], n=2, max_tokens=2, echo=True, ignore_eos=True))
    assert [got.text(index)[:3] for index in range(4)] == ["One", "One", "Two", "Two"]
    assert len(got.finishes) == 4
    assert got.final.usage.output_tokens == 8


def test_a_banned_token_does_not_come(llama: LlamaEngine) -> None:
    got = answer(llama, completion([1, 2, 3], max_tokens=3, temperature=0, logprobs=1))
    first = got.deltas[0].text
    bias = {str(token): -100 for token in range(0, 49152, 1)}
    bias.pop("30")
    only = answer(llama, completion("x", max_tokens=3, logit_bias=bias, ignore_eos=True))
    assert only.text() == "..."
    assert first


def test_half_a_character_at_the_end_is_left_out(llama: LlamaEngine) -> None:
    bias = {str(token): -100 for token in range(49152)}
    bias.pop("10813")  # the first two of a smiley's four bytes
    got = answer(llama, completion("x", max_tokens=3, logit_bias=bias, ignore_eos=True))
    assert got.text().strip("\ufffd") == ""
    assert got.final.usage.output_tokens == 3


def test_a_request_that_is_cut_short_by_its_length_may_break_its_schema(llama: LlamaEngine) -> None:
    got = answer(llama, chat(max_tokens=2, response_format=schema_format({"type": "object"}), ignore_eos=True))
    assert got.finishes == {0: "length"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda data: b"hello world " * 100, "magic"),
        (lambda data: data[:50_000_000], "not within the file bounds"),
        (lambda data: data[:1000], "exceeds remaining file size"),
        (lambda data: b"", "magic"),
        (lambda data: data[:8] + bytes(8) + data[16:2_000_000], "tensor"),  # a vocabulary without weights
    ],
    ids=["garbage", "cut short", "cut in the header", "empty", "vocabulary only"],
)
def test_a_file_that_cannot_be_loaded_says_why(gguf: Path, tmp_path: Path, make: Any, words: str) -> None:
    bad = tmp_path / "bad.gguf"
    with gguf.open("rb") as file:
        bad.write_bytes(make(file.read(60_000_000)))
    with pytest.raises(RefusedArtifact, match=words) as refused:
        llamacpp.load(spec("llamacpp", gguf=bad), quiet)
    assert "bad.gguf" in refused.value.message


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"contxt": 5}, "options"),
        ({"context": "many"}, "options.context"),
        ({"slots": 0}, "options.slots"),
        ({"context": 8193}, "options.context"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_refused(gguf: Path, options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        llamacpp.load(spec("llamacpp", gguf=gguf, **{"slots": 1, **options}), quiet)
    assert refused.value.field == field


def test_embeddings_are_refused_with_a_hint(gguf: Path) -> None:
    with pytest.raises(Unsupported, match="ONNX"):
        llamacpp.load(spec("llamacpp", gguf=gguf, task="embed"), quiet)


def test_one_core_is_left_free_unless_threads_are_asked_for() -> None:
    assert thread_count(None, 8, 4) == 3
    assert thread_count(None, 2, 8) == 2
    assert thread_count(None, 0.5, 1) == 1
    assert thread_count(4, 1, 1) == 4
    assert 0 < usable_cores() <= 1024


ALONE = """
import asyncio, os
from pathlib import Path
os.environ.pop("GOMP_SPINCOUNT", None)
os.environ["OMP_DISPLAY_ENV"] = "VERBOSE"
from stoker.runtime.engines import llamacpp
from stoker.runtime.engines.choices import Feed
from tests.engines_llm.support import chat, packaged_model, run, spec, until
engine = llamacpp.load(spec("llamacpp", gguf=packaged_model(), context=256, slots=2), lambda *_: None)
listening = [line.split() for line in Path("/proc/net/unix").read_text().splitlines() if "engine.sock" in line]
assert listening
assert not any(Path(fields[-1]).exists() for fields in listening), listening
async def closed_in_the_middle():
    items = [engine.generate(chat("Count.", max_tokens=200, ignore_eos=True)) for _ in range(4)]
    waiting = [asyncio.ensure_future(one(item)) for item in items]
    await until(lambda: engine.running == 2)
    await asyncio.to_thread(engine.close)
    return await asyncio.gather(*waiting, return_exceptions=True)
async def one(items):
    return [item async for item in items]
print([type(end).__name__ for end in run(closed_in_the_middle())])
"""


def test_a_process_of_its_own_bounds_the_spin_hides_the_socket_and_closes_in_the_middle() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=110, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "GOMP_SPINCOUNT = '10000'" in done.stderr
    assert done.stdout.strip() == str(["EngineFailed"] * 4)


def test_a_model_is_loaded_however_deep_the_folder_of_its_replica_lies(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    llamacpp.load(spec("llamacpp", gguf=gguf, context=256, slots=1), quiet).close()
    assert list(deep.iterdir()) == []


def test_an_answer_against_its_schema_is_an_error_not_an_answer() -> None:
    # Recorded chunks of an engine that ignored its grammar, as it does for one it cannot compile.
    chunks = [
        b'{"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}]}',
        b'{"choices":[{"finish_reason":null,"index":0,"delta":{"content":"Hello"}}]}',
        b'{"choices":[{"finish_reason":"stop","index":0,"delta":{}}]}',
        b'{"choices":[],"usage":{"completion_tokens":2,"prompt_tokens":9},"timings":{"prompt_ms":1,"predicted_ms":1}}',
    ]

    async def read() -> None:
        job = chat_job(chat(response_format=schema_format({"type": "object"})), 100)
        state = RunState(job.runs[0], job, Feed(asyncio.get_running_loop()), "call")
        assert [item for chunk in chunks for item in state.read(chunk)] == [Delta(0, "Hello")]
        state.close()

    with pytest.raises(EngineFailed, match="does not keep to the schema: it is not JSON"):
        run(read())
