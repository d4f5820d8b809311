"""How events are chained: h_n = SHA-256(h_{n-1} ‖ canonical JSON of event n), and what a checkpoint signs.

Canonical JSON: UTF-8, no spaces, keys sorted, numbers as the shortest text that reads back the same. The very bytes are
kept, so nobody has to make them again to check a hash.
"""

import hashlib
import re
from typing import Any, Final

import msgspec

from stoker.types.audit import Act, AuditEvent, Checkpoint, Row

ROOT: Final = hashlib.sha256(b"stoker audit v1").hexdigest()  # what the first row follows
_SIGNED: Final = b"stoker audit checkpoint v1\n"  # no signature of anything else can be taken for one of these

_HEX: Final = re.compile(r"(?:[0-9a-f]{2})+")  # of one form: `bytes.fromhex` would pass over spaces

_event = msgspec.json.Decoder(AuditEvent)
_checkpoint = msgspec.json.Decoder(Checkpoint)


def canonical(value: Any) -> bytes:
    """Return the one JSON text of a value."""
    return msgspec.json.encode(value, order="sorted")


def next_hash(before: str, event: str) -> str:
    """Return the hash (hex) of a row whose event has that canonical JSON."""
    return hashlib.sha256(bytes.fromhex(before) + event.encode()).hexdigest()


def row(act: Act, sequence: int, before: str) -> Row:
    """Return an act as the row that follows the one with the hash `before`."""
    event = AuditEvent(**msgspec.structs.asdict(act), sequence=sequence)
    text = canonical(event).decode()
    return Row(sequence, act.at_us, act.actor, act.action, listed(act), text, next_hash(before, text))


def listed(act: Act) -> str:
    """Return what an act is about, a line each, so that one of them can be looked for."""
    return "\n".join(("", *act.resources, ""))


def event_of(row: Row) -> AuditEvent:
    """Return the event of a row. Raises ValueError (msgspec.MsgspecError) for what is none."""
    return _event.decode(row.event)


def signed_bytes(checkpoint: Checkpoint) -> bytes:
    """Return what the signature of a checkpoint is of."""
    return _SIGNED + canonical(msgspec.structs.replace(checkpoint, signature=""))


def line(checkpoint: Checkpoint) -> str:
    """Return a checkpoint as its line of a file, without the end of the line."""
    return canonical(checkpoint).decode()


def checkpoint_of(text: str) -> Checkpoint | None:
    """Return the checkpoint that a line is, None for what is none or is written another way."""
    try:
        found = _checkpoint.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    return found if line(found) == text and _HEX.fullmatch(found.signature) else None


def digest(text: str) -> str:
    """Return how the next checkpoint names the one with that line."""
    return hashlib.sha256(text.encode()).hexdigest()
