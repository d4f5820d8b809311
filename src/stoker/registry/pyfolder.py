"""What a folder of Python code serves, read from its text: no line of it runs at push.

The convention: `model.py` has a class with `predict`, `embed` or `generate`, and `inputs` and `outputs` as
`{"x": ("FP32", [-1, 4])}`. A `stoker.yaml` beside it may name the class and what goes in and out instead.
"""

import ast
from pathlib import Path

import msgspec

from stoker.registry.inspection import Inspection
from stoker.types.errors import RefusedArtifact
from stoker.types.models import Signature, TensorSpec

SOURCE_BYTES_MAX = 4 * 2**20
# A method says what a class can do.
_TASK_OF_METHOD = {"predict": "predict", "embed": "embed", "generate": "chat"}


def read_python(folder: Path, entry: str, class_name: str) -> Inspection:
    """Return the task of the class in `entry` that serves. Raises RefusedArtifact when there is none, or several."""
    raw = (folder / entry).read_bytes()
    if len(raw) > SOURCE_BYTES_MAX:
        raise RefusedArtifact(f"{entry} is larger than {SOURCE_BYTES_MAX} bytes")
    try:
        tree = ast.parse(raw, filename=entry)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RefusedArtifact(f"{entry} is not Python: {error}") from error
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    serving = {name: methods for name, node in classes.items() if (methods := _serving_methods(node))}
    if class_name and class_name not in serving and not (class_name in classes and classes[class_name].bases):
        raise RefusedArtifact(f"{entry} has no class {class_name} with a method predict, embed or generate")
    if not class_name and not serving:
        raise RefusedArtifact(f"{entry} has no class with a method predict, embed or generate")
    if not class_name and len(serving) > 1 and "Model" not in serving:
        raise RefusedArtifact(f"{entry} has several classes that serve ({', '.join(serving)}); name one in stoker.yaml")
    chosen = class_name or ("Model" if "Model" in serving else next(iter(serving)))
    # Methods of a class with bases may be inherited; then stoker.yaml has to say the tasks.
    tasks = tuple(_TASK_OF_METHOD[method] for method in serving.get(chosen, []))
    return Inspection(_signature(classes[chosen], entry), tasks, {"class": chosen})


def _serving_methods(node: ast.ClassDef) -> list[str]:
    defined = {item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}
    return [method for method in _TASK_OF_METHOD if method in defined]


def _signature(node: ast.ClassDef, entry: str) -> Signature:
    """Return what the class attributes `inputs` and `outputs` say; nothing where they are computed."""
    found: dict[str, tuple[TensorSpec, ...]] = {}
    for item in node.body:
        target = item.targets[0] if isinstance(item, ast.Assign) else getattr(item, "target", None)
        if not isinstance(target, ast.Name) or target.id not in ("inputs", "outputs"):
            continue
        try:
            declared = msgspec.convert(
                ast.literal_eval(getattr(item, "value", None) or ast.Dict(keys=[], values=[])),
                dict[str, tuple[str, list[int]]],
            )
            specs = [{"name": name, "datatype": kind, "shape": shape} for name, (kind, shape) in declared.items()]
            found[target.id] = msgspec.convert(specs, tuple[TensorSpec, ...])
        except msgspec.ValidationError as error:
            raise RefusedArtifact(f"{entry}: {node.name}.{target.id}: {error}") from error
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue  # not written out: the engine asks the class itself
    return Signature(found.get("inputs", ()), found.get("outputs", ()))
