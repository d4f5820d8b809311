"""What the control API is told of a version that is registered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stoker.types.models import FileEntry, Format


@dataclass(frozen=True, slots=True)
class Registration:
    """What a version is made of, as the pusher says it; what is None is found in the files."""

    files: tuple[FileEntry, ...]
    format: Format | None = None
    entry: str | None = None
    tasks: tuple[str, ...] | None = None
    options: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    lineage: Mapping[str, Any] | None = None
    signatures: tuple[str, ...] | None = None
    project: str | None = None  # whose demands of signatures it is held to

    def body(self) -> dict[str, Any]:
        """Return the request body; what was not said is left out."""
        said = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in said.items() if value is not None}
