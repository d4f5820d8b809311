"""The `onnx` engine for `predict`: ONNX Runtime on the CPU, the signature read from the model itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from stoker.runtime.engines.onnx_session import axis_names_of, first_line, open_session, signature_of
from stoker.runtime.engines.port import Array, Progress
from stoker.runtime.options import read
from stoker.types.errors import EngineFailed, InvalidInput
from stoker.types.models import Signature
from stoker.types.replica import ReplicaSpec


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """batch: whether requests are joined along the first dimension; by default when all tensors have a free one."""

    batch: bool | None = None


class OnnxEngine:
    """A PredictEngine over one session."""

    may_inline = True

    def __init__(self, session: Any, signature: Signature, *, batches: bool) -> None:
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
    session = open_session(Path(spec.model_dir) / spec.manifest.entry, spec.cores)
    signature = signature_of(session)
    batches = options.batch
    if batches is None:
        tensors = (*signature.inputs, *signature.outputs)
        batches = bool(tensors) and all(tensor.shape[:1] == (-1,) for tensor in tensors)
    progress("weights", 1.0)
    return OnnxEngine(session, signature, batches=batches)


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
