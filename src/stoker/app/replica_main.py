"""`python -m stoker.app.replica_main SPECFILE`: one replica process. Composition only."""

import logging
import os
import sys
from pathlib import Path

import msgspec
import uvloop

from stoker.runtime.replica import EXIT_FAILED, run
from stoker.types.replica import ReplicaSpec

USAGE = "usage: python -m stoker.app.replica_main SPECFILE\n"


def main() -> None:
    """Read the spec and serve; never returns."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    if len(sys.argv) != 2:
        sys.stderr.write(USAGE)
        _end(2)
    try:
        spec = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=ReplicaSpec)
    except (OSError, msgspec.DecodeError) as broken:
        sys.stderr.write(f"{sys.argv[1]} is no replica spec: {broken}\n")
        _end(2)
    try:
        code = uvloop.run(run(spec))
    except OSError as taken:
        logging.getLogger(__name__).error("cannot listen on %s: %s", spec.address, taken)
        code = EXIT_FAILED
    _end(code)


def _end(code: int) -> None:
    """Leave at once: engines keep native threads that interpreter shutdown would tear down under their feet."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
