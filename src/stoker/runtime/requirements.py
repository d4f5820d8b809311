"""Whether what a Python model's `requirements.txt` asks for is installed beside stoker."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from stoker.types.errors import RefusedArtifact, Unsupported


def check(path: Path) -> None:
    """Compare each line of `path` with the installed distributions; nothing is installed.

    Raises Unsupported naming all that is missing, RefusedArtifact for a line that is no requirement.
    """
    if not path.exists():
        return
    missing: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        text = line.partition(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        try:
            wanted = Requirement(text)
        except InvalidRequirement as wrong:
            raise RefusedArtifact(
                f"{path.name} line {number}: {text!r} is no requirement such as `numpy>=2`"
            ) from wrong
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        problem = _problem(wanted)
        if problem:
            missing.append(problem)
    if missing:
        raise Unsupported(
            f"{path.name} asks for {'; '.join(missing)}. Install them into the environment that stoker runs in"
        )


def _problem(wanted: Requirement) -> str:
    try:
        installed = version(wanted.name)
    except PackageNotFoundError:
        return f"{wanted.name}{wanted.specifier} (not installed)"
    if wanted.specifier.contains(installed, prereleases=True):
        return ""
    return f"{wanted.name}{wanted.specifier} (installed: {installed})"
