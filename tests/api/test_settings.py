"""Settings that this version cannot read: what it can read of them goes on, nothing is lost, and it is said."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.types.tuning import NAMES, WHOLE, Kept, Tuning, changed, read
from tests.control.rig import Rig, until

CANNOT = "settings are kept that this version cannot read"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("settings") / "h")
    rig.start()
    yield rig
    rig.close()


def kept(rig: Rig, text: str | None = None) -> str:
    """Return the row, as it is in the database; write it, as another version would have, where `text` says so."""
    with closing(sqlite3.connect(rig.home.database)) as database, database:
        if text is not None:
            database.execute("update meta set value = ? where name = 'tuning'", (text,))
        found: str = database.execute("select value from meta where name = 'tuning'").fetchone()[0]
    if text is not None:
        rig.request("PATCH", "/api/v1/platform/quota", {"keys": None})  # control looks at once after a change
    return found


def change(rig: Rig, **changes: Any) -> dict[str, Any]:
    status, answer, _ = rig.request("POST", "/api/v1/settings", changes)
    assert status == 200, answer
    found: dict[str, Any] = answer
    return found


def shown(rig: Rig) -> dict[str, Any]:
    found: dict[str, Any] = rig.request("GET", "/api/v1/settings")[1]
    return found


def values(rig: Rig) -> dict[str, Any]:
    return {each["name"]: each["value"] for each in shown(rig)["items"] if each["is_set"]}


def told(rig: Rig) -> dict[str, Any]:
    """Return what gateways are told."""
    query = {"after": -1, "wait_s": 0}
    table = msgspec.json.decode(rig.client.connection.exchange("GET", "/internal/v1/routes", query=query).body)
    return {name: value for name, value in table.get("tuning", {}).items() if value is not None}


def counted(rig: Rig, name: str) -> float:
    text: str = rig.request("GET", "/metrics")[1].decode()
    return sum(float(each.rpartition(" ")[2]) for each in text.splitlines() if each.startswith(name))


def unread(rig: Rig) -> float:
    return counted(rig, "stoker_settings_unread")


def lines(rig: Rig) -> list[dict[str, Any]]:
    return [msgspec.json.decode(each) for each in rig.log.read_text().splitlines() if CANNOT in each]


def test_what_can_be_read_beside_it_stays_in_force_and_the_last_good_value_of_the_rest(rig: Rig) -> None:
    change(rig, connections_per_address=7, trace_ratio=0.5)
    until(lambda: told(rig) == {"connections_per_address": 7, "trace_ratio": 0.5})
    said = len(lines(rig))
    kept(rig, '{"connections_per_address":8,"trace_ratio":3.0,"colour":"red"}')
    until(lambda: unread(rig) == 2.0, "the loop has seen it")
    assert values(rig) == told(rig) == {"connections_per_address": 8, "trace_ratio": 0.5}, "not as it was started"
    assert shown(rig)["unread"] == ["colour", "trace_ratio"]
    (line,) = lines(rig)[said:]
    assert line["level"] == "warning"
    assert line["settings"] == "colour, trace_ratio"
    change(rig, access_log="on")
    assert msgspec.json.decode(kept(rig)) == {
        "connections_per_address": 8, "trace_ratio": 3.0, "colour": "red", "access_log": "on",
    }, "a change keeps what only another version knows"  # fmt: skip
    assert shown(rig)["unread"] == ["colour", "trace_ratio"]
    assert change(rig, trace_ratio=0.25)["unread"] == ["colour"], "it was set again"
    until(lambda: unread(rig) == 1.0)
    kept(rig, '{"connections_per_address":8}')
    until(lambda: unread(rig) == 0.0)
    assert len(lines(rig)) == said + 2, "once for each change"


def test_a_row_that_is_no_settings_leaves_all_in_force_and_ends_no_turn(rig: Rig) -> None:
    change(rig, connections_per_address=7)
    kept(rig, '{"connections_per_address":7}')
    until(lambda: told(rig) == {"connections_per_address": 7} and not unread(rig))
    kept(rig, '{"connections_per_address":9}}')
    until(lambda: unread(rig) == 1.0)
    assert values(rig) == told(rig) == {"connections_per_address": 7}
    assert shown(rig)["unread"] == ["*"]
    assert counted(rig, "stoker_loop_errors_total") == 0.0
    assert change(rig, trace_ratio=0.5)["unread"] == [], "a change writes down what is in force"
    assert msgspec.json.decode(kept(rig)) == {"connections_per_address": 7, "trace_ratio": 0.5}


VALUES = st.none() | st.booleans() | st.integers(-5, 1 << 62) | st.floats(0, 2) | st.sampled_from(["on", "debug", "x"])
BEFORE = Tuning(log_level="error", connections_per_address=3, trace_ratio=0.1)


@given(st.dictionaries(st.sampled_from([*NAMES, "colour", "shape"]), VALUES))
def test_each_name_is_read_by_itself_and_a_change_loses_none(row: dict[str, Any]) -> None:
    text = msgspec.json.encode(row).decode()
    found = read(text, BEFORE)
    for name in NAMES:
        try:
            expected = getattr(msgspec.convert({name: row[name]}, Tuning), name) if name in row else None
        except msgspec.ValidationError:
            expected = getattr(BEFORE, name)
            assert name in found.unread
        assert getattr(found.tuning, name) == expected
    assert {"colour", "shape"} & row.keys() <= set(found.unread) <= row.keys()
    again, then = changed(text, BEFORE, {"log_level": "info"})
    assert then.tuning.log_level == "info"
    assert set(then.unread) == set(found.unread) - {"log_level"}
    assert read(again, BEFORE) == then
    is_kept = {name: value for name, value in row.items() if name in found.unread or value is not None}
    is_kept.pop("log_level", None)
    assert {name: value for name, value in msgspec.json.decode(again).items() if name in is_kept} == is_kept


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", "null", '"on"', '{"log_level":"info"}}'])
def test_what_is_no_list_of_settings_leaves_all_in_force(text: str) -> None:
    assert read(text, BEFORE) == Kept(BEFORE, (WHOLE,))
    again, then = changed(text, BEFORE, {"trace_ratio": None})
    assert then == Kept(Tuning(log_level="error", connections_per_address=3))
    assert read(again, Tuning()) == then
