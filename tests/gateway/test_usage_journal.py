"""A gateway's usage journal on a real disk: what is written is read again, by whom it should, however full it is."""

import errno
import os
from pathlib import Path

import pytest

from stoker.gateway.usage.journal import Journal, seize, sync
from stoker.gateway.usage.reading import Place, Reader, places
from stoker.telemetry.metrics import Registry

SEGMENT = 4096
RECORD = bytes(1000)  # three a segment


def journal(root: Path, segments: int = 8, registry: Registry | None = None) -> Journal:
    made = Journal(root, "gateway-0", registry or Registry("gateway-0"), segments * SEGMENT, SEGMENT)
    made.tend()
    return made


def read(made: Journal | Path, settled: int = 0, count: int = 100) -> list[tuple[int, int, int]]:
    """Return all batches as (first, lost, records)."""
    if isinstance(made, Journal):
        segments = [Place(each.first, each.path) for each in made.segments if each.last >= each.first]
    else:
        segments = places(made)[0]
    reader, found = Reader(settled), []
    while (batch := reader.next(segments, count, 1 << 20)) is not None:
        found.append((batch.first, batch.lost, len(batch.payloads)))
        reader.settle(batch.last)
    return found


def test_what_is_written_is_read_over_segments_from_any_number_on(tmp_path: Path) -> None:
    made = journal(tmp_path)
    for _ in range(8):
        assert made.append(RECORD)
    assert read(made) == [(1, 0, 3), (4, 0, 3), (7, 0, 2)]
    assert read(made, settled=4) == [(5, 0, 2), (7, 0, 2)]
    assert read(made, settled=2, count=2) == [(3, 0, 1), (4, 0, 2), (6, 0, 1), (7, 0, 2)]
    assert read(made, settled=8) == []
    made.append(RECORD)
    assert read(made, settled=8) == [(9, 0, 1)]


def test_settled_segments_are_deleted_and_an_end_leaves_nothing_that_is_settled(tmp_path: Path) -> None:
    made = journal(tmp_path)
    for _ in range(7):
        made.append(RECORD)
    made.settle(5)
    assert [each.first for each in made.segments] == [4, 7]
    assert read(made, settled=5) == [(6, 0, 1), (7, 0, 1)]
    made.close(7)
    assert list(tmp_path.iterdir()) == []


def test_an_end_leaves_what_is_not_settled_to_whoever_comes(tmp_path: Path) -> None:
    made = journal(tmp_path)
    made.append(RECORD)
    assert seize(made.folder) is None
    made.close(0)
    lock = seize(made.folder)
    assert lock is not None
    assert seize(made.folder) is None
    os.close(lock)
    assert read(made.folder) == [(1, 0, 1)]


def test_a_full_journal_keeps_its_last_segment_for_what_must_be_written(tmp_path: Path) -> None:
    registry = Registry("gateway-0")
    made = journal(tmp_path, segments=3, registry=registry)
    written = 0
    while not made.is_full:
        assert made.append(RECORD, must=False)
        written += 1
    assert written == 7  # the first of the third segment, behind which there is room for no other
    assert not made.append(RECORD, must=False)
    assert made.append(RECORD)
    assert made.append(RECORD)
    assert not made.append(RECORD)
    assert registry.snapshot().total("stoker_usage_records_lost_total") == 2
    assert sum(count for _, _, count in read(made)) == 9
    assert sum(path.stat().st_size for path in made.folder.iterdir()) == 3 * SEGMENT
    made.settle(6)
    made.tend()
    assert not made.is_full
    assert made.append(RECORD, must=False)


def test_a_disk_without_room_is_known_before_a_record_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int, _offset: int, _length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    made = journal(tmp_path)
    with monkeypatch.context() as disk:
        disk.setattr(os, "posix_fallocate", full)
        for _ in range(6):
            assert made.append(RECORD)
        assert made.is_full
        made.tend()
        assert made.is_full
    made.tend()
    assert not made.is_full
    assert made.append(RECORD)
    sync(made.unsynced())
    assert read(made) == [(1, 0, 3), (4, 0, 3), (7, 0, 1)]


def test_a_disk_that_takes_nothing_at_the_beginning_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "usage").write_text("a file where a folder should be")
    made = journal(tmp_path / "usage")
    assert made.is_full
    assert not made.append(RECORD)
    (tmp_path / "usage").unlink()
    made.tend()
    assert not made.is_full
    assert made.append(RECORD)


def test_a_broken_segment_is_passed_over_to_the_next_one(tmp_path: Path) -> None:
    made = journal(tmp_path)
    for _ in range(8):
        made.append(RECORD)
    path = made.segments[1].path
    data = bytearray(path.read_bytes())
    data[1500] ^= 1  # in the second record of the second segment: number 5
    path.write_bytes(data)
    assert read(made) == [(1, 0, 3), (4, 0, 1), (7, 2, 2)]
    path.write_bytes(b"")
    made.close(0)
    assert read(made.folder) == [(1, 0, 3), (7, 3, 2)]
