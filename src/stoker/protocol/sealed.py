"""A long stream that only who has the passphrase or the key file can read, and nobody can change, cut or reorder.

A head in plain JSON, then pieces of PIECE_BYTES under AES-256-GCM. The key is made for this file alone (scrypt of a
passphrase, or HKDF of a key file, with a salt of its own); a piece's nonce is its number and whether it is the last,
and the head is in every piece's tag: the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár, 2015).
"""

import io
import os
from typing import BinaryIO, Final, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from stoker.types.errors import InvalidInput, RefusedArtifact

MAGIC: Final = b"stoker backup v1\n"
PIECE_BYTES: Final = 1 << 20
TAG_BYTES: Final = 16
SALT_BYTES: Final = 16
HEAD_BYTES_MAX: Final = 4096
KEY_FILE_BYTES_MIN: Final = 32
SCRYPT_COST: Final = 17  # 2^17 blocks of 8: 128 MiB and a third of a second (OWASP's advice, 2023)
SCRYPT_COST_MAX: Final = 20

Kind = Literal["passphrase", "key-file"]


class Head(msgspec.Struct, frozen=True):
    """What anybody may read of a sealed stream. `about`: what its writer says of it."""

    kind: Kind
    salt: str
    cost: int
    about: dict[str, str | float]


class Secret(msgspec.Struct, frozen=True):
    """What opens a stream: the words of a person, or the bytes of a file."""

    kind: Kind
    data: bytes


def passphrase(words: str) -> Secret:
    """Return a passphrase as a secret. Raises InvalidInput for an empty one."""
    if not words:
        raise InvalidInput("an empty passphrase keeps nobody out")
    return Secret("passphrase", words.encode())


def key_file(data: bytes) -> Secret:
    """Return the bytes of a key file as a secret. Raises InvalidInput for too few."""
    if len(data) < KEY_FILE_BYTES_MIN:
        raise InvalidInput(f"a key file of {len(data)} bytes; make one with: openssl rand -hex 32 > FILE")
    return Secret("key-file", data)


class SealingWriter(io.RawIOBase):
    """Writes a sealed stream. It is whole once `close` returned."""

    def __init__(self, file: BinaryIO, secret: Secret, about: dict[str, str | float]) -> None:
        salt = os.urandom(SALT_BYTES)
        head = Head(secret.kind, salt.hex(), SCRYPT_COST if secret.kind == "passphrase" else 0, about)
        self._head = MAGIC + msgspec.json.encode(head) + b"\n"
        self._file = file
        self._key = AESGCM(_key(secret, head))
        self._waiting = bytearray()
        self._number = 0
        file.write(self._head)

    def writable(self) -> bool:
        """See io.RawIOBase."""
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """See io.RawIOBase; takes all of it."""
        self._waiting += data
        while len(self._waiting) > PIECE_BYTES:  # the last one is not known before `finish`
            self._seal(bytes(self._waiting[:PIECE_BYTES]), is_last=False)
            del self._waiting[:PIECE_BYTES]
        return len(data)

    def finish(self) -> None:
        """Write the last piece. What is not finished cannot be read."""
        self._seal(bytes(self._waiting), is_last=True)
        self._waiting.clear()

    def _seal(self, piece: bytes, *, is_last: bool) -> None:
        self._file.write(self._key.encrypt(_nonce(self._number, is_last=is_last), piece, self._head))
        self._number += 1


class OpeningReader(io.RawIOBase):
    """Reads a sealed stream. Raises RefusedArtifact where it was changed, or for another secret."""

    def __init__(self, file: BinaryIO, secret: Secret) -> None:
        head, self._head = read_head(file)
        if head.kind != secret.kind:
            raise InvalidInput(f"it was sealed with a {head.kind.replace('-', ' ')}, and that was not given")
        self._file = file
        self._key = AESGCM(_key(secret, head))
        self._next = file.read(PIECE_BYTES + TAG_BYTES)
        self._piece = memoryview(b"")
        self._number = 0
        self._is_over = False

    def readable(self) -> bool:
        """See io.RawIOBase."""
        return True

    def readinto(self, target: "bytearray | memoryview") -> int:  # type: ignore[override]
        """See io.RawIOBase."""
        if not self._piece and not self._is_over:
            self._open()
        count = min(len(target), len(self._piece))
        target[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def _open(self) -> None:
        sealed, self._next = self._next, self._file.read(PIECE_BYTES + TAG_BYTES)
        self._is_over = not self._next
        try:
            plain = self._key.decrypt(_nonce(self._number, is_last=self._is_over), sealed, self._head)
        except (InvalidTag, ValueError) as wrong:
            why = "another passphrase or key, or it was changed" if not self._number else "it was changed or cut off"
            raise RefusedArtifact(f"it cannot be opened: {why}") from wrong
        self._piece = memoryview(plain)
        self._number += 1


def read_head(file: BinaryIO) -> tuple[Head, bytes]:
    """Return the head of a sealed stream, decoded and as it is written. Raises InvalidInput for what is none."""
    if file.read(len(MAGIC)) != MAGIC:
        raise InvalidInput("this is no backup of stoker")
    line = file.readline(HEAD_BYTES_MAX)
    try:
        head = msgspec.json.decode(line, type=Head)
        if not 0 <= head.cost <= SCRYPT_COST_MAX or len(bytes.fromhex(head.salt)) != SALT_BYTES:
            raise ValueError("it asks for more than is allowed")
    except (msgspec.MsgspecError, ValueError) as wrong:
        raise InvalidInput(f"the head of this backup cannot be read: {wrong}") from wrong
    return head, MAGIC + line


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if is_last else b"\x00")


def _key(secret: Secret, head: Head) -> bytes:
    salt = bytes.fromhex(head.salt)
    if secret.kind == "passphrase":
        return Scrypt(salt=salt, length=32, n=1 << head.cost, r=8, p=1).derive(secret.data)
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=MAGIC).derive(secret.data)
