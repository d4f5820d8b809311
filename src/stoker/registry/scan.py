"""Whether the files of a version may be kept: no pickles, no hostile archives, whatever their names say.

Runs in the inspection process: Python's own parsers read hostile bytes here too.
"""

from collections.abc import Iterable
from pathlib import Path

from stoker.registry.archives import scan_archive
from stoker.registry.pickles import HEAD_BYTES, pickle_reason
from stoker.types.errors import RefusedArtifact

# Files whose format is known and is no archive, by their first bytes: looking further would only find accidents.
_KNOWN_HEADS = (b"GGUF",)


def scan_folder(folder: Path, paths: Iterable[str]) -> None:
    """Look at every file of a staged version. Raises RefusedArtifact naming the first bad one."""
    for path in paths:
        scan_file(folder / path, path)


def scan_file(file: Path, shown: str) -> None:
    """Look at one file. `shown` is its name in the message. Raises RefusedArtifact."""
    with file.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
    if head.startswith(_KNOWN_HEADS):
        return
    if reason := pickle_reason(head):
        raise RefusedArtifact(
            f"{shown} is refused: {reason}, and pickles run code when they are loaded;"
            " save the model with skops (scikit-learn), as ONNX, or as safetensors or GGUF"
        )
    scan_archive(file, shown)
