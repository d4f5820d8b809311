"""Which files a push takes, and what it refuses before anything is sent."""

import hashlib
import os
from pathlib import Path

import pytest

from stoker.client.upload import digest_files, find_files
from stoker.types.errors import InvalidInput, NotFound


def test_a_folder_is_taken_in_order_without_what_tools_leave_behind(tmp_path: Path) -> None:
    for name in ("b.onnx", "a/config.json", "a/__pycache__/x.pyc", ".git/HEAD", ".DS_Store"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [one.path for one in find_files(tmp_path)] == ["a/config.json", "b.onnx"]


def test_links_to_files_are_followed_as_a_hub_cache_needs_it(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_bytes(b"weights")
    folder = tmp_path / "snapshot"
    folder.mkdir()
    (folder / "model.gguf").symlink_to(tmp_path / "blobs")
    (entry,) = digest_files(find_files(folder), lambda *_: None)
    assert (entry.path, entry.size_bytes) == ("model.gguf", 7)
    assert entry.digest == "sha256:" + hashlib.sha256(b"weights").hexdigest()


def test_a_linked_folder_a_broken_link_and_a_pipe_are_refused(tmp_path: Path) -> None:
    for number, make in enumerate(
        (lambda at: at.symlink_to(tmp_path), lambda at: at.symlink_to(tmp_path / "nowhere"), os.mkfifo)
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        make(folder / "odd")
        with pytest.raises(InvalidInput, match="odd"):
            find_files(folder)


def test_nothing_there_and_nothing_in_it_say_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no file or folder"):
        find_files(tmp_path / "gone")
    with pytest.raises(InvalidInput, match="holds no files"):
        find_files(tmp_path)


def test_progress_of_hashing_only_grows_and_ends_at_the_whole(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"x" * 3_000_000)
    seen: list[tuple[int, int]] = []
    digest_files(find_files(tmp_path), lambda _, done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (6_000_000, 6_000_000)
