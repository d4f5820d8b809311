"""The `sklearn` engine: scikit-learn estimators saved with skops, which names every type before it makes one.

Pickles run code when they are opened and are refused whatever is in them.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import skops.io

from stoker.protocol.oip_binary import DTYPES, datatype_of
from stoker.runtime.engines.port import Array, Progress
from stoker.runtime.options import read
from stoker.types.errors import EngineFailed, InvalidInput, RefusedArtifact
from stoker.types.models import Signature, TensorSpec
from stoker.types.replica import ReplicaSpec
from stoker.types.trusted import SKOPS_TRUSTED

PICKLES: Final = (".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle")


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No options so far."""


class SklearnEngine:
    """A PredictEngine over one fitted estimator: `label` or `prediction`, and `probabilities` where it has them."""

    batches = True
    may_inline = True

    def __init__(self, model: Any, signature: Signature) -> None:
        self.signature = signature
        self._model = model
        self._input = signature.inputs[0].name
        self._outputs = {spec.name: DTYPES[spec.datatype] for spec in signature.outputs}

    def predict(self, inputs: Mapping[str, Array], outputs: tuple[str, ...]) -> dict[str, Array]:
        """See PredictEngine."""
        rows = inputs[self._input]
        found: dict[str, Array] = {}
        try:
            for name in outputs or self._outputs:
                value = self._model.predict_proba(rows) if name == "probabilities" else self._model.predict(rows)
                found[name] = _as(np.asarray(value), self._outputs[name])
        except ValueError as wrong:
            # Names, shapes and datatypes were checked, so what the estimator still refuses are the values (NaN, …).
            raise InvalidInput(f"scikit-learn: {wrong}", field=self._input) from wrong
        except Exception as failed:  # the boundary to the estimator
            raise EngineFailed(f"scikit-learn: {type(failed).__name__}: {failed}") from failed
        return found

    def close(self) -> None:
        """See PredictEngine."""


def load(spec: ReplicaSpec, progress: Progress) -> SklearnEngine:
    """See engines.port."""
    read(spec, Options)
    path = Path(spec.model_dir) / spec.manifest.entry
    if path.suffix.lower() in PICKLES:
        raise RefusedArtifact(
            f"{path.name} is a pickle, which runs any code when it is opened; load it where you trust it and save it "
            "again with `skops.io.dump(model, 'model.skops')`, or export it to ONNX"
        )
    progress("weights", 0.0)
    # Clients send tensors without column names, also to estimators that were fitted with them.
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    model = _open(path)
    progress("weights", 1.0)
    return SklearnEngine(model, _signature(model, spec.manifest.signature))


def _open(path: Path) -> Any:
    try:
        untrusted = set(skops.io.get_untrusted_types(file=path)) - SKOPS_TRUSTED
    except Exception as broken:  # zip, json and type errors of a hostile file
        raise RefusedArtifact(f"{path.name} is no skops file: {type(broken).__name__}: {broken}") from broken
    if untrusted:
        raise RefusedArtifact(
            f"{path.name} is made of types that are not trusted: {', '.join(sorted(untrusted)[:10])}; "
            "export the model to ONNX, or serve it with the `python` engine"
        )
    try:
        return skops.io.load(path, trusted=sorted(SKOPS_TRUSTED))
    except Exception as broken:  # see above; also estimators of another scikit-learn
        raise RefusedArtifact(f"{path.name} cannot be loaded: {type(broken).__name__}: {broken}") from broken


def _signature(model: Any, known: Signature) -> Signature:
    """Return what the registry read from the model, or the same read here."""
    if known.inputs and known.outputs:
        return known
    columns = int(getattr(model, "n_features_in_", 0))
    if not columns or not hasattr(model, "predict"):
        raise RefusedArtifact(f"{type(model).__name__} is not fitted, or cannot predict")
    row = np.zeros((1, columns))
    name = "label" if hasattr(model, "classes_") else "prediction"
    outputs = [_tensor(name, model.predict(row))]
    if hasattr(model, "predict_proba"):
        outputs.append(_tensor("probabilities", model.predict_proba(row)))
    return Signature(inputs=(TensorSpec("input", "FP64", (-1, columns)),), outputs=tuple(outputs))


def _tensor(name: str, value: Any) -> TensorSpec:
    array = np.asarray(value)
    return TensorSpec(name, datatype_of(array), (-1, *array.shape[1:]))


def _as(array: Array, dtype: np.dtype[Any]) -> Array:
    if dtype.kind != "O":
        return array.astype(dtype, copy=False)
    found = np.empty(array.size, object)
    found[:] = [str(element).encode() for element in array.reshape(-1)]
    return found.reshape(array.shape)
