"""What real replicas keep of texts and vectors while control wants it: features, samples, and no words."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from stoker.control.drift.files import Learning
from stoker.control.drift.learning import learned
from stoker.core.drawn import join
from stoker.core.drift import DriftMemory, Policy, judge
from stoker.core.reference import bind
from stoker.core.watched import CHAT, EMBED, Seen
from stoker.observe.drift.reference import build
from stoker.observe.drift.space import compared
from stoker.protocol.link import Link
from stoker.protocol.openai import decode_chat
from stoker.runtime.drift_texts import GROUP, ROWS_A_SECOND, ChatWatch, EmbedWatch, Share
from stoker.telemetry.vectors import norms
from stoker.types.drift import Answer, Counts, Drawn, Question, Reference
from stoker.types.generation import Delta, ToolCallDelta
from stoker.types.replica import ReplicaSpec, Usage
from tests.runtime.models import python_spec, spec_of
from tests.runtime.rig import Process, ask, drive, running
from tests.runtime.test_drift import asked

TALKER = """
class Model:
    async def generate(self, request):
        yield "You said: "
        yield request.messages[-1].content
"""
POLICY = Policy(rows_min=50, false_alarms=1e-6)  # which rows are drawn is chance: a calm window must not fail by it
Send = Callable[[Link], Awaitable[None]]
SECRET = "my password is hunter2 and my name is Ada"


def talk(watch: ChatWatch, text: str, answer: str, **more) -> None:
    said = watch.begin(
        decode_chat(json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode())
    )
    assert said is not None
    for word in answer.split(" "):
        said.hear(Delta(text=word + " "))
    said.finish = more.get("finish", "stop")
    watch.end(said, Usage(input_tokens=len(text) // 4, output_tokens=answer.count(" ") + 1))


def reference_of(answer: Answer, seen: Seen) -> Reference:
    made = learned(Learning(0.0, 60.0, "m@1", "sha"), {"r": answer}, seen, 0.0)
    assert isinstance(made, Reference), made
    bound = bind(made, seen.signature, seen.planes)
    assert isinstance(bound, Reference), bound
    return bound


def slim(reference: Reference) -> Reference:
    spaces = tuple(msgspec.structs.replace(one, sample=b"") for one in reference.spaces)
    return msgspec.structs.replace(reference, spaces=spaces)


def probe(column: str, seen: Seen) -> Reference:
    """Return a reference to count by, while there is no other."""
    bound = bind(build({column: np.arange(100.0)}, source="", made_at_s=0.0), seen.signature)
    assert isinstance(bound, Reference)
    return bound


@contextlib.contextmanager
def three_of(spec: ReplicaSpec, folder: Path) -> Iterator[tuple[Process, ...]]:
    """Run three replicas: each draws all that comes in its first second, and few of what comes later."""
    with running(spec, folder / "a") as one, running(spec, folder / "b") as two, running(spec, folder / "c") as three:
        yield one, two, three


async def counted(link: Link, question: Question, send: Send, rows: int) -> Counts:
    """Send until so many rows were counted, of which busy replicas draw some; return all counts.

    So many at once, that a replica may draw them all.
    """
    drawn: list[tuple[Drawn, ...]] = []
    while True:
        await asyncio.gather(*(send(link) for _ in range(10 if drawn else rows)))
        counts = (await asked(link, question)).counts
        assert counts is not None
        drawn.append(counts.drawn)
        if counts.rows >= rows:
            every = tuple(join(each, 600) for each in zip(*drawn, strict=True))
            return msgspec.structs.replace(counts, drawn=every)


async def learn(link: Link, column: str, seen: Seen, send: Send) -> Reference:
    question = Question("probe", probe(column, seen), gather=2_000, seed="sha")
    await asked(link, question)
    await counted(link, msgspec.structs.replace(question, body=None), send, 100)
    return reference_of(await asked(link, Question(take=True)), seen)


async def anew(link: Link, reference: Reference, send: Send) -> Counts:
    await asked(link, Question(""))
    await asked(link, Question("ref", slim(reference)))
    return await counted(link, Question("ref"), send, 80)


def shifts_of(reference: Reference, counts: Counts) -> dict[str, str]:
    apart = compared(reference, counts.drawn)
    found = judge(reference, counts.slots, counts.rows, POLICY, DriftMemory(), apart)
    return {one.feature: one.level for one in found.shifts}


def test_what_gates_ask_a_language_model_is_in_no_window(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        await asked(link, Question("probe", probe("prompt.characters", CHAT)))
        data = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
        for _ in range(3):
            await ask(link, "chat", data, probe=True)
        counts = (await asked(link, Question("probe"))).counts
        assert counts is not None
        assert counts.rows == 0
        await ask(link, "chat", data)
        counts = (await asked(link, Question("probe"))).counts
        assert counts is not None
        assert counts.rows == 1

    with running(python_spec(tmp_path / "model", TALKER, "chat"), tmp_path) as process:
        drive(process, body)


def test_a_language_model_that_answers_another_kind_of_text_is_told_by_name(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link, calm_link, moved_link = [await each.ready() for each in (process, *others)]
        rng = np.random.default_rng(0)

        def says(words: str) -> Send:
            async def send(to: Link) -> None:
                text = " ".join(rng.choice(words.split(), 12))
                messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
                await ask(to, "chat", json.dumps({"model": "t", "messages": messages, "stream": True}).encode())

            return send

        english = says("the cat sat on a mat and the dog was there with my old friend from the town")
        german = says("über die Straße gehen wir nicht schnell weil der Zug heute später kommt 2024 17")
        assert (await asked(link, Question("sha"))).counts is None
        await german(link)  # before anybody asked
        reference = await learn(link, "prompt.characters", CHAT, english)
        calm = shifts_of(reference, await anew(calm_link, reference, english))
        assert not [name for name, level in calm.items() if level == "drifted"], calm
        moved = shifts_of(reference, await anew(moved_link, reference, german))
        for name in ("prompt.wording", "answer.wording", "prompt.characters", "prompt.digits"):
            assert moved[name] == "drifted", moved
        assert moved["prompt.system"] == "steady"

    with three_of(python_spec(tmp_path / "model", TALKER, "chat"), tmp_path) as (first, *others):
        drive(first, body, others)


def test_an_embedder_that_gets_another_topic_is_told_by_its_vectors(minilm_folder: Path, tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link, calm_link, moved_link = [await each.ready() for each in (process, *others)]
        rng = np.random.default_rng(0)

        def embeds(*kinds: str) -> Send:
            async def send(to: Link) -> None:
                text = f"{rng.choice(kinds)} number {rng.integers(100)}"
                await ask(to, "embeddings", json.dumps({"model": "m", "input": [text, text]}).encode())

            return send

        animals = embeds("a cat that sleeps", "the dog in the garden", "birds on a wire", "a fish in water")
        money = embeds("the bank raises rates", "shares fell at noon", "an invoice is due", "taxes on income")
        reference = await learn(link, "text.characters", EMBED, animals)
        assert reference.spaces[0].width == 384
        assert shifts_of(reference, await anew(calm_link, reference, animals))["embedding"] != "drifted"
        moved = shifts_of(reference, await anew(moved_link, reference, money))
        assert (moved["embedding"], moved["embedding.norm"]) == ("drifted", "steady")
        other = msgspec.structs.replace(reference.spaces[0], width=128, sample=b"")
        wrong = await asked(link, Question("128", msgspec.structs.replace(reference, spaces=(other,))))
        assert wrong.counts is None
        assert "of 128 values, this model of 384" in wrong.problem

    with three_of(spec_of(minilm_folder, "onnx", "embed"), tmp_path) as (first, *others):
        drive(first, body, others)


def test_nothing_that_leaves_the_replica_can_be_read() -> None:
    chat, embed = ChatWatch(), EmbedWatch(8)
    for watch in (chat, embed):
        watch.answer(Question(gather=100, seed="sha"))
    for _ in range(GROUP + 1):
        talk(chat, SECRET, f"Of course: {SECRET}")
        embed.take([SECRET], [9], np.ones((1, 8), np.float32))
    for watch in (chat, embed):
        sent = msgspec.msgpack.encode(watch.answer(Question(take=True)))
        assert len(sent) > 1_000
        for word in SECRET.encode().split():
            assert len(word) < 4 or word not in sent


def test_an_answer_is_told_by_its_end_and_its_kind() -> None:
    watch = ChatWatch()
    watch.answer(Question(gather=100))
    talk(watch, "hello", "I'm sorry, but I can't help with that.")
    talk(watch, "hello", " ", finish="length")
    talk(watch, "hello", "Hello there.")
    said = watch.begin(decode_chat(b'{"model":"m","messages":[{"role":"user","content":"hi"},{"role":"assistant"}]}'))
    assert said is not None
    assert said.hear(Delta(tool_calls=(ToolCallDelta(0, "a", "f"),)))
    said.finish = "tool_calls"
    watch.end(said, Usage())
    columns = watch.answer(Question(take=True)).columns
    assert columns["answer.kind"] == ["refusal", "empty", "text", "calls"]
    assert columns["answer.finish"] == ["stop", "length", "stop", "tool_calls"]
    assert columns["prompt.turns"] == [1.0, 1.0, 1.0, 2.0]
    assert columns["prompt.characters"][3] == 2.0  # the last message that is not the model's
    assert columns["prompt.system"] == ["none"] * 4
    assert str(columns["prompt.tokens"][3]) == "nan"


def test_a_busy_replica_looks_at_about_as_many_requests_a_second_as_it_may() -> None:
    share, drawn = Share(), 0
    for at in range(20_000):  # a thousand a second
        drawn += share.draws(1_000.0 + at / 1_000)
    assert 0.5 < (drawn - 1_000) / (19 * ROWS_A_SECOND) < 1.5  # all of the first second, of which nothing was known
    assert all(Share().draws(5.0) for _ in range(100))
    slow = Share()
    assert all(slow.draws(at / 8) for at in range(1_000))


def test_lengths_are_told_to_three_digits() -> None:
    rows = np.array([[1.0000004], [0.9999], [123.456], [0.0], [np.nan]], np.float32)
    assert np.array_equal(norms(rows)[:3, 0], np.array([1.0, 1.0, 123.0], np.float32))
    assert norms(rows)[3, 0] == 0.0
    assert np.isnan(norms(rows)[4, 0])
