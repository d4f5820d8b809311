import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stoker.blob.folder import FolderBlobs
from stoker.types.errors import Unavailable
from tests.blob.conformance import Conformance, digest_of


def folders(tmp_path: Path) -> tuple[Path, Path]:
    root, tmp = tmp_path / "blobs", tmp_path / "tmp"
    root.mkdir(exist_ok=True)
    tmp.mkdir(exist_ok=True)
    return root, tmp


@pytest.fixture
def store(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(*folders(tmp_path))


class TestFolder(Conformance):
    pass


def test_blobs_are_read_only_and_stay_after_a_restart(store: FolderBlobs, tmp_path: Path) -> None:
    blob = store.put([b"x"])
    assert store.path(blob.digest).stat().st_mode & 0o777 == 0o444
    again = FolderBlobs(*folders(tmp_path))
    assert again.clean() == 0
    assert again.has(blob.digest)


def test_a_damaged_blob_is_found_removed_and_can_be_put_again(store: FolderBlobs) -> None:
    blob = store.put([b"weights"])
    path = store.path(blob.digest)
    path.chmod(0o644)
    path.write_bytes(b"wEights")
    assert not store.verify(blob.digest)
    assert not store.has(blob.digest)
    store.put([b"weights"], expected=blob.digest)
    assert store.verify(blob.digest)


def test_foreign_files_in_the_folder_are_not_blobs(store: FolderBlobs, tmp_path: Path) -> None:
    (tmp_path / "blobs" / "README").write_text("x")
    (tmp_path / "blobs" / "ab").mkdir()
    (tmp_path / "blobs" / "ab" / "notes").write_text("x")
    assert list(store.list()) == []


def test_a_full_disk_is_said_and_leaves_nothing(store: FolderBlobs, tmp_path: Path) -> None:
    # A limit on file size stands for the full disk: write(2) takes a part, then fails.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(Unavailable, match="no room on the disk"):
            store.put([bytes(60_000), bytes(60_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert list(store.list()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from stoker.blob.folder import FolderBlobs
blobs = FolderBlobs(Path(sys.argv[1]), Path(sys.argv[2]))
with blobs.writer() as writer:
    writer.write(b"half of a model")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_while_it_writes_leaves_what_the_next_start_cleans(tmp_path: Path) -> None:
    root, tmp = folders(tmp_path)
    done = subprocess.run([sys.executable, "-c", KILLED, str(root), str(tmp)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp.iterdir())) == 1
    store = FolderBlobs(root, tmp)
    assert list(store.list()) == []
    assert store.clean() == 1
    assert list(tmp.iterdir()) == []


def test_cleaning_leaves_what_is_not_its_own(store: FolderBlobs, tmp_path: Path) -> None:
    (tmp_path / "tmp" / "other").write_text("x")
    assert store.clean() == 0
    assert (tmp_path / "tmp" / "other").exists()


def test_many_threads_put_read_and_delete_without_ever_seeing_half_a_blob(store: FolderBlobs) -> None:
    data = os.urandom(200_000)
    wrong: list[str] = []

    def put() -> None:
        for _ in range(20):
            store.put([data[:100_000], data[100_000:]])

    def look() -> None:
        for _ in range(200):
            try:
                path = store.path(digest_of(data))
                if path.stat().st_size != len(data):
                    wrong.append("size")
            except Exception as error:
                if "no blob" not in str(error) and not isinstance(error, FileNotFoundError):
                    wrong.append(repr(error))

    def delete() -> None:
        for _ in range(50):
            store.delete(digest_of(data))

    threads = [threading.Thread(target=work) for work in (put, put, look, look, delete)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    store.put([data])
    assert store.verify(digest_of(data))
