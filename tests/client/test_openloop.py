"""Requests go out when they are due, over connections that are kept, and each is timed from its own sending."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec

from stoker.client.connection import Connection
from stoker.client.data import Tokens
from stoker.client.load import Ask
from stoker.client.openloop import LATE_MAX_S, Due, OpenLoop, Seen

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

    def run(self, *asks: Ask, gap_s: float) -> tuple[Seen, ...]:
        """Send one after the other, each `gap_s` after the one before it was answered, by any of many workers."""

        def dues() -> Iterator[Due]:
            for number, ask in enumerate(asks):
                until(lambda number=number: len(loop._seen) == number and not loop._flying)  # type: ignore[misc]
                yield Due(loop.elapsed_s + gap_s, ask, number)

        loop = OpenLoop(self.connection, dues(), 60.0, len(asks))
        loop.start()
        assert loop.wait(60.0)
        return loop.stop(1.0)


def until(claim: Callable[[], object]) -> None:
    end_s = time.monotonic() + 60.0
    while not claim():
        assert time.monotonic() < end_s
        time.sleep(0.002)


@contextmanager
def served(*, hangs_up: bool = False) -> Iterator[Site]:
    """Serve; with `hangs_up` it closes each connection after its answer, and says nothing of that."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            site.peers.add(self.client_address[1])
            self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/held":
                site.held.wait(60)
            if self.path == "/chat":
                self.answer(200, "".join(f"data: {each}\n\n" for each in CHUNKS).encode())
            else:
                self.answer(503 if self.path == "/no" else 200, b"{}")

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = self.close_connection or hangs_up

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
        seen = site.run(*[ASK] * 20, gap_s=0.01)
    assert [each.number for each in seen] == list(range(20))
    assert not any(each.problem for each in seen)
    assert len(site.peers) == 1, "a connection a request would measure connecting"


def test_none_goes_out_before_it_is_due() -> None:
    with served() as site:
        loop = OpenLoop(site.connection, (Due(0.02 * at, ASK, at) for at in range(20)), 60.0, 20)
        loop.start()
        assert loop.wait(60.0)
        seen = loop.stop(1.0)
    assert len(seen) + loop.left_out == 20
    assert all(each.at_s >= 0.02 * each.number for each in seen)


def test_a_connection_that_was_closed_while_nothing_was_due_is_not_taken() -> None:
    with served(hangs_up=True) as site:
        seen = site.run(*[ASK] * 3, gap_s=0.2)
    assert not any(each.problem for each in seen)
    assert len(site.peers) == 3


def test_who_waits_for_an_answer_holds_nobody_up() -> None:
    with served() as site:
        held = msgspec.structs.replace(ASK, path="/held")
        dues = [Due(0.0, held, 0), *(Due(0.01 * at, ASK, at) for at in range(1, 6))]
        loop = OpenLoop(site.connection, iter(dues), 60.0, len(dues))
        loop.start()
        until(lambda: len(loop._seen) == 5)
        assert not loop.wait(0.0)
        site.held.set()
        seen = loop.stop(60.0)
    ended_s = {each.number: each.at_s + each.latency_s for each in seen}
    assert len(ended_s) == 6
    assert max(ended_s, key=ended_s.__getitem__) == 0


def test_a_stream_is_timed_to_its_first_word_and_says_its_tokens() -> None:
    with served() as site:
        seen = site.run(*[msgspec.structs.replace(ASK, path="/chat", is_stream=True)] * 4, gap_s=0.01)
    assert all(0.0 < each.ttft_s <= each.latency_s for each in seen)
    assert [each.tokens for each in seen] == [Tokens(7, 3)] * 4
    assert len(site.peers) == 1, "a stream that ended leaves its connection"


def test_a_refusal_is_kept_with_its_reason_and_has_no_time() -> None:
    with served() as site:
        refused, answered = site.run(msgspec.structs.replace(ASK, path="/no"), ASK, gap_s=0.01)
    assert refused.latency_s == refused.ttft_s == math.inf
    assert refused.problem.startswith("unavailable")
    assert not answered.problem


def test_who_has_no_answer_at_the_end_has_none() -> None:
    with served() as site:
        loop = OpenLoop(site.connection, iter([Due(0.0, msgspec.structs.replace(ASK, path="/held"))]), 60.0, 1)
        loop.start()
        until(lambda: site.peers)
        (seen,) = loop.stop(0.1)
        site.held.set()
        assert loop.wait(60.0)
    assert seen.latency_s == math.inf
    assert seen.problem == "no answer within 0.1 s"


def test_what_cannot_be_sent_when_it_is_due_is_left_out_and_counted() -> None:
    with served() as site:
        held = msgspec.structs.replace(ASK, path="/held")
        loop = OpenLoop(site.connection, iter([Due(0.0, held), Due(0.01, ASK), Due(0.02, ASK)]), 60.0, 1)
        loop.start()
        until(lambda: site.peers and loop.elapsed_s > 0.02 + LATE_MAX_S)
        site.held.set()
        assert loop.wait(60.0)
        assert len(loop.stop(1.0)) == 1
    assert loop.left_out == 2


def test_stopped_it_sends_nothing_more() -> None:
    with served() as site:
        loop = OpenLoop(site.connection, iter([Due(0.0, ASK), Due(600.0, ASK)]), 60.0, 2)
        loop.start()
        until(lambda: loop._seen)
        assert len(loop.stop(60.0)) == 1
    assert not [each for each in threading.enumerate() if each.name == "open loop"]
