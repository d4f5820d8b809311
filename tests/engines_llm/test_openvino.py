"""What is particular to OpenVINO: a pipeline in a process of its own, and what is put in front of it."""

import asyncio
import json
import os
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from stoker.runtime.engines import openvino
from stoker.runtime.engines.openvino import OpenvinoEngine
from stoker.runtime.engines.port import Delta
from stoker.types.errors import EngineFailed, InvalidInput, RefusedArtifact, StokerError, Unsupported
from tests.engines_llm.support import aclose, answer, chat, collect, completion, quiet, run, spec, until
from tests.engines_llm.test_conformance import schema_format
from tests.engines_llm.test_llamacpp import ADD, WEATHER

BROKEN = {"type": "object", "properties": {"a": {"type": "string", "pattern": "((("}}, "required": ["a"]}
LONG = "river stone cloud " * 150


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_schema_that_does_not_compile_fails_its_own_request_only(vino: OpenvinoEngine) -> None:
    async def among_others() -> None:
        requests = [chat(f"Story {n}.", max_tokens=24, temperature=0, ignore_eos=True) for n in range(2)]
        alone = [(await collect(vino, request)).text() for request in requests]
        others = [asyncio.create_task(collect(vino, request)) for request in requests]
        await until(lambda: vino.running == 2)
        with pytest.raises(InvalidInput, match="cannot enforce this schema"):
            await collect(vino, chat(max_tokens=4, response_format=schema_format(BROKEN)))
        together = [(await other).text() for other in others]
        # Not the same to the last token: what runs together is rounded differently.
        assert [text[:8] for text in together] == [text[:8] for text in alone]

    run(among_others())


def test_an_abort_frees_the_slot_at_the_next_step(vino: OpenvinoEngine) -> None:
    async def abort() -> float:
        items = vino.generate(chat("Count to a thousand.", max_tokens=900, ignore_eos=True))
        for _ in range(3):
            await anext(items)
        assert vino.kv_used_ratio() > 0
        await aclose(items)
        start_s = time.monotonic()
        await until(lambda: vino.running == 0)
        return time.monotonic() - start_s

    assert run(abort()) < 2
    assert vino.kv_used_ratio() == 0


def test_an_abort_ends_a_prompt_after_the_step_that_runs(vino: OpenvinoEngine) -> None:
    def spent_s() -> float:
        times = psutil.Process(vino.pid).cpu_times()
        return float(times.user + times.system)

    async def abort() -> tuple[float, float]:
        start_s = spent_s()
        await collect(vino, chat("grass water light " * 150, max_tokens=1))
        whole_s = spent_s() - start_s
        first = asyncio.ensure_future(anext(vino.generate(chat(LONG, max_tokens=1))))
        await until(lambda: vino.running == 1)
        first.cancel()
        start_s = spent_s()
        await until(lambda: vino.running == 0)
        return spent_s() - start_s, whole_s

    aborted_s, whole_s = run(abort())
    assert aborted_s < whole_s / 2, f"{aborted_s:.2f} s to abort a prompt of {whole_s:.2f} s"


def test_an_aborted_request_takes_no_part_in_what_comes_after(vino: OpenvinoEngine) -> None:
    async def used_after_an_abort() -> float:
        aborted = vino.generate(chat("wall roof door " * 200, max_tokens=300, ignore_eos=True))
        await anext(aborted)
        long = vino.kv_used_ratio()
        await aclose(aborted)
        short = [vino.kv_used_ratio() async for _ in vino.generate(chat("Short.", max_tokens=8, ignore_eos=True))]
        return short[-1] / long  # the first step after an abort still has it

    assert run(used_after_an_abort()) < 0.5


@pytest.mark.alone
def test_a_long_prompt_does_not_freeze_the_streams(vino: OpenvinoEngine) -> None:
    seen = [0, 0, 0]

    stamps: list[list[float]] = [[], [], []]

    async def read(number: int) -> None:
        items = vino.generate(chat(f"{number}. Tell a long story.", max_tokens=200, ignore_eos=True))
        try:
            async for item in items:
                seen[number] += isinstance(item, Delta)
                stamps[number].append(time.monotonic())
        finally:
            await aclose(items)

    async def meanwhile() -> list[int]:
        """Return how much of each stream came while a prompt of a dozen steps was read."""
        streams = [asyncio.create_task(read(number)) for number in range(3)]
        await until(lambda: min(seen) > 0)
        before = list(seen)
        await collect(vino, chat("tree bridge window " * 250, max_tokens=1))
        came = [after - earlier for earlier, after in zip(before, seen, strict=True)]
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        await until(lambda: vino.running == 0)
        return came

    came = run(meanwhile())
    assert min(came) >= 8, came
    assert max(later - earlier for each in stamps for earlier, later in pairwise(each)) <= 1.5


def test_a_prompt_that_was_computed_is_shared_by_all_that_follow(vino: OpenvinoEngine) -> None:
    async def three_at_once() -> list[int]:
        request = chat("One prompt for many. " * 20, max_tokens=2)
        await collect(vino, request)
        answers = await asyncio.gather(*(collect(vino, request) for _ in range(3)))
        return [got.final.usage.cached_tokens for got in answers]

    cached = run(three_at_once())
    assert min(cached) >= 96, cached


def test_choices_without_a_seed_differ(vino: OpenvinoEngine) -> None:
    got = answer(vino, chat("Invent a word.", max_tokens=12, n=4, temperature=1.5))
    assert len({got.text(index) for index in range(4)}) > 1


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (chat(logit_bias={"5": 1.0}), "logit_bias"),
        (completion(logprobs=2), "logprobs"),
        (chat(response_format=schema_format({"type": "number", "multipleOf": 3})), "multipleOf"),
        (chat(response_format=schema_format({"allOf": [{"type": "string"}, {"type": "integer"}]})), "allOf"),
        (completion([1, 2], echo=True), "echo"),
    ],
)
def test_what_it_cannot_do_is_refused_in_words(vino: OpenvinoEngine, request_: Any, words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        answer(vino, request_)


def test_token_ids_outside_the_vocabulary_are_refused(vino: OpenvinoEngine) -> None:
    with pytest.raises(InvalidInput, match="49151"):
        answer(vino, completion([5, 49152], max_tokens=1))
    assert answer(vino, completion([5, 6], max_tokens=1)).final.usage.input_tokens == 2


def test_a_text_far_too_long_is_refused_before_it_is_read(vino: OpenvinoEngine) -> None:
    start_s = time.process_time()
    with pytest.raises(InvalidInput, match="context_length_exceeded"):
        answer(vino, chat("x" * 20_000_000))
    assert time.process_time() - start_s < 2


def test_required_tools_are_called_and_optional_ones_may_be(vino: OpenvinoEngine) -> None:
    got = answer(vino, chat("Weather in Paris?", tools=[WEATHER], tool_choice="required", max_tokens=60, seed=1))
    assert got.call[0] == "get_weather"
    assert set(json.loads(got.call[1])) == {"city"}
    assert got.finishes == {0: "tool_calls"}
    got = answer(vino, chat("Add 1 and 2.", tools=[WEATHER, ADD], tool_choice="auto", max_tokens=60, seed=1))
    assert bool(got.call[0]) != bool(got.text())
    named = {"type": "function", "function": {"name": "add"}}
    got = answer(vino, chat("1, 2", tools=[WEATHER, ADD], tool_choice=named, max_tokens=60, seed=2))
    assert got.call[0] == "add"
    assert len(json.loads(got.call[1])["numbers"]) <= 2


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 9}, "minItems": 2, "maxItems": 4},
        {"enum": ["red", 'a "quoted" one', 3, None]},
        {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}}, "required": ["b"]},
        {"$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/p"}]}, "p": {"const": 1}}},
        {"type": "object", "properties": {"d": {"type": "string", "format": "date"}}, "required": ["d"]},
        {"type": "integer", "minimum": -5, "maximum": 3000},
    ],
    ids=lambda schema: json.dumps(schema)[:40],
)
def test_answers_keep_to_schemas_of_every_kind(vino: OpenvinoEngine, schema: dict[str, Any]) -> None:
    got = answer(vino, chat("Answer.", max_tokens=120, seed=5, response_format=schema_format(schema)))
    assert got.finishes == {0: "stop"}, got.text()
    json.loads(got.text())  # that it keeps to the schema is compared by the engine itself


def loading(gguf: Path, **options: Any) -> OpenvinoEngine:
    memory = options.pop("memory_bytes", 0)
    wanted = spec("openvino", gguf=gguf, **options)
    return openvino.load(type(wanted)(**{**as_dict(wanted), "memory_bytes": memory}), quiet)


def as_dict(wanted: Any) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in wanted.__struct_fields__}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"context": 100_000}, InvalidInput, "trained with 8192"),
        ({"memory_bytes": 400 * 2**20}, InvalidInput, "raise resources.memory"),
        ({"cache_type": "f16"}, InvalidInput, "batch_tokens"),
    ],
)
def test_a_load_that_cannot_work_says_why(
    gguf: Path, options: dict[str, Any], error: type[StokerError], words: str
) -> None:
    with pytest.raises(error, match=words):
        loading(gguf, **options)


@pytest.mark.parametrize("content", [b"", b"GGUF" + bytes(64), b"no model at all" * 10])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(RefusedArtifact):
        loading(path)


def test_the_death_of_its_process_fails_what_runs_with_its_words(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    engine = loading(gguf, context=256, slots=2)
    monkeypatch.setattr(os, "kill", lambda *what: told.append(what))

    async def die() -> None:
        items = engine.generate(chat("Count.", max_tokens=200, ignore_eos=True))
        await anext(items)
        signal.pidfd_send_signal(os.pidfd_open(engine.pid), signal.SIGKILL)
        with pytest.raises(EngineFailed, match="ended with code -9"):
            async for _ in items:
                pass
        await until(lambda: told)

    run(die())
    assert told == [(os.getpid(), signal.SIGTERM)]
    monkeypatch.undo()
    engine.close()
    assert not is_alive(engine.pid)
