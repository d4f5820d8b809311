"""A model whose code tries what is not its to do; each try answers with the error of the kernel, 0 where it went.

Its folder has a file `aims.json` beside it: what to aim at, by name.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

libc = ctypes.CDLL(None, use_errno=True)
TMP_BYTES = 64 << 20


def opened(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY))


def made(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


def connected(family: int, address: Any, kind: int = socket.SOCK_STREAM) -> None:
    with socket.socket(family, kind) as one:
        one.settimeout(2)
        one.connect(address)


def called(number: int, *arguments: Any) -> None:
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def filled(folder: str) -> None:
    path = Path(folder) / "filler"
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(2 * TMP_BYTES >> 20):
                file.write(bytes(1 << 20))
    finally:
        path.unlink()


def in_a_child(path: str) -> None:
    done = subprocess.run(["cat", path], capture_output=True, check=False, text=True)
    if "Permission denied" in done.stderr:
        raise PermissionError(13, done.stderr)


def in_a_thread(path: str) -> None:
    found: list[OSError] = []

    def body() -> None:
        try:
            opened(path)
        except OSError as refused:
            found.append(refused)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if found:
        raise found[0]


def useful() -> None:
    """What models do and must go on doing."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")
    Path("~/.cache").expanduser().mkdir(exist_ok=True)
    subprocess.run(["true"], check=True)
    ours, theirs = socket.socketpair()
    ours.close()
    theirs.close()
    Path("/proc/self/status").read_text()
    Path("/etc/hosts").read_text()
    os.kill(os.getpid(), 0)


def attacks(aims: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """Return every attack by name."""
    pid = int(aims["pid"])
    vector = (ctypes.c_size_t * 2)()
    return {
        "useful": useful,
        "read the database": lambda: opened(aims["database"]),
        "read the platform's key": lambda: opened(aims["key"]),
        "read another model": lambda: opened(aims["other_model"]),
        "read its own spec": lambda: opened(aims["spec"]),
        "read what it asked for of the platform": lambda: opened(aims["asked"]),
        "read passwords": lambda: opened("/etc/shadow"),
        "read in a child": lambda: in_a_child(aims["database"]),
        "read in a thread": lambda: in_a_thread(aims["database"]),
        "list the platform": lambda: list(Path(aims["home"]).iterdir()),
        "write beside": lambda: made(aims["home"] + "/planted"),
        "write into its model": lambda: made(str(Path(__file__).parent / "planted")),
        "write into python": lambda: made(str(Path(json.__file__).parent / "planted.py")),
        "change the mode of the database": lambda: Path(aims["database"]).chmod(0),
        "turn back the time of the database": lambda: os.utime(aims["database"], (0, 0)),
        "call by TCP": lambda: connected(socket.AF_INET, ("127.0.0.1", aims["port"])),
        "send by UDP": lambda: connected(socket.AF_INET, ("127.0.0.1", aims["port"]), socket.SOCK_DGRAM),
        "listen": lambda: socket.create_server(("127.0.0.1", 0)).close(),
        "call the agent": lambda: connected(socket.AF_UNIX, aims["socket"]),
        "call an abstract socket": lambda: connected(socket.AF_UNIX, "\0" + aims["abstract"]),
        "ask netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
        "turn a pair": lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM),
        "kill another": lambda: os.kill(pid, signal.SIGKILL),
        "kill by pidfd": lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL),
        "read another's environment": lambda: opened(f"/proc/{pid}/environ"),
        "read another's memory": lambda: opened(f"/proc/{pid}/mem"),
        "trace another": lambda: called(101, 16, pid, None, None),
        "copy another's memory": lambda: called(310, pid, ctypes.byref(vector), 1, ctypes.byref(vector), 1, 0),
        "limit another": lambda: called(302, pid, 0, ctypes.byref(vector), None),
        "slow another down": lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
        "slow all down": lambda: os.setpriority(os.PRIO_USER, 0, 19),
        "mount": lambda: called(165, b"none", b"/mnt", b"tmpfs", 0, None),
        "have namespaces": lambda: called(272, 0x10000000),
        "load a program into the kernel": lambda: called(321, 0, None, 0),
        "use io_uring": lambda: called(425, 1, None),
        "fill its temporary files": lambda: filled(tempfile.gettempdir()),
        "fill shared memory": lambda: filled("/dev/shm"),
    }


class Model:
    """Answers attack number x with the error it met."""

    inputs: ClassVar = {"input": ("FP64", [-1, 1])}
    outputs: ClassVar = {"error": ("FP64", [-1, 1])}

    def load(self, folder: Path) -> None:
        """Take aim."""
        aims = json.loads((folder / "aims.json").read_text())
        self.attacks = list(attacks(aims).values())

    def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Try."""
        answers = inputs["input"].copy()
        for at, number in enumerate(inputs["input"].reshape(-1)):
            try:
                self.attacks[int(number)]()
            except OSError as refused:
                answers.reshape(-1)[at] = refused.errno or -1
            else:
                answers.reshape(-1)[at] = 0
        return {"error": answers}
