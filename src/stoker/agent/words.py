"""Why a process ended, in its own words where it left some."""

from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from stoker.agent import logs

ERROR_FILE_BYTES_MAX: Final = 4096
# What it wrote before these has nothing to do with its end.
_FROM_OUTSIDE: Final = ("killed by SIGKILL", "killed by SIGTERM")


class _ErrorFile(msgspec.Struct, frozen=True):
    """What a replica writes before it exits over a failed load."""

    message: str
    code: str = ""


def of_end(last_exit: str, error_file: Path, log: Path, log_start: int) -> str:
    """Return what its error file says, else the end of its log from byte `log_start` on, else how it ended."""
    with suppress(OSError, msgspec.MsgspecError):
        if error_file.stat().st_size <= ERROR_FILE_BYTES_MAX:
            return msgspec.json.decode(error_file.read_bytes(), type=_ErrorFile).message
    if last_exit in _FROM_OUTSIDE:
        return f"{last_exit}, by a person or, short of memory, by the kernel"
    return logs.last_words(log, since=log_start) or last_exit
