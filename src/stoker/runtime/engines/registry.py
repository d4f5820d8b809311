"""Which module is behind an engine's name. The one place that imports engines, each only when it is asked for."""

from importlib import import_module, metadata
from typing import Final

from stoker.runtime.engines.port import Engine, Load, Progress
from stoker.types.errors import InvalidInput, Unsupported
from stoker.types.models import DEFAULT_ENGINE, Format
from stoker.types.replica import ReplicaSpec

# engine name and task to the module with its `load`; "*" for any task.
_MODULES: Final[dict[str, dict[str, str]]] = {
    "onnx": {"predict": "onnx", "embed": "onnx_embed"},
    "sklearn": {"predict": "sklearn"},
    "python": {"*": "python"},
    "llamacpp": {"*": "llamacpp"},
    "openai": {"*": "openai"},
    "openvino": {"*": "openvino"},
}

# What can run a format, in order of preference: the first is what is taken of two that are as good (core/engines.py).
_CANDIDATES: Final[dict[tuple[str, str], tuple[str, ...]]] = {("gguf", "chat"): ("llamacpp", "openvino")}
_PACKAGES: Final[dict[str, str]] = {"llamacpp": "xllamacpp", "openvino": "openvino-genai"}
EXTRAS: Final[dict[str, str]] = {"llamacpp": "llama", "openvino": "openvino"}


def candidates(kind: Format, task: str) -> tuple[str, ...]:
    """Return the engines that can run a model of format `kind`, in order of preference; at least one."""
    return _CANDIDATES.get((kind, task), (DEFAULT_ENGINE[kind],))


def version(engine: str) -> str:
    """Return the version of the package behind `engine`, "" when it is not installed."""
    try:
        return metadata.version(_PACKAGES.get(engine, engine))
    except metadata.PackageNotFoundError:
        return ""


def load(spec: ReplicaSpec, progress: Progress) -> Engine:
    """Load the engine that `spec` names; blocks. Raises InvalidInput, Unsupported or what the engine raises."""
    return find(spec)(spec, progress)


def find(spec: ReplicaSpec) -> Load:
    """Import the engine that `spec` names, and return what loads it. Raises InvalidInput or Unsupported."""
    tasks = _MODULES.get(spec.engine)
    if tasks is None:
        raise InvalidInput(f"no engine is called {spec.engine!r}; there are {sorted(_MODULES)}", field="engine")
    module = tasks.get(spec.task) or tasks.get("*")
    if module is None:
        raise InvalidInput(f"the engine {spec.engine!r} does {sorted(tasks)}, not {spec.task!r}", field="task")
    try:
        found = import_module(f"stoker.runtime.engines.{module}")
    except ImportError as missing:
        raise Unsupported(
            f"the engine {spec.engine!r} needs the package {missing.name!r}, which is not installed here"
        ) from missing
    load_of: Load = found.load
    return load_of
