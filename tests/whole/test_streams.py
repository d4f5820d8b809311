"""Streams on the real platform: cut in the middle, given up by the client, out of time."""

import contextlib
import http.client
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

from tests.whole.rig import WAIT_S, Platform, until

STORY = {"model": "smol", "messages": [{"role": "user", "content": "Tell a very long story."}], "ignore_eos": True}


@contextlib.contextmanager
def ask(platform: Platform, body: dict[str, Any], **headers: str) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=WAIT_S)
    sent = {"authorization": f"Bearer {platform.key}", "content-type": "application/json", **headers}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), sent)
    with contextlib.closing(connection), connection.getresponse() as answer:
        yield answer


def answers(platform: Platform) -> bool:
    with ask(platform, {**STORY, "max_tokens": 1}) as answer:
        return answer.status == 200


def smol(platform: Platform) -> dict[str, Any]:
    (found,) = [one for one in platform.json("status")["endpoints"] if one["endpoint"] == "smol"]
    return dict(found)


def test_a_stream_whose_replica_is_killed_ends_with_a_typed_error_event(demo: Platform) -> None:
    replica = demo.pid("default.smol")
    with ask(demo, {**STORY, "stream": True, "max_tokens": 1000}) as answer:
        assert answer.status == 200
        assert b"assistant" in answer.readline()
        os.kill(replica, signal.SIGKILL)
        rest = answer.read().decode()  # to the end: a cut connection would raise
    last = rest.strip().rpartition("\n\n")[2]
    assert last.startswith("data: ")
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "replica_lost"
    assert "[DONE]" not in rest
    until(lambda: answers(demo), "smol answers again")


def text_of(body: str) -> str:
    events = [json.loads(line[6:]) for line in body.split("\n\n") if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event.get("choices", ()))


def test_a_greedy_stream_whose_replica_is_killed_goes_on_in_the_next_one(demo: Platform) -> None:
    asked = {**STORY, "stream": True, "max_tokens": 80, "temperature": 0}
    with ask(demo, asked) as answer:
        undisturbed = answer.read().decode()
    replica = demo.pid("default.smol")
    with ask(demo, asked) as answer:
        first = answer.readline()
        os.kill(replica, signal.SIGKILL)
        disturbed = (first + answer.read()).decode()
    assert text_of(disturbed) == text_of(undisturbed), disturbed[-300:]
    assert len(text_of(disturbed)) > 160
    assert disturbed.count("data: [DONE]") == 1


def test_a_client_that_hangs_up_frees_its_slot(demo: Platform) -> None:
    with ask(demo, {**STORY, "stream": True, "max_tokens": 3000}) as answer:
        answer.readline()
        until(lambda: smol(demo)["running"] == 1, "it runs")
    until(lambda: smol(demo)["running"] == 0, "it was stopped long before its 3,000 tokens")


def test_a_deadline_ends_a_request_in_time(demo: Platform) -> None:
    with ask(demo, {**STORY, "max_tokens": 3000}, **{"x-request-timeout-ms": "300"}) as answer:
        assert answer.status == 504
        assert json.loads(answer.read())["error"]["code"] == "deadline_exceeded"
    until(lambda: smol(demo)["running"] == 0, "nothing works for nobody")
