"""A log line is one bounded JSON object, whatever is in it."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.telemetry.logs import LINE_MAX, JsonLines, configure

KEY = "stk_a1B2c3D4_" + "k" * 43


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, logging.raiseExceptions)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure("gateway-0", "info")
    yield stream
    root.handlers[:], logging.raiseExceptions = before[0], before[2]
    root.setLevel(before[1])
    logging.captureWarnings(False)


def line(message: str, extra: dict[str, Any] | None = None, arguments: tuple[object, ...] = ()) -> dict[str, Any]:
    record = logging.getLogger("stoker.test").makeRecord(
        "stoker.test", logging.WARNING, __file__, 1, message, arguments, None, extra=extra
    )
    text = JsonLines("gateway-0").format(record)
    assert len(text) <= LINE_MAX
    assert text.isprintable()
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def test_a_line_says_when_how_bad_who_and_what_with_its_fields(written: io.StringIO) -> None:
    logging.getLogger("stoker.gateway").warning("lost %s", "it", extra={"replica": "digits-1", "tries": 2})
    logging.getLogger("stoker.gateway").debug("not at this level")
    loaded = json.loads(written.getvalue())
    assert loaded.pop("time").endswith("Z")
    assert loaded == {
        "level": "warning",
        "process": "gateway-0",
        "logger": "stoker.gateway",
        "message": "lost it",
        "replica": "digits-1",
        "tries": 2,
    }


def test_an_exception_keeps_its_end(written: io.StringIO) -> None:
    try:
        raise RuntimeError("x" * 100_000 + " the cause")
    except RuntimeError:
        logging.getLogger("stoker").exception("failed")
    assert json.loads(written.getvalue())["error"].endswith("the cause")
    assert len(written.getvalue()) <= LINE_MAX + 1


def test_nothing_a_caller_sends_makes_a_second_line_or_a_terminal_command() -> None:
    hostile = 'a\r\n{"level":"error"}\x1b[2J\u2028\u0085\x00'
    loaded = line("got %s", {"said": hostile, hostile: 1}, (hostile,))
    assert loaded["message"] == "got " + hostile
    assert loaded["said"] == hostile


def test_keys_are_struck_out_even_where_the_line_is_cut() -> None:
    loaded = line(f"key {KEY}", {"header": f"Bearer {KEY}", "nested": {"key": KEY}, "long": "x" * 4085 + KEY})
    assert "k" * 20 not in json.dumps(loaded)
    assert loaded["message"] == "key stk_a1B2c3D4_…"


def test_fields_cannot_take_the_place_of_the_lines_own() -> None:
    loaded = line("true", {"level": "error", "time": "never", "logger": "other"})
    assert (loaded["level"], loaded["logger"], loaded["level_"]) == ("warning", "stoker.test", "error")


def test_arguments_that_do_not_fit_their_message_lose_nothing() -> None:
    assert line("%d of %d", None, ("x",))["message"] == "%d of %d ('x',)"


@given(
    st.text(max_size=200),
    st.dictionaries(
        st.text(min_size=1).map(lambda name: f"f_{name}"),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(),
            st.binary(),
            st.lists(st.integers()),
            st.just(10**6000),
            st.just("y" * 50_000),
            st.just("\ud800"),
            st.just("\u2028" * 3_000),
        ),
        max_size=60,
    ),
)
def test_any_message_and_fields_are_one_bounded_line_of_json(message: str, extra: dict[str, Any]) -> None:
    loaded = line(message.replace("%", ""), extra)
    assert loaded["process"] == "gateway-0"


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no log level"):
        configure("x", "loud")


def test_a_process_whose_stderr_is_closed_goes_on() -> None:
    program = (
        "import os, logging; from stoker.telemetry.logs import configure; configure('p');"
        "os.close(2); logging.getLogger('x').error('nobody reads this'); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=False, timeout=100)
    assert done.stdout == b"alive\n"


def test_a_line_says_on_whose_behalf_it_was_written_and_its_own_word_counts(written: io.StringIO) -> None:
    whose = {"request": "r1", "tenant": "acme", "process": "forged"}
    logging.getLogger().handlers[0].setFormatter(JsonLines("r0", lambda: whose))
    logging.getLogger("model").warning("odd")
    logging.getLogger("model").warning("odd", extra={"request": "r2"})
    first, second = (json.loads(each) for each in written.getvalue().splitlines())
    assert (first["request"], first["tenant"], first["process"]) == ("r1", "acme", "r0")
    assert (second["request"], second["tenant"]) == ("r2", "acme")
