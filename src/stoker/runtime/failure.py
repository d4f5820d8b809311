"""How a replica that cannot serve says why: in a file that its agent reads, in its log, and by its exit code."""

import logging
from pathlib import Path
from typing import Final

import msgspec

from stoker.types.errors import StokerError
from stoker.types.replica import ReplicaSpec

EXIT_FAILED: Final = 3
ERROR_MAX: Final = 4000  # characters that are kept

_log = logging.getLogger(__name__)


def report(spec: ReplicaSpec, problem: StokerError) -> None:
    """Write why the load failed to `spec.error_file`, and to the log.

    In place: a confined process may write that file and make none beside it. Its agent reads it once the process is
    dead, and takes half of one for none.
    """
    _log.error("the load failed: %s", problem.message, extra={"replica": spec.replica, "code": problem.code})
    if not spec.error_file:
        return
    try:
        Path(spec.error_file).write_bytes(
            msgspec.json.encode({"code": problem.code, "message": problem.message[:ERROR_MAX]})
        )
    except OSError as full:
        _log.error("the reason could not be written to %s: %s", spec.error_file, full)
