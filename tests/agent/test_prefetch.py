"""Files are brought into the page cache, once, and not for the price of memory."""

import os
from pathlib import Path

import pytest

from stoker.agent.prefetch import CHUNK_BYTES, bring, is_cached

SIZES = {"a.bin": 3 * CHUNK_BYTES + 17, "deep/b.bin": 5, "empty": 0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that are on the disk and not in memory."""
    for name, size in SIZES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(size))
        drop(path)
    if is_all_cached(tmp_path):
        pytest.skip("this filesystem keeps its files in memory")
    return tmp_path


def drop(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def is_all_cached(folder: Path) -> bool:
    with (folder / "a.bin").open("rb") as file:
        return all(is_cached(file.fileno(), at * CHUNK_BYTES, 17) for at in range(4))


def test_files_are_in_memory_afterwards_and_are_not_read_again(folder: Path) -> None:
    asked = []
    assert bring(folder, lambda: asked.append(1) or True) == sum(SIZES.values())  # type: ignore[func-returns-value]
    assert asked
    assert is_all_cached(folder)
    assert bring(folder, lambda: pytest.fail("it was there")) == sum(SIZES.values())


def test_nothing_is_read_once_it_may_not_go_on(folder: Path) -> None:
    asked: list[int] = []

    def once() -> bool:
        asked.append(1)
        return len(asked) <= 1

    assert bring(folder, once) < sum(SIZES.values())
    with (folder / "a.bin").open("rb") as file:
        assert is_cached(file.fileno(), 0, 17)
    drop(folder / "a.bin")
    assert not is_all_cached(folder)
