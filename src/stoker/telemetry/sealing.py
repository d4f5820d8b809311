"""The keys of samples: what is kept of requests is only readable with the platform's master key.

One master key a state folder, in `samples/master.key` (0600) or in another file that a setting names; a key in the
environment would lie in the agent's records of its processes. It wraps the keys of each project,
`samples/PROJECT/project.key`: one seals the project's records (AES-256-GCM), the other makes its pseudonyms, and those
that sealed before a rotation still open. One project's open nothing of another's. Destroying a project's file makes all
of its samples unreadable, copies too.

A file of keys is replaced whole, under the lock of the folder. While the master key is being replaced its file has the
old one behind the new one, so that whatever a kill leaves can be opened.
"""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
SEALED_EXTRA_BYTES: Final = NONCE_BYTES + 16
MASTER: Final = "master.key"
OF_PROJECT: Final = "project.key"
LOCK: Final = ".keys.lock"
OLDER_MAX: Final = 16  # keys of a project that only open; what the oldest sealed is unreadable then
MASTERS_MAX: Final = 8  # lines of the master key's file
LOCK_WAIT_S: Final = 5.0
LOCK_LOOK_S: Final = 0.01


class Unreadable(Exception):
    """What was sealed cannot be opened: another key, another place, or changed bytes."""


class ProjectKeys(NamedTuple):
    """`data` seals records, `names` makes pseudonyms; `older` sealed before, the newest first."""

    data: bytes
    names: bytes
    older: tuple[bytes, ...] = ()

    @property
    def opening(self) -> tuple[bytes, ...]:
        """Every key that may have sealed a record."""
        return (self.data, *self.older)


def seal(key: bytes, plain: bytes, place: bytes) -> bytes:
    """Return nonce, ciphertext and tag; opens only with the same `place`."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, place)


def opened(key: bytes, sealed: bytes, place: bytes) -> bytes:
    """Return what was sealed. Raises Unreadable."""
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place)
    except (InvalidTag, ValueError) as wrong:
        raise Unreadable("another key, or changed bytes") from wrong


class KeyRing:
    """The keys in `folder`. Any process of the platform may make a missing one; the first one stays.

    Args:
        master: a file with 64 hex digits, which must be there; "": master.key in `folder`. Lines behind the first are
            keys of before, which only open.
    """

    def __init__(self, folder: Path, master: str = "") -> None:
        self._folder = folder
        self._master = Path(master) if master else folder / MASTER
        self._is_own = not master
        self._known: dict[str, tuple[str, tuple[int, int], ProjectKeys]] = {}  # path and mark of its file

    def project(self, project: str, *, may_make: bool = True) -> ProjectKeys:
        """Return the keys of a project, as they are now. Raises OSError, and Unreadable when no master key opens them.

        With `may_make` off, a project that has no keys is a FileNotFoundError.
        """
        known = self._known.get(project)
        path = known[0] if known is not None else str(self._folder / project / OF_PROJECT)
        try:
            mark = _mark(path)
        except FileNotFoundError:  # none yet, or destroyed
            self._known.pop(project, None)
            if not may_make:
                raise
            self._make(project)
            known, mark = None, _mark(path)
        if known is None or known[1] != mark:
            known = self._known[project] = (path, mark, self._read(project, self._masters()))
        return known[2]

    def forget(self) -> None:
        """Read every key again when it is next asked for."""
        self._known.clear()

    def destroy(self, project: str) -> bool:
        """Make all that was ever sealed for a project unreadable; return whether there was a key. Raises OSError.

        The bytes are written over before the file goes; a disk that copies on write may have them still.
        """
        path = self._folder / project / OF_PROJECT
        self._known.pop(project, None)
        if not path.exists():
            return False
        with self.locked():
            with suppress(FileNotFoundError):
                handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                with os.fdopen(handle, "wb") as file:
                    file.write(os.urandom(os.fstat(file.fileno()).st_size))
                    file.flush()
                    os.fsync(file.fileno())
            path.unlink(missing_ok=True)
            _sync(path.parent)
        return True

    def rotate(self, project: str) -> None:
        """Seal what comes with a new key; those of before still open. Raises OSError, Unreadable."""
        with self.locked():
            masters = self._masters()
            found = self._read(project, masters)
            newer = ProjectKeys(secrets.token_bytes(KEY_BYTES), found.names, found.opening[:OLDER_MAX])
            _replace(self._folder / project / OF_PROJECT, _wrapped(masters[0], project, newer))

    def rotate_master(self) -> tuple[int, list[str]]:
        """Wrap all projects' keys anew, in a new master key; return how many, and whose cannot be opened.

        A master key of another file is not made here: its first line wraps, the others open. Whose keys cannot be
        opened keep the old master key in the file. Raises OSError, Unreadable.
        """
        with self.locked():
            masters = self._masters()
            if self._is_own:
                masters = (secrets.token_bytes(KEY_BYTES), *masters[: MASTERS_MAX - 1])
                _replace(self._master, _spelled(masters))
            count, broken = 0, []
            for path in sorted(self._folder.glob(f"*/{OF_PROJECT}")):
                project = path.parent.name
                try:
                    _replace(path, _wrapped(masters[0], project, self._read(project, masters)))
                    count += 1
                except Unreadable:
                    broken.append(project)
            if self._is_own and not broken:
                _replace(self._master, _spelled(masters[:1]))
        return count, broken

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's keys as they are: none is made, replaced or destroyed meanwhile. Raises Unreadable."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            ends_s = time.monotonic() + LOCK_WAIT_S
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > ends_s:
                        raise Unreadable(f"another process holds {self._folder / LOCK}") from None
                    time.sleep(LOCK_LOOK_S)
            yield
        finally:
            os.close(handle)

    def files(self) -> list[Path]:
        """Return every file with keys that lies in the folder."""
        own = [self._folder / MASTER] if (self._folder / MASTER).is_file() else []
        return own + sorted(self._folder.glob(f"*/{OF_PROJECT}"))

    def _make(self, project: str) -> None:
        path = self._folder / project / OF_PROJECT
        with self.locked():
            if path.exists():
                return
            if self._is_own and not self._master.exists():
                self._make_master()
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            keys = ProjectKeys(secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES))
            _replace(path, _wrapped(self._masters()[0], project, keys))

    def _make_master(self) -> None:
        """Make the first one. Raises Unreadable where there must have been one: a new one would open nothing."""
        if any(self._folder.glob(f"*/{OF_PROJECT}")):
            raise Unreadable(self._gone())
        _replace(self._master, _spelled((secrets.token_bytes(KEY_BYTES),)))

    def _masters(self) -> tuple[bytes, ...]:
        try:
            text = self._master.read_text()
        except FileNotFoundError:
            raise Unreadable(self._gone()) from None
        except UnicodeDecodeError:
            text = ""
        return tuple(map(master_key, text.split()[:MASTERS_MAX] or [""]))

    def _gone(self) -> str:
        return (
            f"the master key of samples, {self._master}, is gone; restore it, or give up what it opened with "
            "`stoker samples forget --project PROJECT` for each project"
        )

    def _read(self, project: str, masters: tuple[bytes, ...]) -> ProjectKeys:
        sealed = (self._folder / project / OF_PROJECT).read_bytes()
        for master in masters:
            with suppress(Unreadable):
                plain = opened(master, sealed, _place(project))
                keys = [plain[at : at + KEY_BYTES] for at in range(0, len(plain), KEY_BYTES)]
                if len(keys) >= 2 and len(keys[-1]) == KEY_BYTES:
                    return ProjectKeys(keys[0], keys[1], tuple(keys[2:]))
        raise Unreadable(
            f"the keys of project {project!r} are damaged, or wrapped in another master key than {self._master} has; "
            f"restore both from one backup, or give its samples up with `stoker samples forget --project {project}`"
        )


def master_key(text: str) -> bytes:
    """Return the key that `text` spells. Raises Unreadable unless it is 64 hex digits."""
    with suppress(ValueError):
        key = bytes.fromhex(text)
        if len(key) == KEY_BYTES:
            return key
    raise Unreadable("the master key of samples is not 64 hex digits")


def _mark(path: str) -> tuple[int, int]:
    """Return what tells one content of a file from another: it is asked for each sample, so in a microsecond."""
    status = os.stat(path)  # noqa: PTH116
    return status.st_ino, status.st_mtime_ns


def _place(project: str) -> bytes:
    return b"stoker project keys " + project.encode()


def _wrapped(master: bytes, project: str, keys: ProjectKeys) -> bytes:
    return seal(master, b"".join((keys.data, keys.names, *keys.older)), _place(project))


def _spelled(masters: tuple[bytes, ...]) -> bytes:
    return "".join(f"{each.hex()}\n" for each in masters).encode()


def _replace(path: Path, data: bytes) -> None:
    """Write `path` whole or not at all, durably. Under the lock of the folder."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
