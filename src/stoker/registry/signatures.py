"""What goes into a model and what comes out, read from the model itself; its task and default options too.

Runs in the inspection process: onnx, onnxruntime and skops parse hostile bytes with C++ code. They are imported
lazily, so that a GGUF does not pay for scikit-learn, and a missing extra is named when it is needed.
"""

import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from stoker.registry.gguf import GgufHeader, read_header
from stoker.registry.inspection import Inspection, InspectionJob
from stoker.registry.pyfolder import read_python
from stoker.types.errors import RefusedArtifact, Unsupported
from stoker.types.models import Datatype, Signature, TensorSpec
from stoker.types.trusted import SKOPS_TRUSTED

_ONNX_TYPES: dict[str, Datatype] = {
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
_SENTENCE_OUTPUTS = {"sentence_embedding", "pooler_output", "embeddings", "sentence_embeddings"}
# Architectures of llama.cpp that make embeddings and no text.
_EMBEDDING_ARCHITECTURES = {"bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "modern-bert"}


def inspect_model(job: InspectionJob) -> Inspection:
    """Return what the model at `job.entry` says about itself. Raises RefusedArtifact, Unsupported (missing extra)."""
    folder = Path(job.folder)
    match job.format:
        case "onnx":
            return _inspect_onnx(folder, job)
        case "gguf":
            return _inspect_gguf(folder, job)
        case "skops":
            return _inspect_skops(folder / job.entry)
        case "python":
            return read_python(folder, job.entry, job.class_name)
        case _:
            return Inspection()


def _load_module(name: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise Unsupported(f"this model needs {name}, which is not installed; pip install 'stoker[{extra}]'") from error


def _inspect_onnx(folder: Path, job: InspectionJob) -> Inspection:
    onnx = _load_module("onnx", "onnx")
    runtime = _load_module("onnxruntime", "onnx")
    path = folder / job.entry
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise RefusedArtifact(f"{job.entry} is not an ONNX model, or is cut short: {error}") from error
    if not model.ir_version or not model.opset_import or not model.graph.output:
        raise RefusedArtifact(f"{job.entry} is not an ONNX model: it has no version, no operators or no outputs")
    metadata: dict[str, Any] = {
        "producer": f"{model.producer_name} {model.producer_version}".strip()[:100],
        "opset": max(item.version for item in model.opset_import),
        "ir_version": model.ir_version,
    }
    del model
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise RefusedArtifact(f"ONNX Runtime cannot open {job.entry}: {_short(error, folder)}") from error
    signature = Signature(
        inputs=tuple(_tensor(item, "input") for item in session.get_inputs()),
        outputs=tuple(_tensor(item, "output") for item in session.get_outputs()),
    )
    if embedding := _embedding_options(signature, folder, job):
        dimensions = signature.outputs[0].shape[-1:]
        return Inspection(signature, ("embed",), metadata | {"dimensions": max((*dimensions, 0))}, embedding)
    return Inspection(signature, ("predict",), metadata)


def _tensor(item: Any, role: str) -> TensorSpec:
    datatype = _ONNX_TYPES.get(item.type)
    if datatype is None:
        hint = "; convert with options={'zipmap': False}" if "map(" in item.type else ""
        raise RefusedArtifact(f"the {role} {item.name!r} has the type {item.type}, which no request can carry{hint}")
    return TensorSpec(
        item.name, datatype, tuple(size if isinstance(size, int) and size >= 0 else -1 for size in item.shape)
    )


def _embedding_options(signature: Signature, folder: Path, job: InspectionJob) -> dict[str, Any]:
    """Return the options of a text embedder: a tokenizer at hand, token ids in, vectors out. Empty when it is none."""
    home = Path(job.entry).parent
    tokenizers = [path for place in (Path(), home) if (path := (place / "tokenizer.json").as_posix()) in job.paths]
    if not tokenizers or not any(item.name == "input_ids" for item in signature.inputs) or not signature.outputs:
        return {}
    beside = {"tokenizer": tokenizers[0]} if tokenizers[0] != "tokenizer.json" else {}
    first = signature.outputs[0]
    if first.datatype not in ("FP32", "FP16") or first.name == "logits":
        return {}
    if len(first.shape) == 2 and first.name in _SENTENCE_OUTPUTS:
        return {"pooling": "none", "normalize": True} | beside
    if len(first.shape) != 3:
        return {}
    return {"pooling": _pooling(folder), "normalize": True} | beside


def _pooling(folder: Path) -> str:
    """Return how token vectors become one, by sentence-transformers' own file; `mean` without it."""
    try:
        modes = msgspec.json.decode((folder / "1_Pooling" / "config.json").read_bytes()[: 2**16], type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return "mean"
    return "cls" if modes.get("pooling_mode_cls_token") is True else "mean"


def _inspect_gguf(folder: Path, job: InspectionJob) -> Inspection:
    path = folder / job.entry
    with path.open("rb") as file:
        header = read_header(file, path.stat().st_size)
    kind = str(header.values.get("general.type", "model"))
    if kind != "model" or header.architecture in ("", "clip"):
        raise RefusedArtifact(f"{job.entry} is a GGUF {kind} of architecture {header.architecture!r}, not a model")
    if not header.vocabulary:
        raise RefusedArtifact(f"{job.entry} has no tokenizer in it (tokenizer.ggml.tokens)")
    if not header.tensors:
        raise RefusedArtifact(f"{job.entry} has no weights in it, only a vocabulary")
    _check_splits(header, job)
    task = "embed" if header.architecture in _EMBEDDING_ARCHITECTURES else "chat"
    return Inspection(
        tasks=(task,),
        metadata={
            "architecture": header.architecture[:100],
            "name": str(header.values.get("general.name", ""))[:200],
            "context_length": header.context_tokens,
            "parameters": header.parameters,
            "tensors": header.tensors,
            "vocabulary": header.vocabulary,
            "quantization": header.quantization,
            "chat_template": bool(header.chat_template),
        },
    )


def _check_splits(header: GgufHeader, job: InspectionJob) -> None:
    count = header.values.get("split.count", 1)
    if not isinstance(count, int) or count <= 1:
        return
    marker = f"-00001-of-{count:05d}.gguf"
    if not job.entry.endswith(marker):
        raise RefusedArtifact(f"{job.entry} is one of {count} parts; the entry must be the first, ending in {marker}")
    stem = job.entry.removesuffix(marker)
    missing = [n for n in range(1, min(count, 1000) + 1) if f"{stem}-{n:05d}-of-{count:05d}.gguf" not in job.paths]
    if missing:
        raise RefusedArtifact(f"{job.entry} has {count} parts, but part {missing[0]} is missing; push the whole folder")


def _inspect_skops(path: Path) -> Inspection:
    if not zipfile.is_zipfile(path):
        raise RefusedArtifact(f"{path.name} is not a skops file: it is no zip archive")
    skops = _load_module("skops.io", "sklearn")
    numpy = import_module("numpy")
    try:
        unknown = sorted(skops.get_untrusted_types(file=str(path)))
    except Exception as error:
        raise RefusedArtifact(f"{path.name} is not a skops file, or is damaged: {error}") from error
    if refused := [name for name in unknown if name not in SKOPS_TRUSTED]:
        raise RefusedArtifact(
            f"{path.name} contains types that are not trusted: {', '.join(refused[:10])};"
            " a model may hold scikit-learn's own types only (a python model can hold any)"
        )
    try:
        model = skops.load(str(path), trusted=unknown)
        columns = int(getattr(model, "n_features_in_", 0))
        return _sklearn_inspection(model, columns, numpy)
    except RefusedArtifact:
        raise
    except Exception as error:
        raise RefusedArtifact(f"scikit-learn cannot open {path.name}: {error}") from error


def _sklearn_inspection(model: Any, columns: int, numpy: Any) -> Inspection:
    if not columns or not hasattr(model, "predict"):
        raise RefusedArtifact(f"{type(model).__name__} is not fitted, or cannot predict; push a fitted estimator")
    row = numpy.zeros((1, columns))
    outputs = [_output("label" if hasattr(model, "classes_") else "prediction", model.predict(row), numpy)]
    if hasattr(model, "predict_proba"):
        outputs.append(_output("probabilities", model.predict_proba(row), numpy))
    classes = getattr(model, "classes_", ())
    metadata: dict[str, Any] = {"estimator": type(model).__name__}
    if 0 < len(classes) <= 1000:
        metadata["labels"] = [str(label)[:200] for label in classes]
    return Inspection(Signature((TensorSpec("input", "FP64", (-1, columns)),), tuple(outputs)), ("predict",), metadata)


def _output(name: str, value: Any, numpy: Any) -> TensorSpec:
    if not isinstance(value, numpy.ndarray):
        raise RefusedArtifact(
            f"the output {name} is a {type(value).__name__}, not one array; push it as a python model"
        )
    kinds: dict[str, Datatype] = {"f8": "FP64", "f4": "FP32", "i8": "INT64", "i4": "INT32", "b1": "BOOL"}
    datatype = kinds.get(f"{value.dtype.kind}{value.dtype.itemsize}", "BYTES")
    return TensorSpec(name, datatype, (-1, *value.shape[1:]))


def _short(error: Exception, folder: Path) -> str:
    """Return the words of a native error without the folder that is about to go."""
    return str(error).replace(f"{folder}/", "")[:2000]
