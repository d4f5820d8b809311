"""Sealed files that only grow: cut, damaged, moved, too old, too many, on a disk that is full."""

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.telemetry import segments
from stoker.telemetry.sealing import LOCK, MASTER, OF_PROJECT, KeyRing, Unreadable, opened, seal
from stoker.telemetry.segments import HOUR_S, Name, Writer

KEY = bytes(range(32))
NOON_S = 1_764_331_200.0


def written(folder: Path, *records: bytes, ttl_s: float = 60.0, now_s: float = NOON_S) -> Path:
    writer = Writer(folder / "team" / "digits", "g0-")
    for record in records:
        writer.append(KEY, record, ttl_s, now_s)
    writer.close()
    return segments.segments(folder / "team" / "digits")[0][1]


def test_records_are_read_as_they_were_written_and_not_with_another_key(tmp_path: Path) -> None:
    path = written(tmp_path, b"one", b"", b"three" * 1000)
    assert list(segments.read(path, KEY)) == [b"one", b"", b"three" * 1000]
    assert list(segments.read(path, bytes(32))) == []
    assert b"three" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@settings(max_examples=40)
@given(st.integers(0, 400))
def test_a_file_cut_anywhere_gives_the_records_before_the_cut(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    records = [b"a" * 20, b"b" * 40, b"c" * 60, b"d" * 80]
    path = written(tmp_path_factory.mktemp("cut"), *records)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    found = list(segments.read(path, KEY))
    assert found == records[: len(found)]
    assert len(found) == sum(8 + sum(len(each) + 32 for each in records[: n + 1]) <= cut for n in range(4))


@settings(max_examples=40)
@given(st.integers(8, 300), st.integers(1, 255))
def test_a_changed_byte_never_gives_another_record(
    tmp_path_factory: pytest.TempPathFactory, at: int, change: int
) -> None:
    records = [b"a" * 20, b"b" * 40, b"c" * 60]
    path = written(tmp_path_factory.mktemp("changed"), *records)
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= change
    path.write_bytes(data)
    found = list(segments.read(path, KEY))
    assert set(found) < set(records)


def test_a_record_moved_to_another_endpoint_or_place_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path, b"one", b"two")
    other = tmp_path / "team" / "other" / path.name
    other.parent.mkdir()
    other.write_bytes(path.read_bytes())
    assert list(segments.read(other, KEY)) == []
    head, size = len(segments.MAGIC), 4 + len(b"one") + 28
    data = path.read_bytes()
    path.write_bytes(data[:head] + data[head + size :] + data[head : head + size])
    assert list(segments.read(path, KEY)) == []


def test_a_disk_that_takes_half_a_record_leaves_the_file_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(tmp_path / "team" / "digits", "g0-")
    writer.append(KEY, b"first", 60, NOON_S)
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:10]))
    with pytest.raises(OSError, match="only 10 of"):
        writer.append(KEY, b"second", 60, NOON_S)
    monkeypatch.undo()
    writer.append(KEY, b"third", 60, NOON_S)
    writer.close()
    found = [
        record for _, path in segments.segments(tmp_path / "team" / "digits") for record in segments.read(path, KEY)
    ]
    assert sorted(found) == [b"first", b"third"]


def test_a_new_hour_and_a_deleted_file_begin_another(tmp_path: Path) -> None:
    folder = tmp_path / "team" / "digits"
    writer = Writer(folder, "g0-")
    writer.append(KEY, b"one", 60, NOON_S)
    writer.append(KEY, b"two", 60, NOON_S + HOUR_S)
    assert [name.hour_s for name, _ in segments.segments(folder)] == [int(NOON_S) + HOUR_S, int(NOON_S)]
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    writer.append(KEY, b"three", 60, NOON_S + HOUR_S)
    writer.close()
    assert [list(segments.read(path, KEY)) for _, path in segments.segments(folder)] == [[b"three"]]


def test_what_is_too_old_goes_then_the_oldest_hours_until_the_rest_fits(tmp_path: Path) -> None:
    def count() -> int:
        return len(segments.segments(tmp_path / "team" / "digits"))

    for hour in range(5):
        written(tmp_path, b"x" * 1000, ttl_s=10 * HOUR_S, now_s=NOON_S + hour * HOUR_S)
    (tmp_path / "team" / "digits" / "notes.txt").write_text("not a segment")
    assert segments.sweep(tmp_path, 1 << 30, NOON_S + 10 * HOUR_S) == 0
    assert segments.sweep(tmp_path, 1 << 30, NOON_S + 12 * HOUR_S) == 2
    assert count() == 3
    assert segments.sweep(tmp_path, 2500, NOON_S) == 1
    assert [name.hour_s for name, _ in segments.segments(tmp_path / "team" / "digits")] == [
        int(NOON_S) + 4 * HOUR_S,
        int(NOON_S) + 3 * HOUR_S,
    ]
    assert segments.sweep(tmp_path, 0, NOON_S) == 2
    assert (tmp_path / "team" / "digits" / "notes.txt").exists()


def test_what_cannot_be_deleted_keeps_nothing_else_and_is_told(tmp_path: Path) -> None:
    for hour in range(4):
        written(tmp_path, b"x" * 1000, ttl_s=10 * HOUR_S, now_s=NOON_S + hour * HOUR_S)
    folder = tmp_path / "team" / "digits"
    held = folder / f"{int(NOON_S)}-{int(NOON_S) + HOUR_S}-held{segments.SUFFIX}"
    held.mkdir()  # which no unlink takes
    with pytest.raises(OSError):
        segments.sweep(tmp_path, 1 << 30, NOON_S + 13 * HOUR_S)
    assert [name.hour_s for name, _ in segments.segments(folder)] == [NOON_S + 3 * HOUR_S, NOON_S]
    held.rename(held.with_name(f"{int(NOON_S)}-{int(NOON_S) + 99 * HOUR_S}-held{segments.SUFFIX}"))
    with pytest.raises(OSError):
        segments.sweep(tmp_path, 0, NOON_S)
    assert [path.is_dir() for _, path in segments.segments(folder)] == [True]


@given(st.text(max_size=40))
def test_a_name_that_is_no_segments_is_told(text: str) -> None:
    name = Name.of(Path("x") / (text.replace("/", "") or "x"))
    assert name is None or text.endswith(".seg")


def test_all_who_ask_at_once_get_the_same_keys(tmp_path: Path) -> None:
    found: list[object] = []
    gate = threading.Barrier(8)

    def ask() -> None:
        gate.wait()
        found.append(KeyRing(tmp_path).project("team"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 8
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [LOCK, MASTER, OF_PROJECT]
    assert stat.S_IMODE((tmp_path / MASTER).stat().st_mode) == 0o600


def test_projects_have_other_keys_and_a_wrong_master_opens_none(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    assert ring.project("one") != ring.project("two")
    assert KeyRing(tmp_path).project("one") == ring.project("one")
    other, wrong = tmp_path / "other", tmp_path / "wrong"
    other.write_text("00" * 32 + "\n")
    wrong.write_text("secret")
    with pytest.raises(Unreadable):
        KeyRing(tmp_path, str(other)).project("one")
    with pytest.raises(Unreadable, match="64 hex digits"):
        KeyRing(tmp_path, str(wrong)).project("three")
    with pytest.raises(FileNotFoundError):
        ring.project("four", may_make=False)
    (tmp_path / "two" / OF_PROJECT).write_bytes((tmp_path / "one" / OF_PROJECT).read_bytes())
    with pytest.raises(Unreadable):
        KeyRing(tmp_path).project("two")


def test_a_master_key_that_is_named_is_read_there_and_never_made(tmp_path: Path) -> None:
    named = tmp_path / "secret"
    with pytest.raises(Unreadable, match="is gone"):
        KeyRing(tmp_path / "samples", str(named)).project("one")
    named.write_text("ab" * 32)
    KeyRing(tmp_path / "samples", str(named)).project("one")
    assert not (tmp_path / "samples" / MASTER).exists()


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_what_is_sealed_opens_in_its_place_alone(plain: bytes, place: bytes) -> None:
    sealed = seal(KEY, plain, place)
    assert opened(KEY, sealed, place) == plain
    with pytest.raises(Unreadable):
        opened(KEY, sealed, place + b"x")
