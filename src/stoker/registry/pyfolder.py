"""What a folder of Python code serves, read from its text: no line of it runs at push.

The convention: `model.py` has a class with `load(self, folder)` and `predict`, `embed` or `generate`. A `stoker.yaml`
beside it may name the class and what goes in and out.
"""

import ast
from pathlib import Path

from stoker.registry.inspection import Inspection
from stoker.types.errors import RefusedArtifact

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
    serving = {
        node.name: methods
        for node in tree.body
        if isinstance(node, ast.ClassDef) and (methods := _serving_methods(node))
    }
    if class_name and class_name not in serving:
        raise RefusedArtifact(f"{entry} has no class {class_name} with a method predict, embed or generate")
    if not serving:
        raise RefusedArtifact(f"{entry} has no class with a method predict, embed or generate")
    if not class_name and len(serving) > 1 and "Model" not in serving:
        raise RefusedArtifact(f"{entry} has several classes that serve ({', '.join(serving)}); name one in stoker.yaml")
    chosen = class_name or ("Model" if "Model" in serving else next(iter(serving)))
    tasks = tuple(_TASK_OF_METHOD[method] for method in serving[chosen])
    return Inspection(tasks=tasks, metadata={"class": chosen})


def _serving_methods(node: ast.ClassDef) -> list[str]:
    defined = {item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}
    return [method for method in _TASK_OF_METHOD if method in defined]
