"""What a safetensors file says about itself, held against its size; the weights are never touched.

Source of the layout: the safetensors format (a length, a JSON header, one buffer that the tensors fill without gaps).
"""

import json
import math
from pathlib import Path
from typing import Any, Final

from stoker.types.errors import RefusedArtifact

HEADER_BYTES_MAX: Final = 100_000_000  # the format's own maximum
TENSORS_MAX: Final = 200_000
_BITS: Final = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
    "C64": 64,
}


def check_safetensors(path: Path, shown: str) -> None:
    """Refuse a file whose header is no header, or whose tensors overlap or lie outside it. Raises RefusedArtifact."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size_bytes < 8 or length > min(HEADER_BYTES_MAX, size_bytes - 8):
            raise RefusedArtifact(f"{shown} is not a safetensors file, or is cut short: its header has {length} bytes")
        raw = file.read(length)
    try:
        header = json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise RefusedArtifact(f"{shown} is not a safetensors file: its header is no JSON ({error})") from error
    if not isinstance(header, dict) or len(header) > TENSORS_MAX:
        raise RefusedArtifact(f"{shown} is not a safetensors file: its header is no list of at most {TENSORS_MAX}")
    header.pop("__metadata__", None)
    spans = sorted(_span(name, entry, shown) for name, entry in header.items())
    end = 0
    for start, stop, name in spans:
        if start != end:
            raise RefusedArtifact(f"{shown} is damaged: the tensor {name[:100]!r} overlaps another or leaves a gap")
        end = stop
    if end != size_bytes - 8 - length:
        raise RefusedArtifact(f"{shown} is damaged: its tensors have {end} bytes, the file {size_bytes - 8 - length}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)


def _span(name: str, entry: Any, shown: str) -> tuple[int, int, str]:
    """Return where a tensor begins and ends in the buffer."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(stop)]} if (
            dtype in _BITS
            and len(shape) <= 64
            and all(type(size) is int and 0 <= size < 2**48 for size in shape)
            and 0 <= start <= stop
            and math.prod(shape) * _BITS[dtype] == (stop - start) * 8
        ):
            return start, stop, name
    raise RefusedArtifact(
        f"{shown} is damaged: the tensor {name[:100]!r} has a type, a shape or a place that cannot be"
    )
