"""Files looked at where they lie, before anything is sent: what the registry would refuse is not uploaded at all.

The registry looks again; a client may lie, and this one only saves its user the way.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from stoker.client.upload import LocalFile
from stoker.registry import inspector
from stoker.registry.formats import CARD, detect
from stoker.registry.inspection import InspectionJob
from stoker.types.errors import RefusedArtifact
from stoker.types.models import Format


def check_local(files: Sequence[LocalFile], wanted: Format | None = None, entry: str | None = None) -> None:
    """Refuse files with something hostile or damaged in them; a process of its own reads them, and blocks.

    Raises RefusedArtifact, naming the file, what was found, and what to do.
    """
    paths = tuple(one.path for one in files)
    found = detect(paths, wanted, entry)
    seconds, memory_bytes = inspector.limits(sum(one.size_bytes for one in files))
    with tempfile.TemporaryDirectory(prefix="stoker-scan-") as scratch:
        folder = Path(scratch) / "files"
        for one in files:
            link = folder / one.path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(one.where.resolve())
        # A card may name the format, and the registry reads it; until then a folder with code is taken for such.
        kind = found.format or ("python" if CARD in paths and any(path.endswith(".py") for path in paths) else None)
        job = InspectionJob(str(folder), paths, kind, found.entry, seconds, memory_bytes, scan_only=True)
        try:
            inspector.inspect(job, Path(scratch))
        except RefusedArtifact as refused:
            raise RefusedArtifact(f"{refused.message}; nothing was sent", field="files") from refused
