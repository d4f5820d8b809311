"""What a store of content-addressed blobs is to the rest: files by the digest of their bytes, whole or not there.

Every call blocks; callers on an event loop use a thread. Adapters pass `tests/blob`, the one conformance suite.
"""

from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple, Protocol

from stoker.types.ids import Digest

# One blob; a language model of 400 billion parameters in 16 bits, with room.
BLOB_BYTES_MAX = 2**40


class Blob(NamedTuple):
    """What was stored: unpacks as `digest, size_bytes`."""

    digest: Digest
    size_bytes: int


class BlobInfo(NamedTuple):
    """One blob as `list` sees it. `used_at_s`: unix time it was last written or touched."""

    digest: Digest
    size_bytes: int
    used_at_s: float


class BlobWriter(Protocol):
    """One blob on its way in. A context manager: left without `commit`, nothing stays behind."""

    def write(self, chunk: bytes) -> None:
        """Append. Raises TooLarge over the limit, Unavailable when the disk is full."""

    def commit(self) -> Blob:
        """Make the blob durable and visible under its digest; at once or not at all.

        Raises RefusedArtifact when the bytes are not those of the expected digest.
        """

    def __enter__(self) -> "BlobWriter": ...

    def __exit__(self, *exc: object) -> None: ...


class BlobStore(Protocol):
    """Blobs by digest. Safe to call from many threads."""

    def writer(self, expected: Digest | None = None, limit_bytes: int = BLOB_BYTES_MAX) -> BlobWriter:
        """Start a blob whose bytes come piece by piece."""

    def put(self, chunks: Iterable[bytes], expected: Digest | None = None, limit_bytes: int = BLOB_BYTES_MAX) -> Blob:
        """Store all of `chunks`; what `writer` does, in one call. Storing what is there already is no error."""

    def has(self, digest: Digest) -> bool:
        """Return whether the blob is there."""

    def touch(self, digest: Digest) -> bool:
        """Return whether the blob is there, and if so start its grace period anew: it will be used soon."""

    def size(self, digest: Digest) -> int:
        """Return the size in bytes. Raises NotFound."""

    def path(self, digest: Digest) -> Path:
        """Return a local file with the blob's bytes, to be read only. Raises NotFound."""

    def open(self, digest: Digest) -> BufferedReader:
        """Return the blob opened for reading. Raises NotFound."""

    def verify(self, digest: Digest) -> bool:
        """Return whether the stored bytes still have their digest. A damaged blob is removed: it can come again."""

    def delete(self, digest: Digest, unused_since_s: float | None = None) -> bool:
        """Remove the blob; return whether it went.

        With `unused_since_s`, one that was written or touched after that moment stays.
        """

    def list(self) -> Iterator[BlobInfo]:
        """Yield every blob, in no order."""
