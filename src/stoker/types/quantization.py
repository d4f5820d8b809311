"""What a model can be quantized to, what is asked of the process that does it, and what it made."""

from typing import Final, Literal, get_args

import msgspec

from stoker.types.models import FileEntry, Format, Lineage

GgufQuantization = Literal["q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q4_0", "q3_k_m", "q2_k"]
Quantization = Literal["q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q4_0", "q3_k_m", "q2_k", "int8"]
# What each format can become; the others cannot be quantized here.
POSSIBLE: Final[dict[Format, tuple[str, ...]]] = {"gguf": get_args(GgufQuantization), "onnx": ("int8",)}


class QuantizeJob(msgspec.Struct, frozen=True):
    """Read `source` and write `target`, in one process with these limits. `copies`: of the result, on the same disk."""

    source: str
    target: str
    to: Quantization
    requantize: bool
    threads: int
    seconds: float
    memory_bytes: int
    copies: int = 2


class Written(msgspec.Struct, frozen=True, tag="written"):
    """What was written: by which tool, and which other files of the version the new one needs no more."""

    tool: str
    replaced: tuple[str, ...] = ()
    types: dict[str, int] = {}  # bytes by tensor type


class Quantized(msgspec.Struct, frozen=True, tag="quantized"):
    """A version that can be registered: its files are in the store, and nothing names them yet."""

    files: tuple[FileEntry, ...]
    format: Format
    entry: str
    tasks: tuple[str, ...]
    options: dict[str, str | int | float | bool]
    metadata: dict[str, str | int | float | bool | list[str] | None]
    lineage: Lineage
    size_before_bytes: int
    size_bytes: int
