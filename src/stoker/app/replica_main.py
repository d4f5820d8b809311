"""`python -m stoker.app.replica_main SPECFILE`: one replica process. Composition only."""

import time
from collections.abc import Callable
from typing import NoReturn

USAGE = "usage: python -m stoker.app.replica_main SPECFILE\n"
EXIT_USAGE = 2
# Libraries under an engine start as many threads as the machine has cores, unless told what this replica has.
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def main(*, is_forked: bool = False, before_work: Callable[[], object] | None = None) -> NoReturn:
    """Read the spec and serve until told to stop.

    Args:
        is_forked: from a process that had imported all this before.
        before_work: called once this process is confined; what starts threads belongs there.
    """
    began_s = time.monotonic()  # all that is imported from here on is counted
    import logging
    import os
    import sys
    from pathlib import Path

    import msgspec

    from stoker.protocol.link import bind, bind_tcp
    from stoker.runtime import caller, failure, prints, sandbox, stopwatch
    from stoker.telemetry import logs
    from stoker.types.errors import EngineFailed
    from stoker.types.replica import ReplicaSpec
    from stoker.types.starts import FORKED, PROCESS

    watch = stopwatch.begun(began_s, FORKED if is_forked else PROCESS)
    if len(sys.argv) != 2:
        sys.stderr.write(USAGE)
        _end(EXIT_USAGE)
    try:
        spec = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=ReplicaSpec)
    except (OSError, msgspec.DecodeError) as broken:
        sys.stderr.write(f"{sys.argv[1]} is no replica spec: {broken}\n")
        _end(EXIT_USAGE)
    prints.lose_rather_than_fail()  # and before all that writes
    logs.configure(spec.replica, about=caller.about)
    for name in THREAD_LIMITS:
        os.environ.setdefault(name, str(max(1, int(spec.cores))))
    try:
        bound = bind(spec.address)  # a confined process has no right to the folder of sockets
        others = bind_tcp(spec.listen) if spec.listen else None  # nor to one on the network
        confinement = sandbox.enter(spec, Path(sys.argv[1]))
    except OSError as refused:
        logging.getLogger(__name__).error("cannot listen", extra={"address": spec.address, "reason": str(refused)})
        _end(failure.EXIT_FAILED)
    if said := sandbox.refusal(confinement):
        failure.report(spec, EngineFailed(said))
        _end(failure.EXIT_FAILED)
    if before_work is not None:
        before_work()

    # Imported now and not above: numpy's threads are counted when it is imported.
    import uvloop

    from stoker.runtime.replica import Demand, Given, run

    demand: Demand | None = None
    if spec.signed.trust.policy != "off":
        from stoker.protocol.signing import demand  # 40 ms of cryptography that most starts need not pay

    _end(uvloop.run(run(spec, demand, watch, Given(bound, confinement, others))))


def _end(code: int) -> NoReturn:
    """Leave at once: engines keep native threads that interpreter shutdown would tear down under their feet."""
    import logging
    import os
    import sys

    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
