"""Which files a push takes, and what it refuses before anything is sent."""

import hashlib
import os
from pathlib import Path

import pytest

from stoker.client.upload import digest_files, find_files
from stoker.types.errors import InvalidInput, NotFound, RefusedArtifact


def test_a_folder_is_taken_in_order_without_what_tools_leave_behind(tmp_path: Path) -> None:
    for name in ("b.onnx", "a/config.json", "a/__pycache__/x.pyc", ".git/HEAD", ".DS_Store"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [one.path for one in find_files(tmp_path)] == ["a/config.json", "b.onnx"]


def test_links_to_files_are_followed_as_a_hub_cache_needs_it(tmp_path: Path) -> None:
    blob = tmp_path / "models--org--name" / "blobs" / "0123abcd"
    folder = tmp_path / "models--org--name" / "snapshots" / "main"
    for made in (blob.parent, folder):
        made.mkdir(parents=True)
    blob.write_bytes(b"weights")
    (folder / "model.gguf").symlink_to("../../blobs/0123abcd")
    (folder / "again.gguf").symlink_to("model.gguf")
    entries = digest_files(find_files(folder), lambda *_: None)
    assert [(entry.path, entry.size_bytes) for entry in entries] == [("again.gguf", 7), ("model.gguf", 7)]
    assert {entry.digest for entry in entries} == {"sha256:" + hashlib.sha256(b"weights").hexdigest()}


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "inner/../../secret", "../model2/secret"])
def test_a_link_that_leads_out_of_the_folder_takes_nothing_along(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "model2").mkdir()
    for secret in (tmp_path / "secret", tmp_path / "model2" / "secret"):
        secret.write_text("key")
    (folder / "config.json").symlink_to(target)
    with pytest.raises(RefusedArtifact, match=r"config\.json is a link to .*, outside the folder"):
        find_files(folder)


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
