"""Manifests from files, folders and standard input as one body, and errors of that body back to file and line."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stoker.cli.values import file_bytes
from stoker.client.connection import Detail, ManifestRefused, PolicyRefused
from stoker.types.errors import InvalidInput, NotFound

SUFFIXES: Final = (".yaml", ".yml", ".json")
BYTES_MAX: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Manifests:
    """One body of several documents. `starts` says at which line (from 1) each source begins."""

    text: bytes
    starts: tuple[tuple[int, str], ...]

    def place(self, line: int) -> str:
        """Return `file:line` of a line of the body."""
        begin, source = max((start for start in self.starts if start[0] <= line), default=(1, "-"))
        return f"{source}:{line - begin + 1}"

    def located(self, problem: ManifestRefused | PolicyRefused) -> ManifestRefused | PolicyRefused:
        """Return `problem` with each line as `file:line`."""
        return type(problem)(
            tuple(
                Detail(f"{self.place(one.line)}: {one.field + ': ' if one.field else ''}{one.message}")
                if one.line
                else one
                for one in problem.details
            )
        )


def read_manifests(sources: tuple[str, ...]) -> Manifests:
    """Return what is in `sources`: files, folders (every .yaml, .yml and .json below), `-` for standard input.

    Raises:
        NotFound: a source that does not exist, or a folder without manifests.
        InvalidInput: unreadable or too large.
    """
    pieces: list[bytes] = []
    starts: list[tuple[int, str]] = []
    line = 1
    for name, text in [found for source in sources for found in _read(source)]:
        if pieces:
            pieces.append(b"---\n")
            line += 1
        starts.append((line, name))
        ended = text if text.endswith(b"\n") else text + b"\n"
        pieces.append(ended)
        line += ended.count(b"\n")
    body = b"".join(pieces)
    if len(body) > BYTES_MAX:
        raise InvalidInput(f"the manifests are {len(body)} bytes together; at most {BYTES_MAX} are taken at once")
    return Manifests(body, tuple(starts))


def _read(source: str) -> list[tuple[str, bytes]]:
    if source == "-":
        return [("<stdin>", sys.stdin.buffer.read(BYTES_MAX + 1))]
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
        if not files:
            raise NotFound(f"{source} holds no {', '.join(SUFFIXES)} file")
        return [(str(file), file_bytes(file)) for file in files]
    return [(source, file_bytes(path))]
