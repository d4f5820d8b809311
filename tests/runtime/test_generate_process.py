"""Language-model requests against a real replica: streams, cancellation, deadlines, failures, slots."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from stoker.protocol.frames import EndHead, RequestHead
from stoker.protocol.link import Link
from stoker.types.errors import Busy, DeadlineExceeded, EngineFailed, InvalidInput, Unsupported
from stoker.types.replica import ReplicaSpec
from tests.runtime.models import python_spec
from tests.runtime.rig import Process, ask, drive, running, stats_of, until

# The last message says what to do: "count N", "loop N", "wait", "raise", "break".
TALKER = """
import asyncio


class Model:
    open = 0

    async def generate(self, request):
        word, _, number = request.messages[-1].content.partition(" ")
        Model.open += 1
        try:
            if word == "raise":
                raise ValueError("nothing to say")
            yield f"open={Model.open} "
            if word == "break":
                raise ValueError("lost the thread")
            if word == "wait":
                await asyncio.Event().wait()
            for n in range(int(number or 0)):
                yield "and again, " if word == "loop" else f"{n} "
        finally:
            Model.open -= 1
"""


def talker(folder: Path, **changes: Any) -> ReplicaSpec:
    return python_spec(folder / "model", TALKER, "chat", **changes)


def chat(content: str, **changes: Any) -> bytes:
    return json.dumps({"model": "talker", "messages": [{"role": "user", "content": content}], **changes}).encode()


async def text_of(link: Link, content: str, **head: Any) -> str:
    _, body = await ask(link, "chat", chat(content), **head)
    text: str = json.loads(body)["choices"][0]["message"]["content"]
    return text


async def stream(link: Link, body: bytes, **head: Any) -> tuple[EndHead, list[Any]]:
    """Return the end and the events of a streamed answer."""
    end, data = await ask(link, "chat", body, **head)
    lines = data.decode().split("\n\n")
    assert lines.pop() == ""
    assert all(line.startswith("data: ") for line in lines)
    return end, [line.removeprefix("data: ") for line in lines]


def test_a_stream_and_a_whole_answer_say_the_same(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        whole = await text_of(link, "count 200")
        end, events = await stream(
            link, chat("count 200", stream=True, stream_options={"include_usage": True}), timeout_s=30.0
        )
        assert events[-1] == "[DONE]"
        chunks = [json.loads(event) for event in events[:-1]]
        pieces = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
        assert "".join(pieces) == whole
        assert chunks[-1]["usage"]["completion_tokens"] == 201
        assert end.content_type == "text/event-stream"
        assert end.usage.output_tokens == 201
        assert 0 < end.timings.first_token_s < 10
        stats = await stats_of(link)
        assert (stats.tokens, stats.finished, stats.running) == (402, 2, 0)

    with running(talker(tmp_path), tmp_path) as process:
        drive(process, body)


def test_an_answer_that_ends_in_a_loop_is_told_with_its_end(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        for content, loops in (("count 200", 0), ("loop 40", 1), ("loop 3", 0)):
            whole, _ = await ask(link, "chat", chat(content))
            streamed, _ = await stream(link, chat(content, stream=True))
            assert (whole.usage.loops, streamed.usage.loops) == (loops, loops), content

    with running(talker(tmp_path), tmp_path) as process:
        drive(process, body)


def test_a_cancelled_stream_stops_the_model(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        other = await process.connect()
        data = chat("wait", stream=True)
        for victim in (link, other):
            call = victim.call(RequestHead("chat", body_bytes=len(data)), data)
            await call.next()
            if victim is link:
                call.cancel()
            else:
                other.close()  # the gateway dies
            await until(link, lambda stats: stats.running == 0, process)
        assert await text_of(link, "count 0") == "open=1 "

    with running(talker(tmp_path), tmp_path) as process:
        drive(process, body)


def test_a_deadline_ends_the_work_before_or_after_the_first_word(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        for is_stream in (False, True):
            with pytest.raises(DeadlineExceeded):
                await ask(link, "chat", chat("wait", stream=is_stream), timeout_s=0.1)
        assert await text_of(link, "count 0") == "open=1 "

    with running(talker(tmp_path), tmp_path) as process:
        drive(process, body)


def test_a_model_that_breaks_says_so_and_the_next_request_is_served(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        with pytest.raises(EngineFailed, match="nothing to say"):
            await text_of(link, "raise")
        data = chat("break", stream=True)
        call = link.call(RequestHead("chat", body_bytes=len(data)), data)
        assert b"open=1" in await call.next()  # type: ignore[operator]
        with pytest.raises(EngineFailed, match="lost the thread"):
            await call.answer()
        assert await text_of(link, "count 1") == "open=1 0 "

    with running(talker(tmp_path), tmp_path) as process:
        drive(process, body)


def test_what_has_no_slot_waits_here_and_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        data = chat("wait", stream=True)
        calls = [link.call(RequestHead("chat", body_bytes=len(data)), data) for _ in range(6)]
        stats = await until(link, lambda stats: stats.running == 2 and stats.queued == 4, process)
        assert stats.slots == 2
        await until(link, lambda later: later.busy_s > stats.busy_s, process)  # it runs on
        with pytest.raises(Busy) as raised:
            await ask(link, "chat", data)
        assert raised.value.retry_after_s
        calls[5].cancel()  # one that waits
        await until(link, lambda stats: stats.queued == 3, process)
        calls[0].cancel()  # one that runs: the next takes its slot
        assert b"open=2" in await calls[2].next()  # type: ignore[operator]
        for call in calls:
            call.cancel()
        ended = await until(link, lambda stats: stats.running == 0 and stats.queued == 0, process)
        assert (await stats_of(link)).busy_s == ended.busy_s

    with running(talker(tmp_path, options={"slots": 2}, concurrency=1), tmp_path) as process:
        drive(process, body)


def test_what_waits_is_bounded_in_bytes_and_given_up_at_its_deadline(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        small, large = chat("wait", stream=True), chat("wait " + "x" * 30_000, stream=True)
        first = link.call(RequestHead("chat", body_bytes=len(small)), small)
        await first.next()
        limited = RequestHead("chat", body_bytes=len(large), timeout_s=0.5)
        waiting = [link.call(limited, large) for _ in range(2)]
        with pytest.raises(Busy, match="bytes wait for this replica"):
            await ask(link, "chat", large)
        for call in waiting:  # nothing ends that could make place for them
            with pytest.raises(DeadlineExceeded, match="in the queue"):
                await call.answer()
        await until(link, lambda stats: stats.queued == 0 and stats.running == 1, process)
        third = link.call(RequestHead("chat", body_bytes=len(large)), large)
        await until(link, lambda stats: stats.queued == 1, process)
        first.cancel()
        assert b"open=1" in await third.next()  # type: ignore[operator]
        third.cancel()

    limits = {"memory_bytes": 4 * 64_000, "max_body_bytes": 40_000}
    with running(talker(tmp_path, options={"slots": 1}, **limits), tmp_path) as process:
        drive(process, body)


def test_a_suspect_that_leaves_the_queue_holds_up_nobody(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        data = chat("wait", stream=True)
        first = link.call(RequestHead("chat", body_bytes=len(data)), data)
        await first.next()
        suspect = link.call(RequestHead("chat", body_bytes=len(data), alone=True), data)
        behind = asyncio.create_task(text_of(link, "count 0"))
        await until(link, lambda stats: stats.running == 1 and stats.queued == 2, process)
        suspect.cancel()
        assert (await behind) == "open=2 "
        first.cancel()

    with running(talker(tmp_path), tmp_path) as process:
        drive(process, body)


def test_a_client_that_leaves_at_once_leaves_its_slot_free(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        data = chat("wait", stream=True)
        for _ in range(4):
            link.call(RequestHead("chat", body_bytes=len(data)), data).cancel()  # both frames in one write
        await until(link, lambda stats: stats.running == 0 and stats.queued == 0, process)
        assert (await text_of(link, "count 1")).endswith("0 ")

    with running(talker(tmp_path, options={"slots": 2}), tmp_path) as process:
        drive(process, body)


def test_a_suspect_shares_the_engine_with_nobody(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        data = chat("wait", stream=True)
        first = link.call(RequestHead("chat", body_bytes=len(data)), data)
        await first.next()
        suspect = asyncio.create_task(text_of(link, "count 3", alone=True))
        behind = asyncio.create_task(text_of(link, "count 0"))
        await until(link, lambda stats: stats.running == 1 and stats.queued == 2, process)
        first.cancel()
        assert (await suspect).startswith("open=1 ")
        assert (await behind) == "open=1 "

    with running(talker(tmp_path), tmp_path) as process:
        drive(process, body)


def test_bad_requests_are_refused_before_the_model_sees_them(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        for hostile in (b"", b"{}", b"\xff", chat("x", temperature=9), chat("x", messages=[])):
            with pytest.raises(InvalidInput):
                await ask(link, "chat", hostile)
        for method in ("infer", "embeddings", "nonsense"):
            with pytest.raises(Unsupported):
                await ask(link, method, chat("x"))
        with pytest.raises(Unsupported):
            await ask(link, "chat", chat("x", n=2))
        assert await text_of(link, "count 0") == "open=1 "

    with running(talker(tmp_path), tmp_path) as process:
        drive(process, body)


def test_a_reader_who_does_not_read_holds_up_only_itself(tmp_path: Path) -> None:
    async def body(process: Process) -> None:
        link = await process.ready()
        data = chat("count 200000", stream=True)
        call = link.call(RequestHead("chat", body_bytes=len(data)), data)
        await call.next()
        before = await until(link, lambda stats: stats.tokens > 1000, process)
        while True:
            assert await text_of(link, "count 5") == "open=2 0 1 2 3 4 "
            after = await stats_of(link)
            if after.tokens == before.tokens + 6:
                break  # the window is full: the other model waits
            before = after
        assert after.tokens < 100_000
        end, _ = await call.answer()
        assert end.usage.output_tokens == 200_001

    with running(talker(tmp_path), tmp_path) as process:
        drive(process, body)
