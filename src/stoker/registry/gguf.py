"""What a GGUF file says about itself, read with written bounds; the weights are never touched.

Source of the layout: ggml's docs/gguf.md. A header that contradicts the file's size (cut short, offsets beyond the
end, counts that cannot be) is refused here, before a C++ parser sees it.
"""

import struct
from io import BufferedReader
from typing import NamedTuple

from stoker.types.errors import RefusedArtifact

PAIRS_MAX = 8_192
TENSORS_MAX = 200_000
ELEMENTS_MAX = 16_000_000  # of one array; the largest vocabularies have under a million entries
TEXT_BYTES_MAX = 4 * 2**20  # a chat template is tens of KiB
KEY_BYTES_MAX = 65_535
KEPT_TEXT_BYTES_MAX = 256 * 2**10
DIMENSIONS_MAX = 8

_MAGIC = b"GGUF"
_TEXT, _ARRAY = 8, 9
# Value types with a fixed size, by number.
_FIXED: dict[int, str] = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
# Tensor types: name, elements in a block, bytes of a block.
_TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}

Value = str | int | float | bool


class GgufHeader(NamedTuple):
    """What is known of a GGUF file. `values` holds the scalars of its metadata, `lengths` the sizes of its arrays."""

    values: dict[str, Value]
    lengths: dict[str, int]
    tensors: int
    parameters: int
    quantization: str  # the tensor type that holds most bytes

    @property
    def architecture(self) -> str:
        """Return `llama`, `gemma3`, `bert`, …; "" when the file does not say."""
        return str(self.values.get("general.architecture", ""))

    @property
    def context_tokens(self) -> int:
        """Return the context length the model was trained with, 0 when unknown."""
        length = self.values.get(f"{self.architecture}.context_length", 0)
        return length if isinstance(length, int) and not isinstance(length, bool) else 0

    @property
    def chat_template(self) -> str:
        """Return the Jinja template of chats, "" when there is none."""
        return str(self.values.get("tokenizer.chat_template", ""))

    @property
    def vocabulary(self) -> int:
        """Return the number of tokens, 0 when the file has no tokenizer."""
        return self.lengths.get("tokenizer.ggml.tokens", 0)


def read_header(file: BufferedReader, size_bytes: int) -> GgufHeader:
    """Return the header of the GGUF file of `size_bytes` opened at its start. Raises RefusedArtifact."""
    cursor = _Cursor(file, size_bytes)
    if cursor.take(4) != _MAGIC:
        raise RefusedArtifact("not a GGUF file: it does not begin with GGUF")
    version = cursor.number("<I")
    if version not in (2, 3):
        hint = "; it is big-endian" if version in (0x02000000, 0x03000000) else ""
        raise RefusedArtifact(f"GGUF version {version} is not read here, only 2 and 3{hint}")
    tensors = cursor.count("tensors", TENSORS_MAX)
    pairs = cursor.count("metadata pairs", PAIRS_MAX)
    values: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    for _ in range(pairs):
        key = cursor.text(KEY_BYTES_MAX)
        if key in values or key in lengths:
            raise RefusedArtifact(f"the GGUF metadata gives {key!r} twice")
        kind = cursor.number("<I")
        if kind == _ARRAY:
            lengths[key] = cursor.skip_array()
        else:
            values[key] = cursor.value(kind)
    parameters, quantization = _read_tensors(cursor, tensors, values.get("general.alignment", 32))
    return GgufHeader(values, lengths, tensors, parameters, quantization)


def _read_tensors(cursor: "_Cursor", count: int, alignment: Value) -> tuple[int, str]:
    """Return (parameters, main type) after checking that every tensor lies inside the file."""
    if not isinstance(alignment, int) or not 0 < alignment <= 2**20 or alignment & (alignment - 1):
        raise RefusedArtifact(f"the GGUF alignment {alignment!r} is not a power of two")
    parameters = 0
    bytes_of: dict[str, int] = {}
    end_bytes = 0
    names: set[str] = set()
    for _ in range(count):
        name = cursor.text(KEY_BYTES_MAX)
        if name in names:
            raise RefusedArtifact(f"the GGUF file has the tensor {name!r} twice")
        names.add(name)
        dimensions = cursor.number("<I")
        if dimensions > DIMENSIONS_MAX:
            raise RefusedArtifact(f"the GGUF tensor {name!r} has {dimensions} dimensions")
        elements = 1
        for _ in range(dimensions):
            elements *= cursor.number("<Q")
        kind = cursor.number("<I")
        offset = cursor.number("<Q")
        label, block, block_bytes = _TENSOR_TYPES.get(kind, (f"type {kind}", 1, 0))
        size_bytes = -(-elements // block) * block_bytes
        end_bytes = max(end_bytes, offset + size_bytes)
        parameters += elements
        bytes_of[label] = bytes_of.get(label, 0) + size_bytes
    data_start = -(-cursor.position // alignment) * alignment
    if count and data_start + end_bytes > cursor.size_bytes:
        missing = data_start + end_bytes - cursor.size_bytes
        raise RefusedArtifact(f"the GGUF file is cut short: its tensors need {missing} bytes more than it has")
    return parameters, max(bytes_of, key=lambda label: bytes_of[label], default="")


class _Cursor:
    """Reads numbers and texts in order and knows where the file ends."""

    def __init__(self, file: BufferedReader, size_bytes: int) -> None:
        self._file = file
        self.size_bytes = size_bytes
        self.position = 0

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        data = self._file.read(count) if count <= self.size_bytes - self.position else b""
        if len(data) != count:
            raise RefusedArtifact(f"the GGUF file ends inside its header, at byte {self.position}")
        self.position += count
        return data

    def skip(self, count: int) -> None:
        """Pass over `count` bytes."""
        if count > self.size_bytes - self.position:
            raise RefusedArtifact(f"the GGUF file ends inside its header, at byte {self.position}")
        self._file.seek(count, 1)
        self.position += count

    def number(self, form: str) -> int:
        """Return the next integer of the struct format `form`."""
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def count(self, what: str, most: int) -> int:
        """Return the next 64-bit count, refused over `most`."""
        count = self.number("<Q")
        if count > most:
            raise RefusedArtifact(f"the GGUF header claims {count} {what}, more than {most}")
        return count

    def text(self, most: int = TEXT_BYTES_MAX) -> str:
        """Return the next text; invalid UTF-8 is replaced, for metadata is only shown."""
        length = self.number("<Q")
        if length > most:
            raise RefusedArtifact(f"the GGUF header holds a text of {length} bytes at byte {self.position}")
        return self.take(length).decode("utf-8", "replace")

    def value(self, kind: int) -> Value:
        """Return the next scalar of value type `kind`. Long texts are kept only in part."""
        if kind == _TEXT:
            return self.text()[:KEPT_TEXT_BYTES_MAX]
        form = _FIXED.get(kind)
        if form is None:
            raise RefusedArtifact(f"the GGUF metadata has a value of the unknown type {kind}")
        value: Value = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def skip_array(self) -> int:
        """Pass over an array and return its length."""
        kind = self.number("<I")
        count = self.count("elements of an array", ELEMENTS_MAX)
        if kind in _FIXED:
            self.skip(count * struct.calcsize(_FIXED[kind]))
        elif kind == _TEXT:
            for _ in range(count):
                length = self.number("<Q")
                if length > TEXT_BYTES_MAX:
                    raise RefusedArtifact(f"the GGUF header holds a text of {length} bytes at byte {self.position}")
                self.skip(length)
        else:
            raise RefusedArtifact(f"the GGUF metadata has an array of the unknown type {kind}")
        return count
