"""A fork server: a process that has imports done, and forks replicas that then need not do them.

    python -m stoker.app.fork_main IMPORTS THREADS DESCRIPTOR ROOM

    agent ── order, log, pipe ──► server ─fork─► middle ─fork─► replica (waits for the word on the pipe)
          ◄──────── its pid ─────                (ends: the replica is the agent's child then)

It runs nothing but imports from the list below, never a model's code, and has one thread: what other threads hold at a
fork stays held for ever in the child. It ends with the agent's end of its socket.
"""

import gc
import os
import random
import socket
import sys
import tempfile
import traceback
from contextlib import suppress
from importlib import import_module
from typing import Final, NoReturn

import msgspec

from stoker.agent.forkserver import ROOM
from stoker.app import replica_main
from stoker.app.own_area import OwnArea
from stoker.types.forks import ORDER_BYTES_MAX, ForkAnswer, ForkOrder

PLATFORM: Final = (
    "stoker.runtime.replica",
    "stoker.runtime.sandbox",
    "stoker.telemetry.logs",
    "uvloop",
    "numpy.random",
)
MODULES: Final = {"platform": PLATFORM, "sklearn": (*PLATFORM, "stoker.runtime.engines.sklearn")}
DESCRIPTORS: Final = 2  # of an order: log, pipe
THREADPOOLS: Final = "threadpoolctl"  # comes with scikit-learn
EXIT_CANNOT: Final = 3


def main() -> int:
    """Import, then fork on demand until the agent's end is closed. Returns the exit code."""
    imports, threads, channel = sys.argv[1], int(sys.argv[2]), socket.socket(fileno=int(sys.argv[3]))
    try:
        for module in MODULES[imports]:
            import_module(module)
        if threads > 1:  # numpy has one, or there would be more than this thread here
            import_module(THREADPOOLS)
        area = OwnArea()
    except (ImportError, OSError) as missing:
        _answer(channel, ForkAnswer(problem=str(missing)))
        return EXIT_CANNOT
    own = {name: value for name, value in os.environ.items() if name != ROOM[0]}
    _be(own)
    area.write(sys.orig_argv[:-1], own)
    gc.collect()
    gc.freeze()  # a collection in a fork would write to every page of what it shares with the others
    with suppress(ConnectionError):  # the agent has died
        _answer(channel, ForkAnswer())
        while True:
            data, descriptors, _, _ = socket.recv_fds(channel, ORDER_BYTES_MAX, DESCRIPTORS)
            if not data:
                break
            answer = _fork(data, descriptors, threads, area, channel)
            for each in descriptors:
                os.close(each)
            _answer(channel, answer)
    return 0


def _fork(data: bytes, descriptors: list[int], threads: int, area: OwnArea, channel: socket.socket) -> ForkAnswer:
    """Fork once more, and return who came of it."""
    try:
        order = msgspec.msgpack.decode(data, type=ForkOrder)
        log, pipe = descriptors
    except (msgspec.MsgspecError, ValueError) as wrong:
        return ForkAnswer(problem=f"no order: {wrong}")
    if (count := len(os.listdir("/proc/self/task"))) != 1:  # noqa: PTH208 - no table of names is to grow
        return ForkAnswer(problem=f"it has {count} threads, and what they hold would stay held")
    told, tell = os.pipe()
    middle = os.fork()
    if middle == 0:
        try:
            pid = os.fork()
            if pid == 0:
                os.close(told)
                os.close(tell)
                channel.close()
                _become(order, log, pipe, threads, area)
            os.write(tell, str(pid).encode())
        finally:
            os._exit(0)
    os.close(tell)
    os.waitpid(middle, 0)  # from here on the replica is the agent's child, dead or alive
    with os.fdopen(told, "rb") as read:
        text = read.read()
    return ForkAnswer(pid=int(text)) if text else ForkAnswer(problem="the kernel gave no process")


def _become(order: ForkOrder, log: int, pipe: int, threads: int, area: OwnArea) -> NoReturn:
    """Be as a replica is that was started by itself, and run it. Nothing of it is seen before the word to go."""
    try:
        if not os.read(pipe, 1):
            os._exit(0)
        area_argv = [sys.orig_argv[0], *order.argv[1:]]
        _be(order.env)
        area.write(area_argv, order.env)  # named before it leaves the server's session, by which it is known till then
        os.setsid()
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        os.close(pipe)
        os.chdir(order.work_dir)
        _reseed()
        sys.argv = ["replica_main", *order.argv[3:]]
        replica_main.main(is_forked=True, before_work=lambda: _have_threads(threads))
    except BaseException:  # else the child would go on as its server
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


def _have_threads(count: int) -> None:
    if count > 1:
        import_module(THREADPOOLS).threadpool_limits(count, user_api="blas")


def _be(environ: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environ)


def _reseed() -> None:
    """Forget what all forks would share: states of random generators, the folder for temporary files."""
    random.seed()  # Python does it too, of the generator behind the module alone
    import_module("numpy.random").seed()
    tempfile.tempdir = None


def _answer(channel: socket.socket, answer: ForkAnswer) -> None:
    channel.sendall(msgspec.msgpack.encode(answer))


if __name__ == "__main__":
    sys.exit(main())
