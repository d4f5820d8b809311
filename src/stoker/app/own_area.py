"""What /proc says of this process' arguments and environment, changed in place: a fork would else pass for its server.

The kernel shows the memory that the program was started with. A process may write there; no call and no right is
needed, but what is written must fit: the agent starts a fork server with a variable and an
argument that only make room.
"""

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path

from stoker.agent.kernel import MARKER


class OwnArea:
    """The two stretches of memory. Raises OSError where the kernel does not say where they are."""

    def __init__(self) -> None:
        text = Path("/proc/self/stat").read_bytes()
        fields = text[text.rfind(b")") + 2 :].split()
        # proc_pid_stat(5): arg_start, arg_end, env_start and env_end are fields 48 to 51; these begin with the third.
        self._arguments = (int(fields[45]), int(fields[46]))
        self._environment = (int(fields[47]), int(fields[48]))
        if not 0 < self._arguments[0] < self._arguments[1] <= self._environment[0] < self._environment[1]:
            raise OSError("the kernel does not say where this process' environment lies")

    def write(self, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        """Show these from now on, cut where they do not fit; the marker comes first. `os.environ` stays as it is.

        Nothing may point into the area any more: the environment was made anew (putenv copies), and Python keeps
        copies of arguments.
        """
        marker = [(MARKER, environ[MARKER])] if MARKER in environ else []
        pairs = [*marker, *(pair for pair in environ.items() if pair[0] != MARKER)]
        _fill(self._arguments, [argument.encode() for argument in argv])
        _fill(self._environment, [f"{name}={value}".encode() for name, value in pairs])


def _fill(area: tuple[int, int], texts: Sequence[bytes]) -> None:
    """Write whole texts, each ended by a zero byte, and zeros behind them."""
    start, end = area
    written = b""
    for text in texts:
        if len(written) + len(text) + 1 > end - start:
            break
        written += text + b"\0"
    ctypes.memmove(start, written.ljust(end - start, b"\0"), end - start)
