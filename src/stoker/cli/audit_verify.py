"""What `stoker audit verify` does by itself: rows from a file or a platform, held to checkpoints and a public key."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from stoker.cli.session import Session
from stoker.cli.signing import read_key
from stoker.client import audit
from stoker.client.releases import ReleaseClient
from stoker.core.audit.verify import verify
from stoker.protocol import checkpoints as seals
from stoker.protocol import signing
from stoker.store import audit_file
from stoker.types.audit import AuditVerdict, Row
from stoker.types.errors import InvalidInput

NAME = "audit.checkpoints"


def of_platform(session: Session, copy: Path | None) -> AuditVerdict:
    """Return what the audit of the platform that runs is worth, by its export and a second place of checkpoints."""
    control = session.control(audit.TIMEOUT_S)
    key = signing.public_key(ReleaseClient(control.connection).key().public_key)
    filed = audit.checkpoints(control)  # first: rows that come meanwhile are more than it says, and not less
    exported = b"".join(audit.export(control, {})).splitlines(keepends=True)
    return _judged(_rows(exported, Path("the export")), None, filed, key, copy)


def of_file(
    session: Session, file: Path, checkpoints: Path | None, key: Path | None, copy: Path | None
) -> AuditVerdict:
    """Return what the audit in a file is worth. Raises InvalidInput."""
    public = _key(session, key)
    beside = checkpoints or next((each for each in _beside(file) if each.is_file()), None)
    if audit_file.is_database(file):
        filed = beside.read_bytes() if beside is not None else None
        return _judged(audit_file.rows(file), audit_file.lines(file), filed, public, copy)
    if beside is None:
        raise InvalidInput(f"no file of checkpoints beside {file}; name one with --checkpoints")
    with file.open("rb") as opened:
        return _judged(_rows(opened, file), None, beside.read_bytes(), public, copy)


def _judged(
    rows: Iterable[Row], kept: list[str] | None, filed: bytes | None, key: signing.PublicKey, copy: Path | None
) -> AuditVerdict:
    witness = copy.read_bytes() if copy is not None else b""
    name = signing.fingerprint(key)
    return verify(rows, kept, filed, lambda made: seals.is_signed(made, key), key=name, witness=witness)


def _rows(lines: Iterable[bytes], file: Path) -> Iterator[Row]:
    for at, line in enumerate(lines, 1):
        try:
            yield audit.row_of(line)
        except msgspec.MsgspecError as wrong:
            raise InvalidInput(f"{file}, line {at} is no row of an export: {wrong}") from wrong


def _beside(file: Path) -> tuple[Path, Path]:
    return file.with_name(file.name + ".checkpoints"), file.with_name(NAME)


def _key(session: Session, given: Path | None) -> signing.PublicKey:
    """Return the public key that was given, or the state folder's. Raises InvalidInput."""
    if given is not None:
        return signing.public_key(read_key(given))
    own = session.folder.platform_key
    if not own.is_file():
        raise InvalidInput("which key signed it? name the public one with --key (`stoker release key` prints it)")
    return signing.private_key(own.read_bytes()).public_key()
