"""A GGUF file into one of fewer bits: header first, then tensor by tensor in pieces, so that memory stays flat."""

import ctypes
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BufferedWriter
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from stoker.core.quantization import MIXTURES, ModelFacts, Plan, Refused, Tensor, plan, size_of
from stoker.registry.gguf import GgufHeader, read_header
from stoker.registry.quantize.ggml import NUMBERS, Ggml, Header
from stoker.types.errors import Conflict, InvalidInput, RefusedArtifact, Unavailable, Unsupported
from stoker.types.quantization import QuantizeJob, Written
from stoker.types.units import format_bytes

PIECE_ELEMENTS: Final = 8 * 2**20  # 32 MiB of floats at once
COPY_BYTES: Final = 8 * 2**20
ROOM_LEFT_BYTES: Final = 256 * 2**20  # of the disk, when all is written: the platform writes there too
QUANTIZATION_VERSION: Final = 2  # ggml.h, GGML_QNT_VERSION

OnProgress = Callable[[int, int], None]  # bytes read, of how many; 0: nobody knows
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def quantize(job: QuantizeJob, on_progress: OnProgress) -> Written:
    """Write `job.target`; `on_progress` is told bytes read, and of how many.

    Raises:
        Conflict: there is nothing to gain, or it is quantized already.
        RefusedArtifact: the file is damaged, or holds values that are no numbers.
        Unavailable: the disk has no room for it.
        Unsupported: its parts, types or engine are not known here.
    """
    source = Path(job.source)
    with source.open("rb") as file:
        known = read_header(file, source.stat().st_size)
    if known.values.get("split.count", 1) not in (0, 1):
        raise Unsupported("it is split over several files; join them (llama-gguf-split --merge) and push the one")
    ggml = Ggml()
    with Header(ggml, source) as header:
        tensors = [
            Tensor(header.name(at), header.shape(at), header.kind(at), header.size_bytes(at))
            for at in range(len(header))
        ]
        starts = [header.data_offset + header.offset(at) for at in range(len(header))]
        decided = _decided(tensors, known, job)
        for name, kind in decided.types.items():
            header.set_kind(name, kind)
        header.set_number("general.quantization_version", QUANTIZATION_VERSION)
        header.set_number("general.file_type", MIXTURES[job.to][1])  # type: ignore[index]  # _decided has looked
        head = header.encoded()
        offsets = [len(head) + header.offset(at) for at in range(len(header))]
    check_room(Path(job.target).parent, len(head) + decided.size_bytes, job.copies)
    with Path(job.target).open("xb") as out, _Pieces(ggml, source, job.threads) as pieces:
        out.write(head)
        done, total = 0, sum(tensor.size_bytes for tensor in tensors) or 1
        for tensor, start, offset in zip(tensors, starts, offsets, strict=True):
            out.write(bytes(offset - out.tell()))
            for read in pieces.written(tensor, start, decided.types.get(tensor.name), out):
                done += read
                on_progress(done, total)
        out.flush()
        os.fsync(out.fileno())
    used = Counter[str]()
    for tensor in tensors:
        kind = decided.types.get(tensor.name, tensor.type)
        used[kind] += tensor.size_bytes if kind == tensor.type else size_of(tensor.shape, kind)
    return Written(ggml.tool, types=dict(used))


def check_room(folder: Path, size_bytes: int, copies: int) -> None:
    """Refuse to begin what the disk has no room for. Raises Unavailable."""
    free = shutil.disk_usage(folder).free
    needed = size_bytes * copies + ROOM_LEFT_BYTES
    if free < needed:
        raise Unavailable(
            f"the disk has {format_bytes(free)} free, and this takes {format_bytes(needed)} while it is made; "
            "make room and try again"
        )


def _decided(tensors: list[Tensor], known: GgufHeader, job: QuantizeJob) -> Plan:
    if job.to not in MIXTURES:
        raise InvalidInput(f"a GGUF cannot become {job.to}; it can become {', '.join(MIXTURES)}", field="to")
    decided = plan(tensors, _facts(known), job.to, requantize=job.requantize)
    if isinstance(decided, Refused):
        raise Conflict(decided.because)
    return decided


def _facts(known: GgufHeader) -> ModelFacts:
    def number(key: str) -> int:
        value = known.values.get(f"{known.architecture}.{key}", 0)
        return value if isinstance(value, int) else 0

    heads, shared = number("attention.head_count"), number("attention.head_count_kv")
    sharing = heads / shared if heads and shared else 1.0
    return ModelFacts(known.architecture, number("block_count"), number("expert_count"), sharing)


class _Pieces:
    """Writes tensors piece by piece; a context manager, whose threads end with it."""

    def __init__(self, ggml: Ggml, source: Path, threads: int) -> None:
        self._ggml = ggml
        self._data = np.memmap(source, np.uint8, "r")
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)

    def __enter__(self) -> "_Pieces":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def written(self, tensor: Tensor, start: int, kind: str | None, out: BufferedWriter) -> Iterator[int]:
        """Write a tensor, as it is without a `kind`; yields the bytes read after each piece."""
        data = self._data[start : start + tensor.size_bytes]
        if kind is None:
            for at in range(0, len(data), COPY_BYTES):
                piece = data[at : at + COPY_BYTES]
                out.write(piece.tobytes())
                yield len(piece)
            return
        row = tensor.shape[0]
        rows = int(np.prod(tensor.shape[1:]))
        row_bytes = tensor.size_bytes // rows
        step = max(1, min(rows, PIECE_ELEMENTS // row))
        for first in range(0, rows, step):
            piece = data[first * row_bytes : (first + step) * row_bytes]
            floats = self._floats(np.array(piece), tensor.type, (len(piece) // row_bytes, row))
            if not np.isfinite(floats).all():
                raise RefusedArtifact(f"{tensor.name} holds values that are no numbers; the model is broken")
            out.write(self._quantized(floats, tensor.name, kind).tobytes())
            yield len(piece)

    def _floats(self, piece: Bytes, kind: str, shape: tuple[int, int]) -> Floats:
        """Return float32 [rows, row]."""
        if kind == "F32":
            return piece.view(np.float32).reshape(shape)
        rows, row = shape
        convert = self._ggml.dequantizer(kind)
        made = np.empty(shape, np.float32)
        self._shared(rows, lambda first, count: convert(_at(piece, first, rows), _at(made, first, rows), count * row))
        return made

    def _quantized(self, floats: Floats, name: str, kind: str) -> Bytes:
        """Return bytes [rows, bytes of a row] of a type."""
        rows, row = floats.shape
        if kind == "F16":
            return floats.astype(np.float16).view(np.uint8)
        made = np.empty((rows, size_of((row,), kind)), np.uint8)
        library, number = self._ggml.library, NUMBERS[kind]
        self._shared(
            rows,
            lambda first, count: library.ggml_quantize_chunk(
                number, floats.ctypes.data, made.ctypes.data, first * row, count, row, None
            ),
        )
        if not library.ggml_validate_row_data(number, made.ctypes.data, made.nbytes):
            raise RefusedArtifact(f"{name} cannot be quantized to {kind}: its values are out of range")
        return made

    def _shared(self, rows: int, work: Callable[[int, int], object]) -> None:
        """Do `work(first row, rows)` for all of them, each thread a part."""
        part = -(-rows // self._threads)
        waiting = [self._pool.submit(work, first, min(part, rows - first)) for first in range(0, rows, part)]
        for each in waiting:
            each.result()


def _at(array: Floats | Bytes, row: int, rows: int) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data + array.nbytes // rows * row)
