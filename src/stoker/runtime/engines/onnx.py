"""The `onnx` engine for `predict`: ONNX Runtime on CPU or GPU, the signature read from the model itself."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stoker.protocol.oip_binary import DTYPES
from stoker.runtime.engines.onnx_session import SessionOptions, axis_names_of, first_line, signature_of
from stoker.runtime.engines.onnx_threads import Feeds, open_fitting
from stoker.runtime.engines.port import Array, Progress
from stoker.runtime.options import read
from stoker.types.errors import EngineFailed, InvalidInput
from stoker.types.models import Signature
from stoker.types.replica import ReplicaSpec


class Options(SessionOptions, frozen=True, forbid_unknown_fields=True):
    """batch: whether requests are joined along the first dimension; by default when all tensors have a free one."""

    batch: bool | None = None


class OnnxEngine:
    """A PredictEngine over one session."""

    may_inline = True

    def __init__(self, session: Any, signature: Signature, *, batches: bool, about: str = "") -> None:
        self.about = about
        self.signature = signature
        self.batches = batches
        self.axis_names = axis_names_of(session)
        self._run = session.run
        self._outputs = [spec.name for spec in signature.outputs]
        self._texts_in = [spec.name for spec in signature.inputs if spec.datatype == "BYTES"]
        self._texts_out = {spec.name for spec in signature.outputs if spec.datatype == "BYTES"}

    def predict(self, inputs: Mapping[str, Array], outputs: tuple[str, ...]) -> dict[str, Array]:
        """See PredictEngine."""
        if self._texts_in:
            inputs = {**inputs, **{name: _as_text(name, inputs[name]) for name in self._texts_in}}
        names = list(outputs) if outputs else self._outputs
        try:
            found = self._run(names, inputs)
        except Exception as failed:  # the runtime raises a dozen unrelated types
            raise EngineFailed(f"ONNX Runtime: {first_line(failed)}") from failed
        answer = dict(zip(names, found, strict=True))
        for name in self._texts_out & answer.keys():
            answer[name] = _as_bytes(answer[name])
        return answer

    def close(self) -> None:
        """See PredictEngine."""


def load(spec: ReplicaSpec, progress: Progress) -> OnnxEngine:
    """See engines.port."""
    options = read(spec, Options)
    progress("weights", 0.0)
    session, about = open_fitting(
        Path(spec.model_dir) / spec.manifest.entry, spec, options, lambda opened: _zeros(opened, spec, options)
    )
    signature = signature_of(session)
    progress("weights", 1.0)
    return OnnxEngine(session, signature, batches=_batches(options, signature), about=about)


def _batches(options: Options, signature: Signature) -> bool:
    if options.batch is not None:
        return options.batch
    tensors = (*signature.inputs, *signature.outputs)
    return bool(tensors) and all(tensor.shape[:1] == (-1,) for tensor in tensors)


def _zeros(session: Any, spec: ReplicaSpec, options: Options) -> Feeds | None:
    """Return what makes inputs to measure with; a free size is the largest that requests are padded to."""
    signature = signature_of(session)
    batches = _batches(options, signature)
    shapes = {tensor.name: tensor.shape[1:] if batches else tensor.shape for tensor in signature.inputs}
    listed = [size for pad in spec.pad.values() if not isinstance(pad.to, str) for size in pad.to]
    if not listed and any(-1 in shape for shape in shapes.values()):
        return None
    dtypes = {tensor.name: DTYPES[tensor.datatype] for tensor in signature.inputs}

    def feeds(rows: int) -> dict[str, Array]:
        whole = {
            name: (rows,) * batches + tuple(size if size >= 0 else max(listed) for size in shape)
            for name, shape in shapes.items()
        }
        size_bytes = sum(math.prod(shape) * dtypes[name].itemsize for name, shape in whole.items())
        if rows > 1 and (not batches or rows > spec.max_rows or size_bytes > spec.max_bytes):
            return {}
        return {
            name: np.full(shape, "", object) if dtypes[name].kind == "O" else np.zeros(shape, dtypes[name])
            for name, shape in whole.items()
        }

    return feeds


def _as_text(name: str, array: Array) -> Array:
    try:
        texts = [element.decode() for element in array.reshape(-1)]
    except UnicodeDecodeError as wrong:
        raise InvalidInput(f"{name!r} takes text, and this is not UTF-8: {wrong}", field=name) from wrong
    found = np.empty(len(texts), object)
    found[:] = texts
    return found.reshape(array.shape)


def _as_bytes(array: Array) -> Array:
    found = np.empty(array.size, object)
    found[:] = [str(element).encode() for element in array.reshape(-1)]
    return found.reshape(array.shape)
