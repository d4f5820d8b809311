"""A backup becomes a state folder again, or is only held to what it says.

Everything is unpacked beside its place, compared to the last byte, and only then renamed: a restore that is killed
leaves what was there as it was. A folder that was there is kept under another name. Into an empty one, which may be a
disk of its own, files are moved, `state.db` as the last: without it nothing would start from half of them.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from stoker.app import backup
from stoker.app.backup import STATE, Contents, Told
from stoker.app.down import marked
from stoker.app.home import Home
from stoker.blob.folder import sync_folder
from stoker.protocol.sealed import Head, Secret
from stoker.store import audit, copies, schema
from stoker.store.engine import Database, SchemaTooNew, open_engine, sqlite_url
from stoker.store.recording import Actor
from stoker.types.audit import PLATFORM
from stoker.types.errors import Conflict, RefusedArtifact

BESIDE: Final = ".restoring"  # in an empty folder, or after the name of one that is not


def restore(
    path: Path, home: Home, secret: Secret, told: Told, *, replace: bool = False
) -> tuple[Contents, Path | None]:
    """Make the platform of a backup the one in `home`; return what it holds, and where the folder of before is.

    Raises Conflict where a platform runs there or the folder is not empty (unless `replace`); SchemaTooNew;
    RefusedArtifact for a backup that was changed or is not whole; InvalidInput; OSError.
    """
    _refuse_newer(backup.head(path))
    if marked(home) or _is_locked(home):
        raise Conflict(f"a platform runs in {home.root}; end it before: stoker down")
    is_taken = home.root.is_dir() and any(each.name != BESIDE for each in home.root.iterdir())
    if is_taken and not replace:
        raise Conflict(f"{home.root} is not empty; --replace keeps what is there under another name")
    is_there = home.root.is_dir() and not is_taken
    beside = home.root / BESIDE if is_there else home.root.with_name(home.root.name + BESIDE)
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(mode=0o700, parents=True)
    try:
        contents = backup.read(path, secret, _Folder(beside), told)
        _check(beside / STATE)
        _note(beside / STATE, contents)
        _sync(beside)
        before = _swap(home.root, beside, is_taken=is_taken)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return contents, before


def verify(path: Path, secret: Secret, told: Told) -> Contents:
    """Return what a backup holds, if it could be restored now. Raises as `restore`; leaves nothing."""
    _refuse_newer(backup.head(path))
    with tempfile.TemporaryDirectory(prefix="stoker-verify-", dir=path.absolute().parent) as scratch:
        contents = backup.read(path, secret, _Folder(Path(scratch), only=STATE), told)
        _check(Path(scratch) / STATE)
        held = {each.path.rpartition("/")[2] for each in contents.files if each.path.startswith("blobs/")}
        if contents.schema == schema.VERSION:
            needed, _ = copies.needed(Path(scratch) / STATE)
            missing = sorted(digest for digest in needed if digest.removeprefix("sha256:") not in held)
            if missing:
                raise RefusedArtifact(f"it has no blob {missing[0]}, which its rows need")
    return contents


class _Folder:
    """Writes what is read below a folder; `only`: nothing but that file."""

    def __init__(self, root: Path, only: str = "") -> None:
        self._root = root
        self._only = only

    def take(self, path: str, mode: int, chunks: Iterator[bytes]) -> None:
        """See Sink."""
        if self._only not in ("", path):
            for _ in chunks:
                pass
            return
        target = self._root / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "wb") as file:  # noqa: PTH123 - the mode must be right from the first byte
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        target.chmod(mode & 0o700 | mode & 0o044)


def _is_locked(home: Home) -> bool:
    """Return whether a control holds the folder (app/control_main.py, `take_lock`)."""
    try:
        lock = os.open(home.run / "control.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(lock)


def _refuse_newer(head: Head) -> None:
    made = str(head.about.get("schema", ""))
    if made > schema.VERSION:
        raise SchemaTooNew(
            f"this backup is of schema {made}, this stoker knows {schema.VERSION}; restore it with stoker "
            f"{head.about.get('stoker', 'that made it')}"
        )


def _check(database: Path) -> None:
    if not database.is_file() or not copies.is_whole(database):
        raise RefusedArtifact(f"its {STATE} cannot be read from end to end")


def _note(state: Path, contents: Contents) -> None:
    """Write down in the audit that everything after the backup is not in it; an older schema has none."""
    if contents.schema != schema.VERSION:
        return
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(contents.made_at_s))
    act = Actor(PLATFORM, "restore").act("done", f"from the backup of {when}; what was done since is not in here")
    database = Database(open_engine(sqlite_url(state)))
    try:
        database.write(lambda connection: audit.append(connection, act))
    finally:
        database.close()


def _swap(root: Path, beside: Path, *, is_taken: bool) -> Path | None:
    """Give the new folder its name; return where the one of before is."""
    before = None
    if is_taken:
        before = root.with_name(f"{root.name}.before-{time.strftime('%Y%m%d-%H%M%S')}")
        root.rename(before)
    if beside.parent == root:
        for each in sorted(beside.iterdir(), key=lambda each: each.name == STATE):
            each.rename(root / each.name)
        sync_folder(root)
    else:
        beside.rename(root)
        sync_folder(root.parent)
    return before


def _sync(root: Path) -> None:
    """Have every folder's entries on the disk."""
    for folder in (root, *(each for each in root.rglob("*") if each.is_dir())):
        sync_folder(folder)
