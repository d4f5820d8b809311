"""What is inside zip and tar files, judged without unpacking them: names, links, sizes, pickles, bombs.

stoker never unpacks what is pushed, but engines and people do.
"""

import stat
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO

from stoker.registry.paths import unsafe_reason
from stoker.registry.pickles import HEAD_BYTES, pickle_reason
from stoker.types.errors import RefusedArtifact
from stoker.types.units import format_bytes

MEMBERS_MAX = 100_000
UNPACKED_BYTES_MAX = 2**40
# Deflate reaches 1,032 to 1 on zeros; weights compress to a tenth at best. Small archives may be anything.
RATIO_MAX = 100
RATIO_FREE_BYTES = 64 * 2**20
_ENCRYPTED = 0x1


def scan_archive(path: Path, shown: str) -> bool:
    """Return whether `path` is a zip or tar archive; raises RefusedArtifact when there is something bad in it."""
    with path.open("rb") as file:
        head = file.read(512)
    if zipfile.is_zipfile(path):
        _scan_zip(path, shown)
        return True
    if head.startswith(b"PK\x03\x04"):
        raise RefusedArtifact(f"{shown} is a damaged zip archive")
    if head[257:262] == b"ustar" or head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        return _scan_tar(path, shown)
    return False


def _scan_zip(path: Path, shown: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MEMBERS_MAX:
                raise RefusedArtifact(f"{shown} has {len(members)} members, more than {MEMBERS_MAX}")
            _check_sizes(sum(member.file_size for member in members), path.stat().st_size, shown)
            for member in members:
                _check_member(member, shown)
                if member.is_dir():
                    continue
                with archive.open(member) as inner:
                    _check_head(inner, member.filename, shown)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise RefusedArtifact(f"{shown} is a damaged zip archive: {error}") from error


def _check_member(member: zipfile.ZipInfo, shown: str) -> None:
    # orig_filename: zipfile itself cuts the name at a NUL and turns backslashes into slashes.
    name = member.orig_filename.removesuffix("/")
    if reason := unsafe_reason(name):
        raise RefusedArtifact(f"{shown} has a member {name[:100]!r}: {reason}")
    if member.flag_bits & _ENCRYPTED:
        raise RefusedArtifact(f"{shown} is encrypted and cannot be checked")
    mode = member.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise RefusedArtifact(f"{shown} has a link or a device in it: {name!r}")


def _check_head(inner: IO[bytes], name: str, shown: str) -> None:
    head = inner.read(HEAD_BYTES)
    if reason := pickle_reason(head):
        raise RefusedArtifact(f"{shown} has {name!r} in it, and {reason}; pickles run code when they are loaded")
    if head.startswith(b"PK\x03\x04"):
        raise RefusedArtifact(f"{shown} has another archive in it: {name!r}")


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
                    raise RefusedArtifact(f"{shown} has more than {MEMBERS_MAX} members")
                _check_sizes(unpacked, packed, shown)
                if reason := unsafe_reason(member.name.removeprefix("./").rstrip("/") or "root"):
                    raise RefusedArtifact(f"{shown} has a member {member.name[:100]!r}: {reason}")
                if not (member.isreg() or member.isdir()):
                    raise RefusedArtifact(f"{shown} has a link or a device in it: {member.name[:100]!r}")
                if member.isreg() and (inner := archive.extractfile(member)):
                    _check_head(inner, member.name, shown)
    except tarfile.ReadError as error:
        if count == 0:
            return False
        raise RefusedArtifact(f"{shown} is a damaged tar archive: {error}") from error
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        raise RefusedArtifact(f"{shown} is a damaged archive: {error}") from error
    return True


def _check_sizes(unpacked: int, packed: int, shown: str) -> None:
    if unpacked > UNPACKED_BYTES_MAX or unpacked > max(RATIO_FREE_BYTES, packed * RATIO_MAX):
        raise RefusedArtifact(
            f"{shown} of {format_bytes(packed)} would unpack to {format_bytes(unpacked)}: it is an archive bomb"
        )
