"""Which system calls fail in a confined process, and how that is put in force.

A list of what is refused, as container engines have it, and not of what is allowed: engines are other people's native
code, and what they call differs by version and machine. What the kernel's own rules for files cannot see is refused
here: sockets, and calls that reach into other processes.
"""

import ctypes
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from stoker.confine import kernel
from stoker.confine.bpf import Rule, Test, packed, program
from stoker.types.sandbox import Network

SECCOMP_MODE_FILTER: Final = 2
NEW_NAMESPACES: Final = 0x7E020000  # linux/sched.h: CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET
MSG_FASTOPEN: Final = 0x20000000  # connects by sending, past rules for ports
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # write to a terminal as if it was typed
_STREAM, _SEQPACKET = int(socket.SOCK_STREAM), int(socket.SOCK_SEQPACKET)
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_INTERNET: Final = (_INET, _INET6)
_KIND: Final = 0xF  # of a socket's type; the rest are flags
_TCP: Final = (0, 6)

# By name: x86_64, aarch64 (asm/unistd_64.h, asm-generic/unistd.h); 0: it is not there.
_TABLE: Final = """
socket 41 198, socketpair 53 199, sendto 44 206, sendmsg 46 211, sendmmsg 307 269, ioctl 16 29, clone 56 220,
clone3 435 435, setpriority 141 140, ioprio_set 251 30, sched_setparam 142 118, sched_setscheduler 144 119,
sched_setattr 314 274, prlimit64 302 261, ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271,
kcmp 312 272, pidfd_getfd 438 438, process_madvise 440 440, mount 165 40, umount2 166 39, pivot_root 155 41,
move_mount 429 429, open_tree 428 428, open_tree_attr 467 467, fsopen 430 430, fsconfig 431 431, fsmount 432 432,
fspick 433 433, mount_setattr 442 442, chroot 161 51, setns 308 268, unshare 272 97, swapon 167 224,
swapoff 168 225, reboot 169 142, kexec_load 246 104, kexec_file_load 320 294, init_module 175 105,
finit_module 313 273, delete_module 176 106, bpf 321 280, perf_event_open 298 241, userfaultfd 323 282,
add_key 248 217, request_key 249 218, keyctl 250 219, open_by_handle_at 304 265, name_to_handle_at 303 264,
acct 163 89, quotactl 179 60, quotactl_fd 443 443, settimeofday 164 170, clock_settime 227 112,
clock_adjtime 305 266, adjtimex 159 171, sethostname 170 161, setdomainname 171 162, iopl 172 0, ioperm 173 0,
modify_ldt 154 0, syslog 103 116, vhangup 153 58, lookup_dcookie 212 18, fanotify_init 300 262,
io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427
"""
NUMBERS: Final[dict[str, dict[str, int]]] = {
    name: {
        call: int(number)
        for call, number in ((row.split()[0], row.split()[1 + at]) for row in _TABLE.replace("\n", " ").split(","))
        if int(number)
    }
    for at, name in enumerate(("x86_64", "aarch64"))
}
# Into other processes; into what is mounted; into the kernel itself.
REFUSED: Final = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd", "process_madvise"),
    *("mount", "umount2", "pivot_root", "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsconfig", "fsmount"),
    *("fspick", "mount_setattr", "chroot", "setns", "unshare", "name_to_handle_at", "open_by_handle_at"),
    *("swapon", "swapoff", "reboot", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module"),
    *("bpf", "perf_event_open", "userfaultfd", "add_key", "request_key", "keyctl", "acct", "quotactl", "quotactl_fd"),
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname", "iopl", "ioperm"),
    *("modify_ldt", "syslog", "vhangup", "lookup_dcookie", "fanotify_init"),
)
# Libraries ask for these and do without: io_uring opens sockets past every rule here, clone3 hides its flags.
ABSENT: Final = ("io_uring_setup", "io_uring_enter", "io_uring_register", "clone3")


@dataclass(frozen=True, slots=True)
class Sockets:
    """Which may be made. tcp: without an open network, those all the same. unix: those of this machine."""

    network: Network = "none"
    tcp: bool = False
    unix: bool = False


def rules(allowed: Sockets) -> tuple[Rule, ...]:
    """Return what is refused."""
    return (
        *(Rule(name, errno.EPERM) for name in REFUSED),
        *(Rule(name, errno.ENOSYS) for name in ABSENT),
        Rule("clone", errno.EPERM, (Test(0, (0,), NEW_NAMESPACES, is_in=False),)),
        # Of another process: a limit of no processor time would end it.
        Rule("prlimit64", errno.EPERM, (Test(0, (0,), is_in=False),)),
        # So would the last place in the queue of others for the processor, or of all this user's at once.
        *(
            Rule(name, errno.EPERM, (Test(0, (0,), is_in=False),))
            for name in ("sched_setparam", "sched_setscheduler", "sched_setattr")
        ),
        *(
            Rule(name, errno.EPERM, (Test(argument, (only,), is_in=False),))
            for name, itself in (("setpriority", 0), ("ioprio_set", 1))
            for argument, only in ((0, itself), (1, 0))
        ),
        Rule("ioctl", errno.EPERM, (Test(1, (TIOCSTI, TIOCLINUX)),)),
        *_sockets(allowed),
    )


def install(allowed: Sockets) -> None:
    """Put the rules in force, for this thread and all it starts, for good. Raises OSError."""
    machine = kernel.machine()
    if machine not in NUMBERS:
        raise OSError(errno.ENOSYS, f"no table of the system calls of {machine}")
    code = packed(program(rules(allowed), NUMBERS[machine], machine))
    buffer = ctypes.create_string_buffer(code, len(code))
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl_address(kernel.PR_SET_SECCOMP, SECCOMP_MODE_FILTER, _Program(len(code) // 8, ctypes.addressof(buffer)))


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _sockets(allowed: Sockets) -> Iterator[Rule]:
    if allowed.network == "open":
        yield Rule("socket", errno.EACCES, (Test(0, (_UNIX, _INET, _INET6, _NETLINK), is_in=False),))
        yield Rule("socket", errno.EACCES, (Test(0, (_NETLINK,)), Test(2, (0,), is_in=False)))
        return
    yield Rule("socketpair", errno.EACCES, (Test(0, (_UNIX,), is_in=False),))
    if not allowed.unix:
        # A pair is no way out but for datagrams, whose ends can be turned to any socket file.
        yield Rule("socketpair", errno.EACCES, (Test(1, (_STREAM, _SEQPACKET), _KIND, is_in=False),))
    families = (*([_UNIX] if allowed.unix else []), *(_INTERNET if allowed.tcp else []))
    yield Rule("socket", errno.EACCES, (Test(0, families, is_in=False),) if families else ())
    if allowed.tcp:
        yield Rule("socket", errno.EACCES, (Test(0, _INTERNET), Test(1, (_STREAM,), _KIND, is_in=False)))
        yield Rule("socket", errno.EACCES, (Test(0, _INTERNET), Test(2, _TCP, is_in=False)))
        for name, flags_at in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)):
            yield Rule(name, errno.EACCES, (Test(flags_at, (0,), MSG_FASTOPEN, is_in=False),))
