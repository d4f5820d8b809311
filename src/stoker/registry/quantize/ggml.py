"""ggml's own quantizer and its reader of GGUF headers, as the installed llama.cpp has them inside.

xllamacpp does not bind llama_model_quantize, and its build leaves that function out; the quantizer of each type, the
one that is inside of it, is there under its C name, as declared in ggml.h and gguf.h. So what is written here is what
the engine itself would write, and no second build of llama.cpp has to be installed.
"""

import ctypes
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

from stoker.types.errors import RefusedArtifact, Unsupported

PACKAGE: Final = "xllamacpp"
# ggml.h, enum ggml_type.
TYPES: Final[dict[int, str]] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    6: "Q5_0",
    7: "Q5_1",
    8: "Q8_0",
    10: "Q2_K",
    11: "Q3_K",
    12: "Q4_K",
    13: "Q5_K",
    14: "Q6_K",
    20: "IQ4_NL",
    23: "IQ4_XS",
    30: "BF16",
}
NUMBERS: Final = {name: number for number, name in TYPES.items()}
_POINTER, _LONG, _SIZE, _TEXT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_size_t, ctypes.c_char_p


class _InitParams(ctypes.Structure):
    """gguf.h, struct gguf_init_params."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("context", ctypes.c_void_p))


# What is called: result, arguments.
_FUNCTIONS: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "gguf_init_from_file": (_POINTER, (_TEXT, _InitParams)),
    "gguf_free": (None, (_POINTER,)),
    "gguf_get_n_tensors": (_LONG, (_POINTER,)),
    "gguf_get_tensor_name": (_TEXT, (_POINTER, _LONG)),
    "gguf_get_tensor_type": (ctypes.c_int, (_POINTER, _LONG)),
    "gguf_get_tensor_size": (_SIZE, (_POINTER, _LONG)),
    "gguf_get_tensor_offset": (_SIZE, (_POINTER, _LONG)),
    "gguf_get_tensor_ne": (ctypes.POINTER(ctypes.c_int64), (_POINTER, _LONG)),
    "gguf_get_data_offset": (_SIZE, (_POINTER,)),
    "gguf_set_tensor_type": (None, (_POINTER, _TEXT, ctypes.c_int)),
    "gguf_set_val_u32": (None, (_POINTER, _TEXT, ctypes.c_uint32)),
    "gguf_get_meta_size": (_SIZE, (_POINTER,)),
    "gguf_get_meta_data": (None, (_POINTER, _POINTER)),
    "ggml_type_name": (_TEXT, (ctypes.c_int,)),
    "ggml_quantize_chunk": (_SIZE, (ctypes.c_int, _POINTER, _POINTER, _LONG, _LONG, _LONG, _POINTER)),
    "ggml_validate_row_data": (ctypes.c_bool, (ctypes.c_int, _POINTER, _SIZE)),
    "ggml_fp16_to_fp32_row": (None, (_POINTER, _POINTER, _LONG)),
    "ggml_bf16_to_fp32_row": (None, (_POINTER, _POINTER, _LONG)),
    "ggml_fp32_to_fp16_row": (None, (_POINTER, _POINTER, _LONG)),
}
_DIMENSIONS: Final = 4


class Ggml:
    """The functions that are called, with their types. Calls let go of Python's lock."""

    def __init__(self) -> None:
        """Load the library. Raises Unsupported when it is not there, or is not as it is known here."""
        try:
            path = str(import_module(f"{PACKAGE}.{PACKAGE}").__file__)
        except ImportError as missing:
            raise Unsupported(f"quantizing a GGUF needs xllamacpp ({missing}); install stoker[llama]") from missing
        self.tool = f"{PACKAGE} {metadata.version(PACKAGE)}"
        library = ctypes.CDLL(path)
        try:
            for name, (result, arguments) in _FUNCTIONS.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
            for number, name in TYPES.items():
                said = library.ggml_type_name(number)
                if said is None or said.decode().upper() != name:
                    raise Unsupported(f"{self.tool} has another type {number} than {name}; stoker is older than it")
        except AttributeError as missing:
            raise Unsupported(f"{self.tool} has no quantizer inside: {missing}") from missing
        self.library: Any = library

    def dequantizer(self, kind: str) -> Any:
        """Return the function (from, to, count) that makes floats of a type. Raises Unsupported."""
        if kind in ("F16", "BF16"):
            return self.library.ggml_fp16_to_fp32_row if kind == "F16" else self.library.ggml_bf16_to_fp32_row
        name = f"dequantize_row_{kind.lower().replace('_k', '_K') if kind.endswith('_K') else kind.lower()}"
        function = getattr(self.library, name, None)
        if function is None:
            raise Unsupported(f"weights of the type {kind} cannot be read here; quantize the original")
        function.restype, function.argtypes = None, (_POINTER, _POINTER, _LONG)
        return function


class Header:
    """The header of a GGUF file in the library's own form, to be changed and written out; a context manager."""

    def __init__(self, ggml: Ggml, path: Path) -> None:
        """Read the header. Raises RefusedArtifact."""
        self._library = ggml.library
        self._handle = self._library.gguf_init_from_file(str(path).encode(), _InitParams(True, None))
        if not self._handle:
            raise RefusedArtifact(f"llama.cpp cannot read {path.name}: it is damaged, or newer than the engine")

    def __enter__(self) -> "Header":
        return self

    def __exit__(self, *_: object) -> None:
        self._library.gguf_free(self._handle)

    def __len__(self) -> int:
        return int(self._library.gguf_get_n_tensors(self._handle))

    def name(self, at: int) -> str:
        """Return the name of a tensor."""
        return str(self._library.gguf_get_tensor_name(self._handle, at).decode())

    def kind(self, at: int) -> str:
        """Return its type, "type 99" when that is unknown here."""
        number = int(self._library.gguf_get_tensor_type(self._handle, at))
        return TYPES.get(number, f"type {number}")

    def shape(self, at: int) -> tuple[int, ...]:
        """Return its sizes, the row's length first."""
        sizes = self._library.gguf_get_tensor_ne(self._handle, at)
        return tuple(int(sizes[axis]) for axis in range(_DIMENSIONS))

    def size_bytes(self, at: int) -> int:
        """Return its bytes."""
        return int(self._library.gguf_get_tensor_size(self._handle, at))

    def offset(self, at: int) -> int:
        """Return where in the data it begins."""
        return int(self._library.gguf_get_tensor_offset(self._handle, at))

    @property
    def data_offset(self) -> int:
        """Return where in the file that was read the data begins."""
        return int(self._library.gguf_get_data_offset(self._handle))

    def set_kind(self, name: str, kind: str) -> None:
        """Change a tensor's type; what comes after it moves."""
        self._library.gguf_set_tensor_type(self._handle, name.encode(), NUMBERS[kind])

    def set_number(self, key: str, value: int) -> None:
        """Set a number of the metadata."""
        self._library.gguf_set_val_u32(self._handle, key.encode(), value)

    def encoded(self) -> bytes:
        """Return the header as it stands in a file, up to where the data begins."""
        buffer = ctypes.create_string_buffer(int(self._library.gguf_get_meta_size(self._handle)))
        self._library.gguf_get_meta_data(self._handle, buffer)
        return buffer.raw
