"""What is inside zip and tar files, judged without unpacking them: names, links, sizes, pickles, bombs.

stoker never unpacks what is pushed, but engines and people do. An archive in an archive is refused, so that nothing
is hidden a layer deeper than it is looked at.
"""

import bz2
import gzip
import io
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from stoker.registry.opcodes import reason_against
from stoker.registry.paths import unsafe_reason
from stoker.registry.pickles import HEAD_BYTES, pickle_reason
from stoker.types.errors import RefusedArtifact
from stoker.types.units import format_bytes

MEMBERS_MAX = 100_000
UNPACKED_BYTES_MAX = 2**40
# Deflate reaches 1,032 to 1 on zeros; weights compress to a tenth at best. Small archives may be anything.
RATIO_MAX = 100
RATIO_FREE_BYTES = 64 * 2**20
KERAS_CONFIG_BYTES_MAX = 16 * 2**20
_PIECE_BYTES = 2**20
_ENCRYPTED = 0x1
_ZIP, _GZIP, _BZ2, _XZ = b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ"
_SEVEN_ZIP, _RAR, _ZSTD = b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x28\xb5\x2f\xfd"
_OPENERS: dict[bytes, Callable[[Path], io.BufferedIOBase]] = {
    _GZIP: gzip.GzipFile,
    _BZ2: bz2.BZ2File,
    _XZ: lzma.LZMAFile,
}
_LAMBDA = re.compile(rb'"class_name"\s*:\s*"Lambda"')
_ADVICE = "unpack it and push the folder"


def scan_archive(path: Path, shown: str, *, plain: bool = False) -> bool:
    """Return whether `path` is an archive or compressed; raises RefusedArtifact when there is something bad in it.

    plain: a zip may hold pickles of plain data, as PyTorch writes weights.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if zipfile.is_zipfile(path):
        _scan_zip(path, shown, plain=plain)
        return True
    if head.startswith(_ZIP):
        raise RefusedArtifact(f"{shown} is a damaged zip archive; make it again")
    if head.startswith((_SEVEN_ZIP, _RAR, _ZSTD)):
        raise RefusedArtifact(f"{shown} is an archive that cannot be looked into; {_ADVICE}")
    if _is_tar(head) or head.startswith(tuple(_OPENERS)):
        if _scan_tar(path, shown):
            return True
        return _scan_compressed(path, head, shown)
    return False


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _scan_zip(path: Path, shown: str, *, plain: bool) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MEMBERS_MAX:
                raise RefusedArtifact(f"{shown} has {len(members)} members, more than {MEMBERS_MAX}; {_ADVICE}")
            _check_sizes(sum(member.file_size for member in members), path.stat().st_size, shown)
            seen: set[str] = set()
            for member in members:
                _check_member(member, shown)
                if member.filename in seen:
                    raise RefusedArtifact(f"{shown} has two members {member.filename!r}: readers would differ in which")
                seen.add(member.filename)
                if member.is_dir():
                    continue
                with archive.open(member) as inner:
                    _check_head(inner, member.filename, shown, plain=plain, rewinds=True)
            if {"config.json", "metadata.json"} <= seen:
                _check_keras(archive, shown)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise RefusedArtifact(f"{shown} is a damaged zip archive: {error}") from error


def _check_member(member: zipfile.ZipInfo, shown: str) -> None:
    # orig_filename: zipfile itself cuts the name at a NUL and turns backslashes into slashes.
    name = member.orig_filename.removesuffix("/")
    if reason := unsafe_reason(name):
        raise RefusedArtifact(f"{shown} has a member {name[:100]!r}: {reason}; {_ADVICE}")
    if member.flag_bits & _ENCRYPTED:
        raise RefusedArtifact(f"{shown} is encrypted and cannot be checked; {_ADVICE}")
    # No compression makes much more of what it is given: the size that is said is too small.
    if member.compress_size > member.file_size + member.file_size // 100 + 1024:
        raise RefusedArtifact(f"{shown} is a damaged zip archive: {name!r} has more bytes than it says")
    mode = member.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise RefusedArtifact(f"{shown} has a link or a device in it: {name!r}; {_ADVICE}")


def _check_head(inner: IO[bytes], name: str, shown: str, *, plain: bool = False, rewinds: bool = False) -> None:
    head = inner.read(HEAD_BYTES)
    if reason := pickle_reason(head):
        found = ""
        if reason.startswith("it is a Python pickle") and rewinds:
            inner.seek(0)
            found = reason_against(inner)
            if plain and not found:
                return
        against = f": {found}" if found else ""
        raise RefusedArtifact(
            f"{shown} has {name!r} in it, and {reason}{against}; pickles run code when they are loaded:"
            " save the weights as safetensors, the model as ONNX or with skops"
        )
    if head.startswith((_ZIP, _GZIP, _BZ2, _XZ, _SEVEN_ZIP, _RAR, _ZSTD)) or _is_tar(head):
        raise RefusedArtifact(f"{shown} has another archive in it: {name!r}; {_ADVICE}")


def _check_keras(archive: zipfile.ZipFile, shown: str) -> None:
    """Refuse a Keras file with a Lambda layer: its code is in the file, and loading it runs it."""
    if archive.getinfo("config.json").file_size > KERAS_CONFIG_BYTES_MAX:
        raise RefusedArtifact(f"{shown} has a configuration larger than {format_bytes(KERAS_CONFIG_BYTES_MAX)}")
    if _LAMBDA.search(archive.read("config.json")):
        raise RefusedArtifact(
            f"{shown} has a Lambda layer, which holds code that runs when it is loaded; export the model to ONNX"
        )


def _scan_tar(path: Path, shown: str) -> bool:
    """Read through a tar file, compressed or not; False when what is compressed is no tar."""
    packed = path.stat().st_size
    unpacked = count = 0
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                count += 1
                unpacked += member.size
                if count > MEMBERS_MAX:
                    raise RefusedArtifact(f"{shown} has more than {MEMBERS_MAX} members; {_ADVICE}")
                _check_sizes(unpacked, packed, shown)
                if reason := unsafe_reason(member.name.removeprefix("./").rstrip("/") or "root"):
                    raise RefusedArtifact(f"{shown} has a member {member.name[:100]!r}: {reason}; {_ADVICE}")
                if not (member.isreg() or member.isdir()):
                    raise RefusedArtifact(f"{shown} has a link or a device in it: {member.name[:100]!r}; {_ADVICE}")
                if member.isreg() and (inner := archive.extractfile(member)):
                    _check_head(inner, member.name, shown)
    except tarfile.ReadError as error:
        if count == 0:
            return False
        raise RefusedArtifact(f"{shown} is a damaged tar archive: {error}") from error
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        raise RefusedArtifact(f"{shown} is a damaged archive: {error}") from error
    return count > 0  # zeros, compressed, look like the end of a tar


def _scan_compressed(path: Path, head: bytes, shown: str) -> bool:
    """Read through one compressed file, to its end or until it is a bomb; False when it is none."""
    opener = next((opener for mark, opener in _OPENERS.items() if head.startswith(mark)), None)
    if opener is None:
        return False
    packed, unpacked = path.stat().st_size, 0
    try:
        with opener(path) as file:
            while piece := file.read(_PIECE_BYTES):
                if unpacked == 0 and (piece.startswith((_ZIP, *_OPENERS)) or _is_tar(piece)):
                    raise RefusedArtifact(f"{shown} has another archive in it; {_ADVICE}")
                unpacked += len(piece)
                _check_sizes(unpacked, packed, shown)
    except (zlib.error, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        raise RefusedArtifact(f"{shown} is damaged: {error}") from error
    return True


def _check_sizes(unpacked: int, packed: int, shown: str) -> None:
    if unpacked > UNPACKED_BYTES_MAX or unpacked > max(RATIO_FREE_BYTES, packed * RATIO_MAX):
        raise RefusedArtifact(
            f"{shown} of {format_bytes(packed)} would unpack to {format_bytes(unpacked)}: it is an archive bomb;"
            " push the files themselves"
        )
