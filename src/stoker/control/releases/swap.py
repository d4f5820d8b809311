"""What a revision said before it went: for gates of the strategy recreate, which has no room for both at once.

What serves is asked first and its answers are written down; then it goes, and the new one is asked in its place while
requests wait. A file for each judgement in the state folder: a control that dies in between reads it again.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from stoker.control.releases.ask import Answer
from stoker.control.releases.needs import Need
from stoker.control.releases.profile import Bodies
from stoker.core.gate.law import law
from stoker.core.gate.profile import Measured
from stoker.types.errors import TooLarge
from stoker.types.models import sha256_digest

NOTES_BYTES_MAX: Final = 64 << 20  # of one judgement
_NEW: Final = ".new"


class Serving(msgspec.Struct, frozen=True):
    """What served, as it was before it went; of one without a ready replica there is nothing.

    answers: by whose examples they are and their place among them. bodies: what both are timed with; None where nobody
    is timed. rounds: the times of each round, with the memory of the process.
    """

    answers: dict[str, dict[int, Answer]] = {}
    bodies: Bodies | None = None
    rounds: tuple[Measured, ...] = ()


def read(folder: Path, need: Need) -> Serving | None:
    """Return what was written down for a judgement; None where nothing was, or it cannot be read."""
    try:
        return msgspec.msgpack.decode((folder / name(need)).read_bytes(), type=Serving)
    except (OSError, msgspec.DecodeError):
        return None


def write(folder: Path, need: Need, serving: Serving) -> None:
    """Write it down, whole or not at all. Raises TooLarge, OSError."""
    data = msgspec.msgpack.encode(serving)
    if len(data) > NOTES_BYTES_MAX:
        raise TooLarge(
            f"what serves answers its examples with {len(data) >> 20} MiB, and {NOTES_BYTES_MAX >> 20} MiB are kept "
            "until the new revision can be asked; take fewer examples"
        )
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / name(need)
    half = path.with_suffix(_NEW)
    with open(half, "wb", opener=lambda file, flags: os.open(file, flags, 0o600)) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)


def tidy(folder: Path, needs: Iterable[Need]) -> None:
    """Drop what belongs to no judgement that is under way."""
    wanted = {name(each) for each in needs}
    with suppress(OSError):
        for path in list(folder.iterdir()):
            if path.name.removesuffix(_NEW) not in wanted:
                path.unlink(missing_ok=True)


def name(need: Need) -> str:
    """Return the file of a judgement: of a revision, its gates and examples, and what it is held against."""
    parent = need.parent.revision if need.parent is not None else ""
    golden = need.golden.digest if need.golden is not None else ""
    about = [need.revision.revision, need.revision.created_at_s, parent, golden, law(need.gates)]
    return sha256_digest(msgspec.json.encode(about)).removeprefix("sha256:")
