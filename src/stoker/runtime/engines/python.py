"""The `python` engine: a class of the user's own, in a folder with its requirements.

    class Model:
        inputs = {"x": ("FP32", [-1, 4])}          # where stoker.yaml does not say it
        outputs = {"y": ("FP32", [-1])}
        def load(self, folder: Path) -> None: ...                                  # optional
        def predict(self, inputs: dict[str, ndarray]) -> dict[str, ndarray]: ...   # task predict
        def embed(self, texts: list[str]) -> ndarray: ...                          # task embed, [n, dim]
        async def generate(self, request) -> AsyncIterator[str]: ...               # task chat

Its code never runs in the loop that answers sockets. What it raises reaches the client as its own words, the
traceback only the log.
"""

import logging
import sys
import traceback
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Final

import msgspec

from stoker.runtime.engines.port import Engine, Progress
from stoker.runtime.engines.python_work import PythonEmbed, PythonGenerate, PythonPredict, PythonResume
from stoker.runtime.options import read
from stoker.runtime.requirements import check
from stoker.types.errors import EngineFailed, RefusedArtifact
from stoker.types.models import Signature, TensorSpec
from stoker.types.replica import ReplicaSpec

MODULE: Final = "stoker_model"
_METHODS: Final = {"predict": "predict", "embed": "embed", "chat": "generate"}
_log = logging.getLogger(__name__)


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """batch: whether requests are joined along the first dimension; by default when all tensors have a free one.

    slots: requests the model generates for at once, 0 for the endpoint's concurrency.
    """

    batch: bool | None = None
    slots: int = 0


class _Declared(msgspec.Struct, frozen=True):
    """The class attributes `inputs` and `outputs`, checked."""

    inputs: dict[str, tuple[str, list[int]]] = {}
    outputs: dict[str, tuple[str, list[int]]] = {}


def load(spec: ReplicaSpec, progress: Progress) -> Engine:
    """See engines.port."""
    options = read(spec, Options)
    folder = Path(spec.model_dir)
    check(folder / "requirements.txt")
    progress("code", 0.0)
    name = str(spec.manifest.metadata.get("class") or "Model")
    path = folder / spec.manifest.entry
    kind = _import(path, name)
    method = _METHODS[spec.task]
    if not callable(getattr(kind, method, None)):
        raise RefusedArtifact(f"{path.name}: {name} has no method {method!r}, which the task {spec.task!r} needs")
    model = _made(kind, folder, path)
    if spec.task == "embed":
        return PythonEmbed(model)
    if spec.task == "chat":
        if callable(getattr(model, "resume", None)):
            return PythonResume(model, options.slots)
        return PythonGenerate(model, options.slots)
    signature = _signature(kind, spec.manifest.signature, path)
    batches = options.batch
    if batches is None:
        batches = all(tensor.shape[:1] == (-1,) for tensor in (*signature.inputs, *signature.outputs))
    return PythonPredict(model, signature, batches=batches)


def words(problem: BaseException, path: Path) -> str:
    """Return what `problem` says and, where it is known, the line of the model's file that raised it."""
    where = [frame.lineno for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == str(path)]
    place = f" ({path.name} line {where[-1]})" if where else ""
    return f"{type(problem).__name__}: {problem}{place}"


def _import(path: Path, name: str) -> Any:
    sys.dont_write_bytecode = True  # the folder is shared and read-only
    sys.path.insert(0, str(path.parent))
    found = spec_from_file_location(MODULE, path)
    if found is None or found.loader is None or not path.is_file():
        raise RefusedArtifact(f"{path.name} is no Python file of this model")
    module = module_from_spec(found)
    sys.modules[MODULE] = module
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as problem:  # the user's own code
        _log.exception("importing the model raised")
        raise EngineFailed(f"importing {path.name} raised {words(problem, path)}") from problem
    kind = getattr(module, name, None)
    if not isinstance(kind, type):
        raise RefusedArtifact(f"{path.name} has no class {name!r}")
    return kind


def _made(kind: Any, folder: Path, path: Path) -> Any:
    try:
        model = kind()
        if hasattr(model, "load"):
            model.load(folder)
    except (Exception, SystemExit) as problem:  # the user's own code
        _log.exception("loading the model raised")
        raise EngineFailed(f"{kind.__name__}.load raised {words(problem, path)}") from problem
    return model


def _signature(kind: Any, known: Signature, path: Path) -> Signature:
    """Return the signature of the manifest, or the one that the class declares."""
    if known.inputs and known.outputs:
        return known
    try:
        declared = msgspec.convert(
            {"inputs": getattr(kind, "inputs", {}), "outputs": getattr(kind, "outputs", {})}, _Declared
        )
        signature = Signature(_tensors(declared.inputs), _tensors(declared.outputs))
    except (msgspec.ValidationError, TypeError) as wrong:
        raise RefusedArtifact(f"{path.name}: {kind.__name__}.inputs or .outputs: {wrong}") from wrong
    if not signature.inputs or not signature.outputs:
        raise RefusedArtifact(
            f"{path.name}: what goes in and out is not said; write it into stoker.yaml, or as class attributes: "
            'inputs = {"x": ("FP32", [-1, 4])} and outputs = {"y": ("FP32", [-1])}'
        )
    return signature


def _tensors(declared: dict[str, tuple[str, list[int]]]) -> tuple[TensorSpec, ...]:
    found = []
    for name, (datatype, shape) in declared.items():
        found.append(msgspec.convert({"name": name, "datatype": datatype, "shape": shape}, TensorSpec))
    return tuple(found)
