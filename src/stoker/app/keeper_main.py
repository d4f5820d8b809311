# ruff: noqa: PTH118, PTH123 (pathlib would be a third of what the keeper imports)
"""The keeper: a process that does nothing but start the agent again when it dies, as long as the platform is wanted.

    python -m stoker.app.keeper_main RUN_FOLDER LOG_FOLDER

It imports next to nothing, so that it is small and there is little in it to fail. That a platform is wanted is a
file (WANTED) with the agent's command line; it is removed as the first act of a shutdown.
"""

import fcntl
import json
import os
import signal
import sys
import time

StrPath = str | os.PathLike[str]
AGENT_LOCK = "agent.lock"
KEEPER_LOCK = "keeper.lock"
CHANGE_LOCK = "change.lock"  # held by `up` and `down` while they start or end things
WANTED = "wanted.json"
AGENT_ERROR = "agent.error"
EXIT_LOCKED = 75  # the agent found another one at work
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
DELAY_FIRST_S = 0.2
DELAY_MAX_S = 5.0
SETTLED_S = 10.0  # an agent that lived for so long starts again at once


def start(run: StrPath, logs: StrPath, home_id: str) -> None:
    """Start a keeper that outlives this process and its terminal; none when there is one."""
    import subprocess

    environ = {**os.environ, "STOKER_PROCESS": f"{home_id}/keeper", "PYTHONSAFEPATH": "1"}
    with open(os.path.join(logs, "keeper.log"), "ab") as log:
        subprocess.run(
            [sys.executable, "-m", "stoker.app.keeper_main", os.fspath(run), os.fspath(logs)],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            check=True,
        )


def take(run: StrPath, name: str, wait_s: float) -> int:
    """Return a descriptor that holds lock `name` while it is open, -1 when another has it for longer than `wait_s`."""
    lock = os.open(os.path.join(run, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until_s = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until_s:
                os.close(lock)
                return -1
            time.sleep(0.02)
        else:
            return lock


def is_kept(run: StrPath) -> bool:
    """Return whether a keeper lives."""
    lock = take(run, KEEPER_LOCK, 0.0)
    if lock >= 0:
        os.close(lock)
    return lock < 0


def wanted(run: str) -> list[str]:
    """Return the agent's command line, nothing when the platform is not wanted."""
    try:
        with open(os.path.join(run, WANTED), encoding="utf-8") as file:
            argv = json.load(file)["agent"]
    except (OSError, ValueError, KeyError):
        return []
    return [str(argument) for argument in argv]


def main() -> int:
    """Keep the agent until the platform is not wanted any more."""
    run, logs = sys.argv[1:3]
    if take(run, KEEPER_LOCK, 0.0) < 0:
        return 0
    # The keeper is nobody's child who might not reap it; the lock goes with it, and is held once `start` returns.
    if os.fork() != 0:
        return 0
    _be_subreaper()
    child = 0

    def pass_on(number: int, _: object) -> None:
        if child:
            os.kill(child, number)
        else:
            sys.exit(0)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    environ = dict(os.environ)
    environ["STOKER_PROCESS"] = environ.get("STOKER_PROCESS", "").rpartition("/")[0] + "/agent"
    delay_s = 0.0
    while wanted(run):
        _wait_for_other_agent(run)
        argv = wanted(run)
        if not argv:
            break
        started_s = time.monotonic()
        child = os.fork()
        if child == 0:
            _become(argv, environ, os.path.join(logs, "agent.log"))
        _reap(child)
        child = 0
        if time.monotonic() - started_s > SETTLED_S:
            delay_s = 0.0
        elif wanted(run):
            time.sleep(delay_s)
            delay_s = min(DELAY_MAX_S, max(DELAY_FIRST_S, delay_s * 2))
    return 0


def _wait_for_other_agent(run: str) -> None:
    """Return when no agent holds the lock (one that another keeper had started, perhaps)."""
    lock = os.open(os.path.join(run, AGENT_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    finally:
        os.close(lock)


def _be_subreaper() -> None:
    """Have the kernel give us the children of a dead agent: process 1 of a container may not bury them."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap(child: int) -> None:
    """Wait for the agent, and bury whatever else ended meanwhile."""
    while True:
        try:
            pid, _ = os.waitpid(-1, 0)
        except ChildProcessError:
            return
        if pid == child:
            return


def _become(argv: list[str], environ: dict[str, str], log: str) -> None:
    """Turn this forked process into another program in a session of its own. Does not return."""
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, 1024)
        os.chdir("/")
        os.execve(argv[0], argv, environ)  # noqa: S606 - a shell is what is not wanted
    finally:
        os._exit(127)


if __name__ == "__main__":
    sys.exit(main())
