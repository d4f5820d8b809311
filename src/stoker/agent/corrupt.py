"""A copy of one replica's model in which one byte is another: what a bad disk or a torn download leaves behind.

Only the copy is changed: the folder of the version and its blobs are shared by every endpoint that serves it. All but
the changed file are links into that folder. The copy lies in the replica's own working folder and goes with it.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from stoker.types.errors import Conflict
from stoker.types.models import FileEntry
from stoker.types.process import ProcessSpec
from stoker.types.replica import ReplicaSpec
from stoker.types.units import format_bytes

COPY_BYTES_MAX: Final = 256 << 20  # of the file that is changed; copied within the time that a caller waits
SPARE_BYTES: Final = 1 << 30  # of the disk that stays free


def folder(spec: ProcessSpec) -> Path:
    """Return where the copy of a process lies, there or not."""
    return Path(spec.work_dir) / "corrupt"


def prepare(spec: ProcessSpec) -> ProcessSpec:
    """Make the copy, and return how the process is started from it; blocks. Raises Conflict, and leaves nothing then.

    Of the version's files the smallest that has a byte is changed, in its middle.
    """
    target = folder(spec)
    try:
        told = msgspec.json.decode(Path(spec.argv[-1]).read_bytes(), type=ReplicaSpec)
        chosen = _chosen(told)
        shutil.rmtree(target, ignore_errors=True)
        copied = target / "model"
        for entry in told.manifest.files:
            path = copied / entry.path
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if entry is not chosen:
                path.symlink_to(Path(told.model_dir, entry.path).absolute())
        _copy_changed(Path(told.model_dir) / chosen.path, copied / chosen.path)
        written = target / "spec.json"
        written.write_bytes(msgspec.json.encode(msgspec.structs.replace(told, model_dir=str(copied))))
    except (OSError, msgspec.MsgspecError) as problem:
        shutil.rmtree(target, ignore_errors=True)
        raise Conflict(f"no copy of the model of {spec.name} can be made to be corrupted: {problem}") from problem
    return msgspec.structs.replace(spec, argv=(*spec.argv[:-1], str(written)))


def _chosen(told: ReplicaSpec) -> FileEntry:
    able = [each for each in told.manifest.files if each.size_bytes]
    if not able:
        raise Conflict(f"{told.model} has no files here that could be corrupted: somebody else's server has them")
    found = min(able, key=lambda each: each.size_bytes)
    free = shutil.disk_usage(told.model_dir).free
    if found.size_bytes > COPY_BYTES_MAX or found.size_bytes > free - SPARE_BYTES:
        raise Conflict(
            f"the smallest file of {told.model} is {format_bytes(found.size_bytes)} and would be copied; at most "
            f"{format_bytes(COPY_BYTES_MAX)} are, and {format_bytes(SPARE_BYTES)} of the {format_bytes(free)} that are "
            "free on the disk stay free"
        )
    return found


def _copy_changed(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    with suppress(OSError):
        target.chmod(0o600)
    with target.open("r+b") as file:
        middle = os.fstat(file.fileno()).st_size // 2
        file.seek(middle)
        byte = file.read(1)[0]
        file.seek(middle)
        file.write(bytes((byte ^ 0xFF,)))
