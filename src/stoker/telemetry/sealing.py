"""The keys of samples: what is kept of requests is only readable with the platform's master key.

One master key a state folder, in `samples/master.key` (0600) or in another file that a setting names; a key in the
environment would lie in the agent's records of its processes. It wraps one pair of keys a project,
`samples/PROJECT/project.key`: one seals the project's records (AES-256-GCM), the other makes its pseudonyms. Deleting
a project's file makes all of its samples unreadable, copies too.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
SEALED_EXTRA_BYTES: Final = NONCE_BYTES + 16
MASTER: Final = "master.key"
OF_PROJECT: Final = "project.key"


class Unreadable(Exception):
    """What was sealed cannot be opened: another key, another place, or changed bytes."""


class ProjectKeys(NamedTuple):
    """`data` seals records, `names` makes pseudonyms."""

    data: bytes
    names: bytes


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
        master: a file with 64 hex digits, which must be there; "": master.key in `folder`.
    """

    def __init__(self, folder: Path, master: str = "") -> None:
        self._folder = folder
        self._given = master
        self._master = b""
        self._known: dict[str, ProjectKeys] = {}

    def project(self, project: str, *, may_make: bool = True) -> ProjectKeys:
        """Return the keys of a project. Raises OSError, and Unreadable when the master key does not open them.

        With `may_make` off, a project that has no keys is a FileNotFoundError.
        """
        found = self._known.get(project)
        if found is None:
            path = self._folder / project / OF_PROJECT
            place = b"stoker project keys " + project.encode()
            if may_make and not path.exists():
                _make_once(path, seal(self._key(may_make=True), secrets.token_bytes(2 * KEY_BYTES), place))
            sealed = path.read_bytes()
            plain = opened(self._key(may_make=False), sealed, place)
            found = self._known[project] = ProjectKeys(plain[:KEY_BYTES], plain[KEY_BYTES:])
        return found

    def forget(self) -> None:
        """Read every key again when it is next asked for."""
        self._known.clear()
        self._master = b""

    def _key(self, *, may_make: bool) -> bytes:
        if not self._master:
            path = Path(self._given) if self._given else self._folder / MASTER
            if may_make and not self._given and not path.exists():
                _make_once(path, secrets.token_hex(KEY_BYTES).encode())
            text = path.read_text().strip()
            self._master = master_key(text)
        return self._master


def master_key(text: str) -> bytes:
    """Return the key that `text` spells. Raises Unreadable unless it is 64 hex digits."""
    with suppress(ValueError):
        key = bytes.fromhex(text)
        if len(key) == KEY_BYTES:
            return key
    raise Unreadable("the master key of samples is not 64 hex digits")


def _make_once(path: Path, data: bytes) -> None:
    """Write `path` whole unless somebody else did; a link, other than a rename, never replaces what is there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(partial)
    finally:
        partial.unlink(missing_ok=True)
