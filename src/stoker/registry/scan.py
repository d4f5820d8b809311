"""Whether the files of a version may be kept: no code in pickles, no hostile archives, no header that lies.

Runs in the inspection process: Python's own parsers read hostile bytes here too.
"""

from collections.abc import Sequence
from pathlib import Path

from stoker.registry.archives import scan_archive
from stoker.registry.gguf import read_header
from stoker.registry.onnxfile import check_onnx
from stoker.registry.opcodes import reason_against
from stoker.registry.pickles import HEAD_BYTES, pickle_reason
from stoker.registry.tensors import check_safetensors
from stoker.types.errors import RefusedArtifact
from stoker.types.models import Format

_GGUF = b"GGUF"


def scan_folder(folder: Path, paths: Sequence[str], kind: Format | None = None, entry: str = "") -> None:
    """Look at every file of a staged version. Raises RefusedArtifact naming the first bad one.

    Only code of a Python model loads pickles; beside one they may be there when they hold plain data. `entry` is what
    the engine opens, whatever it is called.
    """
    known = frozenset(paths)
    for path in paths:
        where = folder / path
        if scan_file(where, path, plain=kind == "python"):
            continue
        if path.lower().endswith(".onnx") or (kind == "onnx" and path == entry):
            check_onnx(folder, path, known)
        elif path.lower().endswith(".safetensors"):
            check_safetensors(where, path)


def scan_file(file: Path, shown: str, *, plain: bool = False) -> bool:
    """Look at one file; return whether its first bytes said what it is. Raises RefusedArtifact.

    Args:
        file: where it lies.
        shown: its name in the message.
        plain: whether pickles of plain data may be.
    """
    with file.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
        if head.startswith(_GGUF):
            # Looking further would only find accidents.
            opened.seek(0)
            try:
                read_header(opened, file.stat().st_size)
            except RefusedArtifact as refused:
                raise RefusedArtifact(f"{shown}: {refused.message}; download or convert it again") from refused
            return True
    if not (reason := pickle_reason(head)):
        return scan_archive(file, shown, plain=plain)
    is_pickle = reason.startswith("it is a Python pickle")
    found = _found(file) if is_pickle else ""
    if plain and is_pickle and not found:
        return True
    against = f": {found}" if found else ""
    raise RefusedArtifact(
        f"{shown} is refused: {reason}{against}; pickles run code when they are loaded:"
        " save the model with skops (scikit-learn), as ONNX, or as safetensors or GGUF"
    )


def _found(file: Path) -> str:
    with file.open("rb", buffering=0) as raw:
        return reason_against(raw)
