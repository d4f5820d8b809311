"""Reading samples: newest first, only what was asked for, nothing past its time, nothing of another project."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from stoker.observe.samples import SampleStore, Wanted
from stoker.telemetry.sealing import KeyRing, Unreadable
from stoker.telemetry.segments import HOUR_S, Writer
from stoker.types.samples import SampleRecord

NOON_S = 1_764_331_200.0


class Shelf:
    """Samples in a folder, written as gateways write them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = KeyRing(folder)
        self.store = SampleStore(folder, KeyRing(folder), 1 << 30)

    def add(self, request_id: str, at_s: float, project: str = "team", gateway: str = "g0-", **more: Any) -> None:
        record = SampleRecord(
            id=request_id,
            at_s=at_s,
            project=project,
            endpoint="digits",
            method="infer",
            status=200,
            reasons=more.pop("reasons", ("drawn",)),
            took_s=0.1,
            **more,
        )
        writer = Writer(self.folder / project / "digits", f"{gateway}{request_id}")
        writer.append(self.keys.project(project).data, msgspec.json.encode(record), HOUR_S, at_s)
        writer.close()

    def ids(self, project: str = "team", *, now_s: float = NOON_S, limit: int = 100, **wanted: Any) -> list[str]:
        found = self.store.read(project, "digits", Wanted(limit=limit, **wanted), now_s)
        return [record.id for record in found]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_the_newest_come_first_whichever_gateway_wrote_them(shelf: Shelf) -> None:
    for number in range(6):
        shelf.add(f"r{number}", NOON_S + number, gateway=f"g{number % 2}-")
    assert shelf.ids() == ["r5", "r4", "r3", "r2", "r1", "r0"]
    assert shelf.ids(limit=2) == ["r5", "r4"]


def test_the_newest_hour_is_enough_when_it_has_enough(shelf: Shelf) -> None:
    shelf.add("old", NOON_S - HOUR_S)
    shelf.add("new", NOON_S)
    assert shelf.ids(limit=1) == ["new"]
    assert shelf.ids(limit=2) == ["new", "old"]


def test_only_what_is_asked_for(shelf: Shelf) -> None:
    shelf.add("a1", NOON_S, reasons=("error",), tenant="acme", key="k1")
    shelf.add("a2", NOON_S + 1, reasons=("drawn", "slow"), key="k2")
    shelf.add("b1", NOON_S + 2)
    assert shelf.ids(reasons=("error",)) == ["a1"]
    assert shelf.ids(reasons=("error", "slow")) == ["a2", "a1"]
    assert shelf.ids(tenant="acme") == ["a1"]
    assert shelf.ids(key="k2") == ["a2"]
    assert shelf.ids(id="a") == ["a2", "a1"]
    assert shelf.ids(since_s=NOON_S + 1) == ["b1", "a2"]


def test_what_is_past_its_time_is_not_shown_though_it_lies_there(shelf: Shelf) -> None:
    shelf.add("r", NOON_S)
    assert shelf.ids(now_s=NOON_S + 2 * HOUR_S - 1) == ["r"]
    assert shelf.ids(now_s=NOON_S + 2 * HOUR_S) == []
    assert shelf.store.sweep(NOON_S + 2 * HOUR_S) == 1
    assert shelf.store.sweep(NOON_S + 2 * HOUR_S) == 0


def test_a_project_sees_its_own_alone(shelf: Shelf) -> None:
    shelf.add("mine", NOON_S)
    shelf.add("theirs", NOON_S, project="other")
    assert shelf.ids("team") == ["mine"]
    assert shelf.ids("other") == ["theirs"]
    assert shelf.ids("nobody") == []
    (theirs,) = (shelf.folder / "other" / "digits").iterdir()
    theirs.rename(shelf.folder / "team" / "digits" / theirs.name)
    assert shelf.ids("team") == ["mine"]


def test_deleting_takes_one_endpoints_samples(shelf: Shelf) -> None:
    shelf.add("mine", NOON_S)
    shelf.add("theirs", NOON_S, project="other")
    assert shelf.store.delete("team", "digits") == 1
    assert (shelf.ids("team"), shelf.ids("other")) == ([], ["theirs"])


def test_without_the_master_key_nothing_is_read(shelf: Shelf) -> None:
    shelf.add("mine", NOON_S)
    other = shelf.folder / "other.key"
    other.write_text("00" * 32)
    blind = SampleStore(shelf.folder, KeyRing(shelf.folder, str(other)), 1 << 30)
    with pytest.raises(Unreadable):
        blind.read("team", "digits", Wanted(limit=1), NOON_S)


def test_a_record_of_another_form_is_passed_over(shelf: Shelf) -> None:
    shelf.add("mine", NOON_S)
    writer = Writer(shelf.folder / "team" / "digits", "g9-")
    writer.append(shelf.keys.project("team").data, b'{"id": 5}', HOUR_S, NOON_S)
    writer.append(shelf.keys.project("team").data, b"\xff", HOUR_S, NOON_S)
    writer.close()
    assert shelf.ids() == ["mine"]
