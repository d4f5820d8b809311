"""An ONNX model with its weights in eight bits: ONNX Runtime's dynamic quantization, no data needed."""

import os
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

from stoker.core.quantization import GAIN_MIN_RATIO
from stoker.types.errors import Conflict, InvalidInput, RefusedArtifact, Unavailable, Unsupported
from stoker.types.quantization import QuantizeJob, Written

# What a model that is quantized already computes with.
_INTEGER_OPERATORS: Final = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "ConvInteger",
        "QLinearMatMul",
        "QLinearConv",
        "MatMulNBits",
        "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat",
    }
)
MODEL_BYTES_MAX: Final = 2**31 - 1  # protobuf's own, of one file

OnProgress = Callable[[int, int], None]  # bytes read, of how many; 0: nobody knows


def quantize(job: QuantizeJob, on_progress: OnProgress, has_room: Callable[[int], None]) -> Written:
    """Write `job.target`; `has_room` is asked with the most bytes that can come out, and raises Unavailable.

    Weights become signed eight-bit integers, a scale for each column, with one bit left free: without it the sums of
    some processors (AVX2, and AVX-512 without VNNI) overflow, and the same file would be worse there.

    Raises:
        Conflict: there is nothing to gain, or it is quantized already.
        RefusedArtifact, Unavailable, Unsupported: see gguf.py.
    """
    onnx, quantization = _tools()
    source = Path(job.source)
    if job.to != "int8":
        raise InvalidInput(f"an ONNX model cannot become {job.to}; it can become int8", field="to")
    model = onnx.load(str(source), load_external_data=False)
    operators = {node.op_type for graph in _graphs(model.graph) for node in graph.node}
    if found := sorted(operators & _INTEGER_OPERATORS):
        raise Conflict(f"it is quantized already: it computes with {', '.join(found)}")
    if _is_mostly_integers(onnx, model):
        raise Conflict("it is quantized already: most of its weights are eight-bit integers")
    beside = tuple(sorted(_beside(onnx, model)))
    before = source.stat().st_size + sum((source.parent / path).stat().st_size for path in beside)
    if before > MODEL_BYTES_MAX:
        raise Unsupported(f"it has {before} bytes, and one ONNX file holds at most {MODEL_BYTES_MAX}")
    del model
    has_room(before)
    on_progress(0, 0)
    _made(quantization, source, Path(job.target))
    made = onnx.load(job.target)
    if not {node.op_type for graph in _graphs(made.graph) for node in graph.node} & _INTEGER_OPERATORS:
        raise Conflict(
            "none of its operators can be quantized: there is no MatMul, Gemm, Conv, LSTM or Attention in it"
        )
    after = Path(job.target).stat().st_size
    if after >= before * (1 - GAIN_MIN_RATIO):
        raise Conflict(f"int8 would make it hardly smaller: {after} bytes where it has {before}")
    with Path(job.target).open("rb") as out:
        os.fsync(out.fileno())
    folder = source.parent
    return Written(f"onnxruntime {metadata.version('onnxruntime')}", tuple(str(folder / path) for path in beside))


def _tools() -> tuple[Any, Any]:
    try:
        return import_module("onnx"), import_module("onnxruntime.quantization")
    except ImportError as missing:
        raise Unsupported(f"quantizing an ONNX model needs {missing.name}; install stoker[onnx]") from missing


def _made(quantization: Any, source: Path, target: Path) -> None:
    try:
        quantization.quantize_dynamic(
            str(source), str(target), per_channel=True, reduce_range=True, weight_type=quantization.QuantType.QInt8
        )
    except OSError as refused:
        raise Unavailable(f"the result cannot be written: {refused.strerror or refused}") from refused
    except MemoryError:
        raise
    except Exception as failed:  # the boundary to a tool that raises whatever it likes about a graph
        raise RefusedArtifact(f"ONNX Runtime cannot quantize it: {type(failed).__name__}: {failed}") from failed


def _graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph and those inside it, of loops and branches."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _graphs(inner)


def _is_mostly_integers(onnx: Any, model: Any) -> bool:
    """Return whether small integers that are cast to floats while it runs are most of its weights."""
    small = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT4, onnx.TensorProto.UINT4}
    counts = [0, 0]
    for tensor in (tensor for graph in _graphs(model.graph) for tensor in graph.initializer):
        elements = 1
        for size in tensor.dims:
            elements *= size
        counts[tensor.data_type in small] += elements
    return counts[1] > counts[0]


def _beside(onnx: Any, model: Any) -> set[str]:
    """Return the files, as paths from the model's, that hold weights outside of it."""
    tensors = [tensor for graph in _graphs(model.graph) for tensor in graph.initializer]
    return {
        entry.value
        for tensor in tensors
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
