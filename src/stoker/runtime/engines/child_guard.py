"""Runs one command and takes everything it started down with it: when asked to, and when its own parent dies.

    python child_guard.py PARENT_PID COMMAND [ARGUMENT…]        (a program by itself; standard library only)

A server such as vLLM is a tree of processes, and the kernel's "signal me when my parent dies" reaches only one of them.
So this small process stands between: it leads the process group, and SIGUSR1 (its parent died) or a stubborn command
ends in SIGKILL for the whole group. SIGTERM is passed on first, with a few seconds to obey.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from types import FrameType

PR_SET_PDEATHSIG = 1  # linux/prctl.h
GRACE_S = 5.0


def main(arguments: list[str]) -> int:
    """Run the command to its end and return its exit code (128 + signal for a killed one)."""
    parent, command = int(arguments[0]), arguments[1:]
    signal.signal(signal.SIGUSR1, _kill_all)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() != parent:  # it died before prctl, and the signal will not come
        return 1
    try:
        child = subprocess.Popen(command)
    except OSError as failed:
        sys.stderr.write(f"cannot start {command[0]}: {failed}\n")
        return 127

    def stop(_number: int, _frame: FrameType | None) -> None:
        child.terminate()
        timer = threading.Timer(GRACE_S, _kill_all)
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    code = child.wait()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)  # what the command left behind
    return code if code >= 0 else 128 - code


def _kill_all(_number: int = 0, _frame: FrameType | None = None) -> None:
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
