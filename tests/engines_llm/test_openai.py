"""What is particular to servers of others: what they send, how they fail, and children that must not stay behind."""

import contextvars
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from stoker.protocol.frames import RequestHead
from stoker.protocol.openai_chunks import EventReader
from stoker.runtime import caller
from stoker.runtime.engines import child_port, openai
from stoker.runtime.engines.openai_child import STARTS_MAX, Child
from stoker.runtime.engines.port import Delta, Finish
from stoker.types.errors import (
    Busy,
    DeadlineExceeded,
    EngineFailed,
    InvalidInput,
    NotReachable,
    StokerError,
    Unavailable,
)
from tests.engines_llm.support import ROOT, Answer, aclose, answer, chat, completion, quiet, run, spec, until
from tests.engines_llm.upstream import STREAMS, Upstream

SERVER = """import sys
from http.server import HTTPServer, SimpleHTTPRequestHandler
HTTPServer(('127.0.0.1', int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close()


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ask(upstream: Upstream, model: str, request: Any = None, **options: Any) -> Answer:
    engine = openai.load(spec("openai", url=upstream.url, model=model, **options), quiet)
    assert isinstance(engine, openai.RemoteGenerate)
    return answer(engine, request or chat())


@pytest.mark.parametrize(
    "model",
    ["plain", "crlf", "cr", "no space", "comments", "events", "split data", "no last blank line", "byte by byte"],
)
def test_a_stream_is_read_however_its_server_writes_it(upstream: Upstream, model: str) -> None:
    got = ask(upstream, model)
    assert got.text() == "Hello"
    assert got.finishes == {0: "stop"}
    assert got.final.usage.output_tokens == 2


def test_the_server_is_told_which_trace_its_work_belongs_to(upstream: Upstream) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    heads = [RequestHead("chat", trace=parent, trace_state="vendor=abc"), RequestHead("chat")]

    def asked(of: list[RequestHead]) -> dict[str, str]:
        contextvars.copy_context().run(lambda: (caller.work_for(of), ask(upstream, "plain")))
        return {name.lower(): value for name, value in upstream.headers[-1].items()}

    said = asked(heads[:1])
    assert (said["traceparent"], said["tracestate"]) == (parent, "vendor=abc")
    for of in (heads, heads[1:]):
        assert "traceparent" not in asked(of), "where one call serves several, it is nobody's"


def test_the_servers_own_count_is_the_usage(upstream: Upstream) -> None:
    usage = ask(upstream, "plain").final.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (5, 2, 3)


@pytest.mark.parametrize(
    ("model", "kind", "words"),
    [
        ("error event", EngineFailed, "out of memory"),
        ("cut", EngineFailed, "in the middle"),
        ("empty", EngineFailed, "in the middle"),
        ("only done", EngineFailed, "in the middle"),
        ("garbage", EngineFailed, "cannot be read"),
        ("wrong index", EngineFailed, "choice 7"),
        ("not a stream", EngineFailed, "did not stream"),
        ("endless line", EngineFailed, "over 4194304 bytes"),
        ("reset", EngineFailed, "broke"),
        ("429", Busy, "slow down"),
        ("429 date", Busy, "429"),
        ("400", InvalidInput, "too many tokens"),
        ("400 text", InvalidInput, r"what\?"),
        ("404", InvalidInput, "no such model"),
        ("500", EngineFailed, "oops"),
        ("503", Unavailable, "warming up"),
        ("302", EngineFailed, "302"),
    ],
)
def test_a_failure_is_ours_in_the_servers_words(
    upstream: Upstream, model: str, kind: type[StokerError], words: str
) -> None:
    with pytest.raises(kind, match=words) as failed:
        ask(upstream, model)
    assert type(failed.value) is kind
    if kind in (Busy, Unavailable):
        assert failed.value.retry_after_s == {"429": 7.0, "429 date": 120.0, "503": 3.5}[model]


def test_what_came_before_an_error_event_is_not_lost(upstream: Upstream) -> None:
    engine = openai.load(spec("openai", url=upstream.url, model="error event"), quiet)
    seen: list[Any] = []

    async def read() -> None:
        items = engine.generate(chat())
        while True:
            seen.append(await anext(items))

    with pytest.raises(EngineFailed):
        run(read())
    assert seen == [Delta(0, "Hel")]


def test_a_refused_key_is_the_operators_to_mend_not_the_clients(upstream: Upstream) -> None:
    with pytest.raises(EngineFailed, match=r"bad key.*api_key"):
        ask(upstream, "401")


def test_a_server_that_falls_silent_is_given_up(upstream: Upstream) -> None:
    with pytest.raises(DeadlineExceeded):
        ask(upstream, "silent", timeout_s=0.3)


def test_a_server_that_is_not_there_is_told_from_one_that_fails() -> None:
    with pytest.raises(NotReachable):
        openai.load(spec("openai", url="http://127.0.0.1:9/v1", model="x"), quiet)


def test_closing_closes_the_connection(upstream: Upstream) -> None:
    engine = openai.load(spec("openai", url=upstream.url, model="endless"), quiet)

    async def leave() -> None:
        await until(lambda: upstream.open_streams == 0)  # of those that others left
        items = engine.generate(chat())
        for _ in range(3):
            await anext(items)
        assert upstream.open_streams == 1
        await aclose(items)
        await until(lambda: upstream.open_streams == 0)

    run(leave())


def test_characters_cut_in_two_are_joined_again(upstream: Upstream) -> None:
    assert ask(upstream, "halves").text() == "😀!"
    assert ask(upstream, "lone half").text() == "a\ufffdb"


def test_an_answer_that_ignores_its_schema_is_an_error(upstream: Upstream) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    with pytest.raises(EngineFailed, match="does not keep to the schema"):
        ask(upstream, "prose", chat(response_format=form))
    assert ask(upstream, "prose").text() == "No."


def test_only_what_the_client_sent_is_sent_on(upstream: Upstream) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"default": None}}}
    ask(upstream, "plain", chat(temperature=0.5, tools=[tool]))
    assert upstream.seen[-1] == {
        "model": "plain",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "messages": [{"role": "user", "content": "Say hello."}],
        "tools": [tool],
    }


def test_the_key_goes_along_and_never_into_an_error(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("sk-from-file\n")
    ask(upstream, "plain", api_key_file=str(tmp_path / "key"))
    assert upstream.headers[-1]["Authorization"] == "Bearer sk-from-file"
    monkeypatch.setenv("UPSTREAM_KEY", "sk-from-env")
    with pytest.raises(EngineFailed) as failed:
        ask(upstream, "401", api_key_env="UPSTREAM_KEY")
    assert upstream.headers[-1]["Authorization"] == "Bearer sk-from-env"
    assert "sk-" not in str(failed.value)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "options.url"),
        ({"url": "http://a/v1", "command": ["x"]}, "options.url"),
        ({"url": "file:///etc/passwd", "model": "m"}, "options.url"),
        ({"command": ["server", "--port", "8000"]}, "options.command"),
        ({"url": "http://127.0.0.1:9/v1", "api_key_env": "STOKER_NO_SUCH_VARIABLE"}, "options.api_key_env"),
        ({"url": "http://127.0.0.1:9/v1", "api_key_file": "/no/such/file"}, "options.api_key_file"),
        ({"url": "http://127.0.0.1:9/v1", "slots": 0}, "options.slots"),
    ],
    ids=str,
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        openai.load(spec("openai", **options), quiet)
    assert refused.value.field == field


def test_a_model_has_to_be_named_where_there_are_several(upstream: Upstream) -> None:
    with pytest.raises(InvalidInput, match="plain, crlf"):
        openai.load(spec("openai", url=upstream.url), quiet)


def test_embeddings_come_in_the_order_of_their_texts(upstream: Upstream) -> None:
    engine = openai.load(spec("openai", url=upstream.url, model="plain", task="embed"), quiet)
    assert isinstance(engine, openai.RemoteEmbed)
    assert engine.dimensions == 2
    found = engine.embed(["a", "four", "to"])
    assert found.vectors[:, 0].tolist() == [1.0, 4.0, 2.0]
    assert found.tokens == [2, 2, 1]


def test_embeddings_of_uneven_length_are_an_error(upstream: Upstream) -> None:
    engine = openai.load(spec("openai", url=upstream.url, model="ragged", task="embed"), quiet)
    assert isinstance(engine, openai.RemoteEmbed)
    with pytest.raises(EngineFailed):
        engine.embed(["a", "b"])


def test_embeddings_the_server_refuses_are_refused(upstream: Upstream) -> None:
    with pytest.raises(InvalidInput, match="too many tokens"):
        openai.load(spec("openai", url=upstream.url, model="400", task="embed"), quiet)


def test_a_completion_goes_to_the_completions_path(upstream: Upstream) -> None:
    got = ask(upstream, "plain", completion(["a"]))
    assert upstream.seen[-1]["prompt"] == ["a"]
    assert Finish(0, "stop") in got.items


def test_events_are_the_same_however_the_bytes_are_cut() -> None:
    for name, data in STREAMS.items():
        whole = EventReader()
        expected = [*whole.feed(data), *whole.end()]
        for size in (1, 2, 3, 7, 64):
            reader = EventReader()
            pieces = [data[at : at + size] for at in range(0, len(data), size)]
            assert [e for piece in pieces for e in reader.feed(piece)] + list(reader.end()) == expected, (name, size)


def test_a_server_that_cannot_start_says_why() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such model here')", "{port}"]
    with pytest.raises(EngineFailed, match="no such model here"):
        openai.load(spec("openai", command=command, model="m"), quiet)
    with pytest.raises(EngineFailed, match="cannot start"):
        openai.load(spec("openai", command=["/no/such/program", "{port}"], model="m"), quiet)


def test_a_server_that_never_gets_ready_is_given_up_and_stopped() -> None:
    before = set(psutil.Process().children(recursive=True))
    command = [sys.executable, "-c", SERVER, "{port}"]
    with pytest.raises(EngineFailed, match="did not answer 200"):
        openai.load(spec("openai", command=command, model="m", ready_path="/missing", start_timeout_s=1), quiet)
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_server_that_dies_is_noticed_at_once() -> None:
    died: list[str] = []
    child = Child([sys.executable, "-c", SERVER, "{port}"], died.append)
    try:
        child.wait_ready("/", 60, quiet)
        assert not died
        (server,) = psutil.Process(child.pid).children()
        server.send_signal(signal.SIGKILL)
        run(until(lambda: died))
        assert "code 137" in died[0]
    finally:
        child.close()


# Whoever listens first on the port that the server is told, and for how long; it answers as the server would.
THIEF = """import pathlib, subprocess, sys
marks = pathlib.Path({folder!r})
marks.joinpath(sys.argv[1]).touch()
if len(list(marks.iterdir())) <= {times}:
    thief = "import sys\\nfrom http.server import *\\n" \
        "server = HTTPServer(('127.0.0.1', int(sys.argv[1])), {handler})\\nprint(flush=True)\\nserver.serve_forever()"
    taken = subprocess.Popen([sys.executable, "-c", thief, sys.argv[1]],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    taken.stdout.readline()
    marks.with_name("pids").open("a").write(f"{{taken.pid}}\\n")
"""


@pytest.fixture
def thief(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Return what makes the program of a server whose port is taken first, so many times."""
    folder = tmp_path / "ports"
    folder.mkdir()

    def program(times: int, *, is_answering: bool) -> str:
        handler = "SimpleHTTPRequestHandler" if is_answering else "BaseHTTPRequestHandler"
        return THIEF.format(folder=str(folder), times=times, handler=handler)

    yield program
    for pid in (tmp_path / "pids").read_text().split():
        os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize("is_answering", [True, False], ids=["and-answers", "and-is-mute"])
def test_a_server_whose_port_another_process_takes_is_started_with_another_one(
    thief: Callable[..., str], is_answering: bool
) -> None:
    died: list[str] = []
    slow = "import time; time.sleep(0.5)\n"  # while it loads, only the other one answers
    child = Child([sys.executable, "-c", thief(1, is_answering=is_answering) + slow + SERVER, "{port}"], died.append)
    first = child.port
    try:
        child.wait_ready("/", 60, quiet)
        assert child.port != first
        assert not child_port.is_free(child.port)
        assert not child_port.is_others(child.port, child.pid)
        assert child_port.is_others(first, child.pid)
        assert child.is_running
        assert not died, "a start that was lost is no death"
    finally:
        child.close()


def test_a_server_whose_port_is_always_taken_is_given_up(thief: Callable[..., str], tmp_path: Path) -> None:
    child = Child([sys.executable, "-c", thief(99, is_answering=False) + SERVER, "{port}"], lambda _: None)
    with pytest.raises(EngineFailed, match="Address already in use"):
        child.wait_ready("/", 60, quiet)
    child.close()
    assert len(list((tmp_path / "ports").iterdir())) == STARTS_MAX


def test_ports_are_chosen_where_the_kernel_gives_none_away() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    found = {child_port.choose() for _ in range(20)}
    assert len(found) > 15
    if not first <= child_port.HIGH <= last:
        assert not [port for port in found if first <= port <= last]


def test_closing_stops_the_whole_tree_and_is_no_death() -> None:
    died: list[str] = []
    tree = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    child = Child([sys.executable, "-c", tree + SERVER, "{port}"], died.append)
    child.wait_ready("/", 60, quiet)
    guard = psutil.Process(child.pid)
    family = [guard, *guard.children(recursive=True)]
    assert len(family) == 3  # the guard, the server, what the server started
    child.close()
    run(until(lambda: not any(is_alive(one) for one in family)))
    assert not died


HOLDER = f"""
import sys, threading
from stoker.runtime.engines import openai
from tests.engines_llm.support import spec
tree = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\\n"
command = [sys.executable, "-c", tree + {SERVER!r}, "{{port}}"]
def load():
    openai.load(spec("openai", command=command, model="m", ready_path="/", path="/"), lambda *_: None)
thread = threading.Thread(target=load)  # as in a replica: the loading thread ends, the child must live on
thread.start()
thread.join()
print("loaded", flush=True)
sys.stdin.read()
"""


def test_a_killed_replica_leaves_no_process_of_its_server() -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"loaded\n"
        family = psutil.Process(holder.pid).children(recursive=True)
        assert len(family) == 3  # the guard, the server, what the server started
        assert all(is_alive(one) for one in family)
        os.kill(holder.pid, signal.SIGKILL)
        run(until(lambda: not any(is_alive(one) for one in family)))
