"""How much of a replica's memory the attention cache of a GGUF model may take, in blocks of the pipeline's pool.

The pool is allocated whole, so its size is decided before the load: from the model's shape as its header tells it.
The formula is OpenVINO's layout on CPUs (8-bit keys with a scale and a zero point a channel and block, 8-bit values
with both a token); measured with SmolLM2-135M: 437,760 bytes a block, which is what it says.
"""

import struct
from io import BufferedReader
from pathlib import Path
from typing import Any

import msgspec

from stoker.types.errors import InvalidInput, RefusedArtifact
from stoker.types.units import format_bytes

BLOCK_TOKENS = 32  # of OpenVINO on CPUs
CONTEXT_DEFAULT = 4096
# What the replica and its child take besides weights and pool: measured 75 MB for the replica, 137 MB for the libraries
# with a tokenizer, and the logits of a step.
BASE_BYTES = 300 * 2**20
WEIGHTS_FACTOR = 2.0  # of the file's size: 98 MB of Q4_1 took 175 MB
PAIRS_MAX = 8192
ELEMENTS_MAX = 16_000_000
TEXT_BYTES_MAX = 16 * 2**20

_FIXED = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _ARRAY = 8, 9


class Shape(msgspec.Struct, frozen=True):
    """What of a model decides the size of its cache. `context_tokens` 0: the file does not say."""

    layers: int
    kv_heads: int
    key_size: int
    value_size: int
    context_tokens: int
    file_bytes: int

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all layers."""
        key = BLOCK_TOKENS * self.key_size + 8 * self.key_size
        value = BLOCK_TOKENS * (self.value_size + 8)
        return self.layers * self.kv_heads * (key + value)


class Pool(msgspec.Struct, frozen=True):
    """The cache: how many blocks, and how many tokens one request may have."""

    blocks: int
    context_tokens: int


def plan_pool(shape: Shape, *, context: int | None, slots: int, memory_bytes: int) -> Pool:
    """Return the pool for `slots` requests of `context` tokens, smaller where the memory is.

    Raises InvalidInput for a context over the model's own, or when not even one request fits the memory.
    """
    trained = shape.context_tokens
    if context is not None and 0 < trained < context:
        raise InvalidInput(
            f"context is {context} tokens, but the model was trained with {trained}; lower the option",
            field="options.context",
        )
    tokens = context or min(CONTEXT_DEFAULT, trained or CONTEXT_DEFAULT)
    each = -(-tokens // BLOCK_TOKENS) + 1
    wanted = each * slots
    if not memory_bytes:
        return Pool(wanted, tokens)
    fixed = BASE_BYTES + int(WEIGHTS_FACTOR * shape.file_bytes)
    fitting = max(0, memory_bytes - fixed) // max(1, shape.block_bytes)
    if fitting < each:
        raise InvalidInput(
            f"one request of {tokens} tokens needs {format_bytes(fixed + each * shape.block_bytes)} of memory and the "
            f"replica has {format_bytes(memory_bytes)}; raise resources.memory or lower the option context",
            field="resources.memory",
        )
    return Pool(min(wanted, fitting), tokens)


def read_shape(path: Path) -> Shape:
    """Return the shape of the GGUF file at `path`. Raises RefusedArtifact for one that does not say it."""
    try:
        with path.open("rb") as file:
            values = _scalars(file)
        size_bytes = path.stat().st_size
    except (OSError, struct.error, UnicodeDecodeError) as broken:
        raise RefusedArtifact(f"{path.name} is no GGUF file that can be read: {broken}") from broken
    kind = values.get("general.architecture", "")

    def number(name: str, default: int = 0) -> int:
        value = values.get(f"{kind}.{name}", default)
        return value if isinstance(value, int) else default

    layers, heads = number("block_count"), number("attention.head_count")
    if not layers or not heads:
        raise RefusedArtifact(f"{path.name} does not say how many layers and attention heads it has")
    size = number("embedding_length") // heads
    return Shape(
        layers=layers,
        kv_heads=number("attention.head_count_kv", heads),
        key_size=number("attention.key_length", size),
        value_size=number("attention.value_length", size),
        context_tokens=number("context_length"),
        file_bytes=size_bytes,
    )


def _scalars(file: BufferedReader) -> dict[str, Any]:
    """Return the metadata of a GGUF file, arrays left out (layout: ggml's docs/gguf.md)."""
    if file.read(4) != b"GGUF":
        raise RefusedArtifact("the file does not begin with GGUF")
    _version, _tensors, pairs = struct.unpack("<IQQ", file.read(20))
    if pairs > PAIRS_MAX:
        raise RefusedArtifact(f"the GGUF header claims {pairs} metadata pairs, more than {PAIRS_MAX}")
    found: dict[str, Any] = {}
    for _ in range(pairs):
        key = _text(file)
        (kind,) = struct.unpack("<I", file.read(4))
        if kind == _ARRAY:
            _skip_array(file)
        else:
            found[key] = _text(file) if kind == _TEXT else _fixed(file, kind)
    return found


def _text(file: BufferedReader) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > TEXT_BYTES_MAX:
        raise RefusedArtifact(f"the GGUF header holds a text of {length} bytes")
    return file.read(length).decode("utf-8", "replace")


def _fixed(file: BufferedReader, kind: int) -> Any:
    form = _FIXED.get(kind)
    if form is None:
        raise RefusedArtifact(f"the GGUF metadata has a value of the unknown type {kind}")
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def _skip_array(file: BufferedReader) -> None:
    kind, count = struct.unpack("<IQ", file.read(12))
    if count > ELEMENTS_MAX:
        raise RefusedArtifact(f"the GGUF header holds an array of {count} elements")
    if kind == _TEXT:
        for _ in range(count):
            (length,) = struct.unpack("<Q", file.read(8))
            file.seek(length, 1)
    elif kind in _FIXED:
        file.seek(count * struct.calcsize(_FIXED[kind]), 1)
    else:
        raise RefusedArtifact(f"the GGUF metadata has an array of the unknown type {kind}")
