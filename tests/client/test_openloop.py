"""Requests go out when they are due, over connections that are kept, and each is timed from its own sending."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec

from stoker.client.connection import Connection
from stoker.client.data import Tokens
from stoker.client.load import Ask
from stoker.client.openloop import Due, OpenLoop, Seen

ASK = Ask("/plain", b"{}", {"Content-Type": "application/json"})
CHUNKS = (
    '{"choices": [{"delta": {"role": "assistant"}}]}',
    '{"choices": [{"delta": {"content": "one"}}]}',
    '{"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}',
    "[DONE]",
)


@dataclass
class Site:
    """A server of HTTP/1.1: `/plain` answers, `/held` once `held` is set, `/chat` streams, `/no` refuses."""

    connection: Connection
    held: threading.Event = field(default_factory=threading.Event)
    peers: set[int] = field(default_factory=set)  # ports of who posted: one a connection

    def run(self, dues: list[Due]) -> tuple[OpenLoop, tuple[Seen, ...]]:
        loop = OpenLoop(self.connection, iter(dues), 10.0, len(dues))
        loop.start()
        assert loop.wait(15.0)
        return loop, loop.stop(1.0)


@contextmanager
def served(patience_s: float | None = None) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = patience_s  # of an idle connection

        def do_POST(self) -> None:
            site.peers.add(self.client_address[1])
            self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/held":
                site.held.wait(10)
            if self.path == "/chat":
                self.answer(200, "".join(f"data: {each}\n\n" for each in CHUNKS).encode())
            else:
                self.answer(503 if self.path == "/no" else 200, b"{}")

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    site = Site(Connection(f"http://127.0.0.1:{running.server_port}"))
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        site.held.set()
        running.shutdown()
        running.server_close()
        thread.join()


def test_requests_that_follow_each_other_share_a_connection() -> None:
    with served() as site:
        _, seen = site.run([Due(0.02 * at, ASK, at) for at in range(20)])
    assert [each.number for each in seen] == list(range(20))
    assert not any(each.problem for each in seen)
    assert len(seen) == 20
    assert len(site.peers) < 5, "a connection a request would measure connecting"
    assert all(each.at_s >= 0.02 * at for at, each in enumerate(seen)), "none goes out before it is due"


def test_a_connection_that_was_closed_while_nothing_was_due_is_not_taken() -> None:
    with served(patience_s=0.1) as site:
        _, seen = site.run([Due(0.4 * at, ASK) for at in range(3)])
    assert not any(each.problem for each in seen)
    assert len(site.peers) == 3


def test_who_waits_for_an_answer_holds_nobody_up() -> None:
    with served() as site:
        dues = [Due(0.0, msgspec.structs.replace(ASK, path="/held")), *(Due(0.01 * at, ASK) for at in range(1, 6))]
        loop = OpenLoop(site.connection, iter(dues), 10.0, len(dues))
        loop.start()
        assert not loop.wait(0.3)
        site.held.set()
        seen = loop.stop(10.0)
    assert seen[0].latency_s > max(each.latency_s for each in seen[1:])
    assert len(seen) == 6


def test_a_stream_is_timed_to_its_first_word_and_says_its_tokens() -> None:
    with served() as site:
        chat = msgspec.structs.replace(ASK, path="/chat", is_stream=True)
        _, seen = site.run([Due(0.1 * at, chat) for at in range(4)])
    assert all(0.0 < each.ttft_s <= each.latency_s for each in seen)
    assert [each.tokens for each in seen] == [Tokens(7, 3)] * 4
    assert len(site.peers) <= 2, "a stream that ended leaves its connection"


def test_a_refusal_is_kept_with_its_reason_and_has_no_time() -> None:
    with served() as site:
        _, (refused, answered) = site.run([Due(0.0, msgspec.structs.replace(ASK, path="/no")), Due(0.01, ASK)])
    assert refused.latency_s == refused.ttft_s == math.inf
    assert refused.problem.startswith("unavailable")
    assert not answered.problem


def test_who_has_no_answer_at_the_end_has_none() -> None:
    with served() as site:
        loop = OpenLoop(site.connection, iter([Due(0.0, msgspec.structs.replace(ASK, path="/held"))]), 10.0, 1)
        loop.start()
        assert not loop.wait(0.1)
        (seen,) = loop.stop(0.1)
        site.held.set()
        assert loop.wait(10.0)
    assert seen.latency_s == math.inf
    assert seen.problem == "no answer within 0.1 s"


def test_what_cannot_be_sent_when_it_is_due_is_left_out_and_counted() -> None:
    with served() as site:
        held = msgspec.structs.replace(ASK, path="/held")
        loop = OpenLoop(site.connection, iter([Due(0.0, held), Due(0.01, ASK), Due(0.02, ASK)]), 10.0, 1)
        loop.start()
        assert not loop.wait(0.7)
        site.held.set()
        assert loop.wait(10.0)
        assert len(loop.stop(1.0)) == 1
    assert loop.left_out == 2


def test_stopped_it_sends_nothing_more() -> None:
    with served() as site:
        loop = OpenLoop(site.connection, iter([Due(0.0, ASK), Due(60.0, ASK)]), 10.0, 2)
        loop.start()
        assert not loop.wait(0.1)
        assert len(loop.stop(10.0)) == 1
    assert not [each for each in threading.enumerate() if each.name == "open loop"]
