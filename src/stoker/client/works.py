"""Calls of the control API that take a while: each yields how far it is, and at last what came of it.

Closing the iterator closes the connection, and control ends the work.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any, TypeVar, cast

import msgspec

from stoker.client.connection import Connection, decode
from stoker.types.errors import NotReachable, StokerError, all_codes
from stoker.types.ids import DEFAULT_PROJECT
from stoker.types.likeness import Likeness
from stoker.types.quantization import Quantized
from stoker.types.replay import Outcome, Summary
from stoker.types.work import Problem, Step

_T = TypeVar("_T")


def quantize(
    connection: Connection,
    name: str,
    which: str,
    to: str,
    *,
    requantize: bool = False,
    project: str = DEFAULT_PROJECT,
) -> Generator[Step | Quantized, None, None]:
    """Make files of a version with fewer bits. Nothing is registered: that is `ControlClient.register`, with them.

    Raises what control says went wrong, NotReachable if it breaks off; nothing is left then.
    """
    path = f"/api/v1/models/{name}/versions/{which}/quantize"
    return _steps(connection, path, {"to": to, "requantize": requantize, "project": project}, Quantized)


def compare(
    connection: Connection, base: tuple[str, str], other: tuple[str, str], texts: Sequence[str], project: str
) -> Generator[Step | Likeness, None, None]:
    """Compare two versions of a language model, each a name and a number or alias; without texts on control's own.

    Raises what control says went wrong, NotReachable if it breaks off.
    """
    body = {"name": other[0], "version": other[1], "texts": list(texts), "project": project}
    return _steps(connection, f"/api/v1/models/{base[0]}/versions/{base[1]}/compare", body, Likeness)


def replay(
    connection: Connection, project: str, name: str, asked: dict[str, Any]
) -> Generator[Outcome | Summary, None, None]:
    """Send samples of an endpoint to two of its revisions; `asked` is the operation's body. The last is the Summary.

    Raises what control says went wrong, NotReachable if it breaks off.
    """
    path = f"/api/v1/projects/{project}/endpoints/{name}/samples/replay"
    for said in _steps(connection, path, asked, cast("type[Outcome | Summary]", Outcome | Summary)):
        assert not isinstance(said, Step)  # it says none
        yield said


def _steps(connection: Connection, path: str, body: dict[str, Any], kind: type[_T]) -> Generator[Step | _T, None, None]:
    headers = {"Content-Type": "application/json"}
    # Silence is no sign of trouble: a large model is one step. A control that dies closes the connection.
    pieces = connection.stream("POST", path, body=msgspec.json.encode(body), headers=headers, timeout_s=float("inf"))
    said: Step | Problem | _T | None = None
    with closing(pieces):
        rest = b""
        for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                said = decode(line, Step | Problem | kind)  # type: ignore[arg-type]  # a union made at run time
                if isinstance(said, Problem):
                    raise all_codes().get(said.code, StokerError)(said.message)
                yield said
    if not isinstance(said, kind):
        raise NotReachable(f"{connection.base} broke off in the middle of its work; nothing was made")
