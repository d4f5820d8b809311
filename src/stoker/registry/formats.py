"""Which format a list of files has, and which of them the engine opens, by their names; the contents come later."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from stoker.types.models import Format

CARD = "stoker.yaml"
_SUFFIXES: dict[str, Format] = {".onnx": "onnx", ".gguf": "gguf", ".skops": "skops"}
# The entry of each format when several files have its suffix.
_PREFERRED: dict[Format, tuple[str, ...]] = {
    "onnx": ("model.onnx", "onnx/model.onnx"),
    "gguf": ("model.gguf",),
    "skops": ("model.skops",),
    "python": ("model.py",),
}
_ADVICE = {
    ".safetensors": "convert the model to GGUF or ONNX",
    ".bin": "convert the model to GGUF or ONNX",
    ".pt": "export the model to ONNX",
    ".pth": "export the model to ONNX",
    ".h5": "export the model to ONNX (tf2onnx)",
    ".keras": "export the model to ONNX (tf2onnx)",
    ".pb": "export the model to ONNX (tf2onnx)",
    ".joblib": "save the model with skops",
    ".pkl": "save the model with skops",
    ".zip": "unpack it and push the folder",
    ".gz": "unpack it and push the folder",
    ".tar": "unpack it and push the folder",
}


_PART = re.compile(r"-(\d{5})-of-\d{5}\.gguf$")


class Found(NamedTuple):
    """A format and its entry; or `problem`, why there is none."""

    format: Format | None
    entry: str
    problem: str = ""


def detect(paths: Sequence[str], wanted: Format | None = None, entry: str | None = None) -> Found:
    """Return the format and entry of a version made of `paths`; what the pusher said wins where it can be."""
    if wanted == "remote":
        return Found("remote", entry or ".")
    if entry is not None and entry not in paths:
        return Found(None, "", f"the entry {entry!r} is not one of the files")
    if entry is not None:
        kind = wanted or _format_of(entry)
        return Found(kind, entry) if kind else Found(None, "", f"no format is known for the entry {entry!r}; name one")
    kinds: list[Format] = [wanted] if wanted else ["python", "onnx", "gguf", "skops"]
    candidates: list[tuple[Format, list[str]]] = []
    for kind in kinds:
        if kind == "python" and wanted is None and "model.py" not in paths:
            continue
        if names := [path for path in paths if _format_of(path) == kind and not _is_later_part(path)]:
            candidates.append((kind, names))
    if not candidates:
        return Found(None, "", _nothing(paths, wanted))
    if len(candidates) > 1 and candidates[0][0] != "python":
        names = [name for _, names in candidates for name in names]
        return Found(None, "", f"models of several formats: {_listed(names)}; name the entry")
    kind, names = candidates[0]
    for preferred in _PREFERRED.get(kind, ()):
        if preferred in names:
            return Found(kind, preferred)
    if len(names) > 1:
        return Found(None, "", f"several models: {_listed(names)}; name the entry, or push one file")
    return Found(kind, names[0])


def _format_of(path: str) -> Format | None:
    if path.endswith(".py"):
        return "python"
    for suffix, kind in _SUFFIXES.items():
        if path.lower().endswith(suffix):
            return kind
    return None


def _is_later_part(path: str) -> bool:
    """Return whether `path` is a part of a split GGUF other than the first: `…-00002-of-00003.gguf`."""
    part = _PART.search(path.lower())
    return part is not None and int(part[1]) > 1


def _nothing(paths: Sequence[str], wanted: Format | None) -> str:
    if wanted:
        return f"no {wanted} model among the files: {_listed(paths)}"
    for suffix, advice in _ADVICE.items():
        for path in paths:
            if path.lower().endswith(suffix):
                return f"{path} is of no format that can be served here: {advice}"
    return f"no model among the files ({_listed(paths)}); known: .onnx, .gguf, .skops, or a folder with model.py"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
