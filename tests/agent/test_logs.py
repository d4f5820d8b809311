"""What a process wrote can be read while it writes, and never fills the disk."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from stoker.agent import logs
from stoker.types.errors import NotFound
from tests.agent.conftest import WAIT_S, Rig, until


def test_a_log_is_followed_while_it_is_written_until_the_process_is_gone(shared: Rig) -> None:
    shared.put(shared.spec(behaviour="chatty", env={"LINES": "5000"}))
    heard: list[bytes] = []

    def listen() -> None:
        heard.extend(shared.api.stream("GET", "/v1/processes/w1/logs", query={"tail": 100_000, "follow": 1}))

    reader = threading.Thread(target=listen)
    reader.start()
    until(lambda: b"line 4999\n" in b"".join(heard), what="the last line")
    shared.delete("w1")
    shared.gone()
    reader.join(WAIT_S)
    assert not reader.is_alive()
    lines = [text for text in b"".join(heard).splitlines() if text.startswith(b"line ")]
    assert lines == [f"line {number}".encode() for number in range(5000)]


def test_the_end_of_a_log_is_read_also_after_the_process_is_gone(shared: Rig) -> None:
    shared.put(shared.spec(behaviour="chatty", env={"LINES": "50"}))
    shared.ready()
    until(lambda: "line 49" in shared.log("w1"))
    shared.delete("w1")
    shared.gone()
    answer = shared.api.exchange("GET", "/v1/processes/w1/logs", query={"tail": 2})
    assert answer.body.splitlines() == [b"line 48", b"line 49"]
    with pytest.raises(NotFound):
        shared.api.exchange("GET", "/v1/processes/never/logs")
    with pytest.raises(NotFound):
        shared.api.exchange("GET", "/v1/processes/..%2Fagent/logs")


def test_a_full_log_is_turned_over_while_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "w1.log"
    writer = logs.open_log(path)
    os.write(writer, b"".join(b"old %d\n" % number for number in range(1000)))
    assert logs.rotate(path, bytes_max=100)
    os.write(writer, b"new\n")
    assert path.read_bytes() == b"new\n"
    assert (tmp_path / "w1.log.1").read_bytes().endswith(b"old 999\n")
    assert logs.tail(path, 2)[0] == b"old 999\nnew\n"
    assert not logs.rotate(path, bytes_max=100)
    os.close(writer)


def test_a_reader_loses_nothing_when_the_log_is_turned_over(tmp_path: Path) -> None:
    path = tmp_path / "w1.log"
    writer = logs.open_log(path)
    os.write(writer, b"one\n")

    async def story() -> bytes:
        wanted = [True, True]
        pieces = logs.read(path, lines=10, follow=True, is_wanted=lambda: bool(wanted))
        heard = await anext(pieces)
        os.write(writer, b"two\n")
        assert logs.rotate(path, bytes_max=1)
        os.write(writer, b"3\n")
        wanted.clear()
        return heard + b"".join([piece async for piece in pieces])

    assert asyncio.run(story()) == b"one\ntwo\n3\n"
    os.close(writer)


def test_a_log_that_cannot_be_copied_is_emptied_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "w1.log"
    path.write_bytes(b"x" * 1000)
    (tmp_path / "w1.log.1").mkdir()
    assert logs.rotate(path, bytes_max=100)
    assert path.stat().st_size == 0


def test_last_words_are_whole_lines_of_this_life_in_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "w1.log"
    path.write_text("of the life before\n")
    since = logs.size_of(path)
    assert logs.last_words(path, since=since) == ""
    with path.open("a") as file:
        file.write(
            "plain\n" + '{"time":"t","message":"crashed","error":"Traceback (most…\\n  File x\\nValueError: boom"}\n'
        )
    assert logs.last_words(path, since=since) == "plain\ncrashed\nValueError: boom"
    path.write_text("after a turn-over\n" * 1000)
    words = logs.last_words(path, since=10**9)
    assert len(words) <= logs.WORDS_BYTES_MAX
    assert set(words.splitlines()) == {"after a turn-over"}


def test_old_logs_of_processes_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    for number in range(logs.OLD_LOGS_MAX + 3):
        path = tmp_path / f"w{number}.log"
        path.touch()
        os.utime(path, (number, number))
    logs.prune(tmp_path, {"w0"})
    left = {path.stem for path in tmp_path.glob("*.log")}
    assert len(left) == logs.OLD_LOGS_MAX + 1
    assert "w0" in left
    assert "w1" not in left
