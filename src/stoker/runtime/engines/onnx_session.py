"""An ONNX Runtime session as stoker opens it, for every engine that needs one: device, threads, words of failure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import onnxruntime
from msgspec import Meta

from stoker.types.errors import InvalidInput, RefusedArtifact
from stoker.types.models import Datatype, Signature, TensorSpec
from stoker.types.units import parse_bytes

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"

SPIN_CORES: Final = 8  # with fewer cores an idle thread that spins takes them from somebody who works
DATATYPES: Final[dict[str, Datatype]] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class SessionOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be set for any ONNX model.

    threads: of one call; 0 to measure at load. device: where it runs; `auto` takes a GPU when there is one and the CPU
    when there is none, `cuda` does not start without. device_id: which GPU. gpu_memory: the most of it that is used.
    """

    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    device_id: Annotated[int, Meta(ge=0, le=255)] = 0
    gpu_memory: str | int = 0


def providers_of(options: SessionOptions, available: Sequence[str]) -> list[Any]:
    """Return what ONNX Runtime is to run on, first choice first. Raises InvalidInput for a GPU that it cannot use."""
    wants_gpu = options.device == "cuda" or (options.device == "auto" and CUDA in available)
    if wants_gpu and CUDA not in available:
        have = ", ".join(name.removesuffix("ExecutionProvider") for name in available)
        raise InvalidInput(
            f"device is cuda, and this ONNX Runtime can use {have} only; install onnxruntime-gpu in the place of "
            "onnxruntime, or set device to auto or cpu",
            field="options.device",
        )
    if not wants_gpu:
        return [CPU]
    gpu: dict[str, str] = {
        "device_id": str(options.device_id),
        # Grow by what is asked for: doubling takes the memory that another replica on the GPU needs.
        "arena_extend_strategy": "kSameAsRequested",
        # Trying every algorithm for every new shape makes the first call of each batch size take seconds.
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    try:
        if limit := parse_bytes(options.gpu_memory):
            gpu["gpu_mem_limit"] = str(limit)
    except ValueError as wrong:
        raise InvalidInput(str(wrong), field="options.gpu_memory") from wrong
    return [(CUDA, gpu), CPU]


def open_session(path: Path, options: SessionOptions, threads: int, cores: float) -> Any:
    """Open the model at `path`. Raises RefusedArtifact with the runtime's words, InvalidInput for a missing GPU."""
    wanted = onnxruntime.SessionOptions()
    wanted.intra_op_num_threads = threads
    wanted.inter_op_num_threads = 1
    wanted.log_severity_level = 3
    if cores < SPIN_CORES:
        wanted.add_session_config_entry("session.intra_op.allow_spinning", "0")
        wanted.add_session_config_entry("session.inter_op.allow_spinning", "0")
    providers = providers_of(options, onnxruntime.get_available_providers())
    try:
        session = onnxruntime.InferenceSession(str(path), wanted, providers=providers)
    except Exception as broken:  # the runtime raises a dozen unrelated types
        raise RefusedArtifact(f"ONNX Runtime does not load {path.name}: {first_line(broken)}") from broken
    # The runtime goes on with the CPU when the GPU's libraries are missing or do not fit, and only logs it.
    if options.device == "cuda" and not is_on_gpu(session):
        raise InvalidInput(
            "device is cuda, and ONNX Runtime could not use it (its own words are above in the log); the libraries of "
            "CUDA and cuDNN must be of the versions it was built for",
            field="options.device",
        )
    return session


def is_on_gpu(session: Any) -> bool:
    """Return whether the session runs on a GPU."""
    return CUDA in session.get_providers()


def signature_of(session: Any) -> Signature:
    """Return what the model takes and gives. Raises RefusedArtifact for values that are no tensors."""
    return Signature(
        inputs=tuple(_tensor(node) for node in session.get_inputs()),
        outputs=tuple(_tensor(node) for node in session.get_outputs()),
    )


def axis_names_of(session: Any) -> dict[str, tuple[str, ...]]:
    """Return what the model calls the axes of its inputs and outputs, "" for those of fixed size or without a name."""
    return {
        node.name: tuple(size if isinstance(size, str) else "" for size in node.shape)
        for node in (*session.get_inputs(), *session.get_outputs())
    }


def _tensor(node: Any) -> TensorSpec:
    datatype = DATATYPES.get(node.type)
    if datatype is None:
        hint = "; convert with the option zipmap=False" if "map" in node.type else ""
        raise RefusedArtifact(f"{node.name!r} is a {node.type}, which no protocol here can carry{hint}")
    return TensorSpec(node.name, datatype, tuple(size if isinstance(size, int) else -1 for size in node.shape))


def first_line(problem: Exception) -> str:
    """Return the first line of what the runtime said, without its source location."""
    text = str(problem).strip().splitlines()
    return text[0] if text else type(problem).__name__
