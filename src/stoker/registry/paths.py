"""Which file lists can be a model version: names that are safe on every disk, counts and sizes within the maxima."""

from collections.abc import Sequence

from stoker.types.errors import RefusedArtifact
from stoker.types.ids import is_digest
from stoker.types.models import FileEntry
from stoker.types.units import format_bytes

FILES_MAX = 10_000
VERSION_BYTES_MAX = 2 * 2**40
PATH_CHARACTERS_MAX = 512
NAME_BYTES_MAX = 200  # of one folder or file name; filesystems end at 255
DEPTH_MAX = 16


def check_entries(files: Sequence[FileEntry]) -> None:
    """Refuse a file list that could not be laid out as a folder, or not inside it. Raises RefusedArtifact."""
    if not files:
        raise RefusedArtifact("a version needs at least one file")
    if len(files) > FILES_MAX:
        raise RefusedArtifact(f"{len(files)} files are more than {FILES_MAX}; push the model's own folder only")
    total = sum(entry.size_bytes for entry in files)
    if total > VERSION_BYTES_MAX:
        raise RefusedArtifact(f"{format_bytes(total)} are more than a version may have")
    seen: dict[str, str] = {}
    folders: set[str] = set()
    for entry in files:
        if reason := unsafe_reason(entry.path):
            raise RefusedArtifact(f"the path {entry.path!r} is refused: {reason}", field="files")
        if not is_digest(entry.digest):
            raise RefusedArtifact(f"{entry.digest!r} is not a digest", field="files")
        # Two names that differ only in case are one file on some disks.
        folded = entry.path.casefold()
        if folded in seen:
            raise RefusedArtifact(f"the paths {seen[folded]!r} and {entry.path!r} are the same file on some disks")
        seen[folded] = entry.path
        parts = folded.split("/")
        folders.update("/".join(parts[:length]) for length in range(1, len(parts)))
    for folder in folders & seen.keys():
        raise RefusedArtifact(f"{seen[folder]!r} is both a file and a folder", field="files")


def unsafe_reason(path: str) -> str:
    """Return why `path` could leave its folder or not be a name everywhere, "" when it is safe."""
    if not path or len(path) > PATH_CHARACTERS_MAX:
        return f"it must have 1 to {PATH_CHARACTERS_MAX} characters"
    if not path.isprintable() or any(mark in path for mark in '\\:*?"<>|'):
        return "it has characters that are not allowed in file names everywhere"
    if path.startswith("/"):
        return "it is absolute"
    parts = path.split("/")
    if len(parts) > DEPTH_MAX:
        return f"it is nested deeper than {DEPTH_MAX}"
    for part in parts:
        if part in ("", ".", ".."):
            return "it has an empty part, `.` or `..`"
        if len(part.encode("utf-8", "surrogatepass")) > NAME_BYTES_MAX:
            return f"{part[:20]!r}… is longer than {NAME_BYTES_MAX} bytes"
        if part != part.strip() or part.endswith("."):
            return "a part begins or ends with a space, or ends with a dot"
    return ""
