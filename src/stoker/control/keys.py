"""Keys: made once, shown once, stored as a digest; and the first one, which the command line uses.

`stk_<id8>_<43 urlsafe characters>`: 256 random bits, so that sha256 needs no salt and a check takes microseconds.
"""

import hashlib
import hmac
import re
import secrets
import time
from pathlib import Path
from typing import Final

import msgspec

from stoker.control.files import write_whole
from stoker.store import journal, keys, projects, recording, roles
from stoker.store.engine import Connection, Database
from stoker.store.keys import KeyRow
from stoker.types.access import ADMIN, USUAL, KeyAccess
from stoker.types.audit import PLATFORM
from stoker.types.errors import Unauthenticated
from stoker.types.ids import DEFAULT_PROJECT, KeyId, ProjectName
from stoker.types.keys import UNLIMITED, KeyLimits
from stoker.types.projects import ProjectSpec
from stoker.types.resources import Project, ProjectMetadata

FIRST_KEY_NAME: Final = "first admin key"
_TEXT: Final = re.compile(r"stk_([a-z0-9]{8})_[A-Za-z0-9_-]{43}")
_ID_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


class Addresses(msgspec.Struct, frozen=True):
    """Where control and the gateways answer; `gateway_cert`: the file with the certificate that gateways show."""

    api: str
    api_socket: str
    gateway: str
    gateway_cert: str = ""


class Credentials(Addresses, frozen=True, kw_only=True):
    """What the command line reads from the state folder."""

    key: str
    key_id: str


def make(
    project: str,
    name: str,
    *,
    expires_at_s: float,
    now_s: float,
    limits: KeyLimits = UNLIMITED,
    access: KeyAccess = USUAL,
    subject: str = "",
) -> tuple[str, KeyRow]:
    """Return a new key's text, which nobody can see again, and its row."""
    key_id = KeyId("".join(secrets.choice(_ID_ALPHABET) for _ in range(8)))
    text = another(key_id)
    return text, KeyRow(
        key_id, ProjectName(project), name, digest(text), now_s, expires_at_s, limits, access=access, subject=subject
    )


def another(key_id: str) -> str:
    """Return a new text for the key of that id."""
    return f"stk_{key_id}_{secrets.token_urlsafe(32)}"


def digest(text: str) -> str:
    """Return what is stored of a key."""
    return hashlib.sha256(text.encode()).hexdigest()


def verify(connection: Connection, text: str | None, now_s: float) -> KeyRow:
    """Return the row of the key `text`. Raises Unauthenticated, in words that do not tell which part was wrong."""
    if not text:
        raise Unauthenticated("no key; send the header Authorization: Bearer stk_…")
    match = _TEXT.fullmatch(text)
    found = keys.find(connection, match[1]) if match is not None else None
    offered = digest(text)
    is_old = found is not None and now_s < found.old_until_s and hmac.compare_digest(found.old_sha256, offered)
    if found is None or not (is_old or hmac.compare_digest(found.sha256, offered)):
        raise Unauthenticated("this key is unknown or revoked")
    if 0 < found.expires_at_s <= now_s:
        raise Unauthenticated(f"key {found.id} has expired; make a new one")
    return found


def bootstrap(database: Database, path: Path, where: Addresses) -> None:
    """Make sure that the default project, an admin key and the credentials file that holds it are there.

    The file's key is kept as long as it is good. A crash between row and file leaves a key that nobody knows; it is
    removed here.
    """
    held = _read(path)
    now_s = time.time()

    def ensure(connection: Connection) -> tuple[str, KeyId]:
        if projects.find(connection, DEFAULT_PROJECT) is None:
            spec = ProjectSpec(description="what is applied without a project")
            projects.put(connection, Project(ProjectMetadata(DEFAULT_PROJECT), spec), now_s)
        if held is not None:
            try:
                found = verify(connection, held.key, now_s)
            except Unauthenticated:
                pass
            else:
                if roles.grant(connection, found).is_admin:
                    return held.key, found.id
        for old in keys.everything(connection):
            if old.name == FIRST_KEY_NAME:
                keys.remove(connection, old.id)
        text, row = make(DEFAULT_PROJECT, FIRST_KEY_NAME, expires_at_s=0.0, now_s=now_s, access=ADMIN)
        keys.add(connection, row)
        because = "no credentials file with a good admin key"
        journal.add(connection, journal.Entry(now_s, "CreateKey", because, DEFAULT_PROJECT, subject=row.id))
        return text, row.id

    with recording.acting(recording.Actor(PLATFORM, "make the first key")):
        text, key_id = database.write(ensure)
    wanted = Credentials(where.api, where.api_socket, where.gateway, where.gateway_cert, key=text, key_id=key_id)
    if held != wanted or path.stat().st_mode & 0o777 != 0o600:
        write_whole(path, msgspec.json.format(msgspec.json.encode(wanted)))


def _read(path: Path) -> Credentials | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except (OSError, msgspec.MsgspecError):
        return None
