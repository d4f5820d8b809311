"""An ONNX Runtime session as stoker opens it, for every engine that needs one: threads, spinning, words of failure."""

from pathlib import Path
from typing import Any, Final

import onnxruntime

from stoker.types.errors import RefusedArtifact
from stoker.types.models import Datatype, Signature, TensorSpec

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


def open_session(path: Path, cores: float) -> Any:
    """Open the model at `path` with a thread for each core. Raises RefusedArtifact with the runtime's words."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, int(cores))
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if cores < SPIN_CORES:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as broken:  # the runtime raises a dozen unrelated types
        raise RefusedArtifact(f"ONNX Runtime does not load {path.name}: {first_line(broken)}") from broken


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
