"""Load from outside: it comes when it is due, whatever the last request does, and counts what became of it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from stoker.client.connection import Connection
from stoker.client.data import ModelMetadata
from stoker.client.load import Ask, Load, Tally, example
from stoker.types.errors import InvalidInput
from stoker.types.models import TensorSpec

ASK = Ask("/x", b"{}", {"Content-Type": "application/json"})


@contextmanager
def server(status: int, held: threading.Event | None = None) -> Iterator[Connection]:
    """A server that answers `status`, the first request only once `held` is set."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            if held is not None and len(seen) == 1:
                held.wait(60)
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Connection(f"http://127.0.0.1:{running.server_port}")
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def total(load: Load) -> Tally:
    found = load.tallies().values()
    return Tally(
        sum(each.requests for each in found),
        sum(each.failed for each in found),
        sum(each.answered for each in found),
        sum(each.dropped for each in found),
    )


def until(load: Load, requests: int) -> None:
    end_s = time.monotonic() + 60
    while total(load).requests < requests:
        assert time.monotonic() < end_s, total(load)
        time.sleep(0.01)


def test_a_request_that_hangs_does_not_silence_the_load() -> None:
    held = threading.Event()
    with server(200, held) as connection:
        load = Load(connection, ASK, 50.0)
        load.start(time.monotonic())
        until(load, 5)
        assert not all(each.is_settled for each in load.tallies().values())
        held.set()
        load.stop()
        seen = total(load)
    assert (seen.failed, seen.answered) == (0, seen.requests)
    assert all(each.is_settled for each in load.tallies().values())


def test_what_fails_is_counted_and_the_newest_failure_kept() -> None:
    with server(503) as connection:
        load = Load(connection, ASK, 50.0)
        load.start(time.monotonic())
        until(load, 3)
        load.stop()
        seen = total(load)
    assert seen.failed == seen.requests
    assert load.problem.startswith("unavailable")


def test_nothing_is_sent_after_the_end() -> None:
    with server(200) as connection:
        load = Load(connection, ASK, 100.0)
        load.start(time.monotonic())
        until(load, 2)
        load.stop()
        assert [thread for thread in threading.enumerate() if thread.name == "load"] == []
        load.stop()


def test_a_request_is_made_up_from_the_signature() -> None:
    spec = ModelMetadata("m", inputs=(TensorSpec("x", "FP32", (-1, 3)), TensorSpec("t", "BYTES", (1,))))
    body = msgspec.json.decode(example("m", "predict", spec).body)
    assert body["inputs"][0] == {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0, 0, 0]}
    assert body["inputs"][1]["data"] == ["a"]
    more = msgspec.json.decode(example("m", "predict", spec, rows=2, value=9).body)
    assert more["inputs"][0]["shape"] == [2, 3]
    assert more["inputs"][0]["data"] == [9] * 6
    chat = example("m", "chat", None, length=40)
    assert len(chat.body) > 40 * len(example("m", "chat", None).body) / 4
    assert example("m", "embed", None).path == "/v1/embeddings"


@pytest.mark.parametrize("metadata", [None, ModelMetadata("m")])
def test_without_a_signature_a_request_is_asked_for(metadata: ModelMetadata | None) -> None:
    with pytest.raises(InvalidInput, match="--data"):
        example("m", "predict", metadata)


def test_a_signature_too_large_to_make_up_is_refused() -> None:
    spec = ModelMetadata("m", inputs=(TensorSpec("x", "FP32", (10_000, 10_000)),))
    with pytest.raises(InvalidInput, match="--data"):
        example("m", "predict", spec)
