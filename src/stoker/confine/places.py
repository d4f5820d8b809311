"""What programs are made of on this machine: the files that a confined process may read, and devices it may use."""

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

SYSTEM: Final = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"),
    *("/proc", "/sys", "/opt/rocm*", "/opt/intel", "/opt/nvidia", "/opt/amdgpu*", "/opt/habanalabs"),
    *("/run/nvidia", "/run/systemd/resolve", "/run/opengl-driver", "/var/cache/fontconfig", "/var/lib/ca-certificates"),
)
# Of /etc only what libraries read: not its passwords and keys.
ETC: Final = (
    *("alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "debian_version", "fonts"),
    *("gai.conf", "glvnd", "group", "host.conf", "hostname", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d"),
    *("ld.so.preload", "locale.alias", "localtime", "lsb-release", "magic", "mime.types", "networks", "nsswitch.conf"),
    *("nvidia", "OpenCL", "os-release", "passwd", "pki/ca-trust", "pki/tls/certs", "pki/tls/cert.pem", "protocols"),
    *("pki/tls/openssl.cnf", "redhat-release", "resolv.conf", "services", "ssl/cert.pem", "ssl/certs"),
    *("ssl/openssl.cnf", "system-release", "timezone", "vulkan"),
)
DEVICES: Final = (
    *(
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        "dri",
        "kfd",
        "accel",
        "infiniband",
        "dxg",
        "cpu_dma_latency",
    ),
    *("nvidia*", "davinci*", "hisi_hdc", "xpu*", "ipu*", "hl*"),
)
# Variables with paths in them that programs are told to read.
PATH_VARIABLES: Final = ("PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR")


def readable(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return what programs are made of, there or not: the system's, Python's, and what variables name."""
    named = (path for name in PATH_VARIABLES for path in environment.get(name, "").split(":"))
    python = (
        sys.prefix,
        sys.base_prefix,
        sys.exec_prefix,
        os.path.dirname(os.path.realpath(sys.executable)),  # noqa: PTH120
        *sys.path,
    )
    etc = (f"/etc/{name}" for name in ETC)
    system = (path for name in SYSTEM for path in _found(name))
    return tuple(dict.fromkeys(each for each in (*system, *etc, *python, *named) if each.startswith("/")))


def devices() -> tuple[str, ...]:
    """Return the devices that engines use."""
    return tuple(path for name in DEVICES for path in _found(f"/dev/{name}"))


def of_command(command: Iterable[str], environment: Mapping[str, str]) -> Iterator[str]:
    """Yield what a command needs besides: the folder its program is installed in, and paths among its arguments."""
    for at, word in enumerate(command):
        found = _program(word, environment.get("PATH", "")) if at == 0 else word.rpartition("=")[2]
        if not is_place(found):
            continue
        yield found
        if at == 0:
            yield from _installed(found)


def is_place(path: str) -> bool:
    """Return whether it is an absolute path, other than of everything, to what is there."""
    return path.startswith("/") and os.path.realpath(path) != "/" and os.path.exists(path)  # noqa: PTH110


def _found(pattern: str) -> list[str]:
    return glob.glob(pattern) if "*" in pattern else [pattern]  # noqa: PTH207 - pathlib is slow, and imports much


def _program(word: str, search: str) -> str:
    if "/" in word:
        return word
    places = (os.path.join(folder, word) for folder in search.split(":") if folder)  # noqa: PTH118
    return next((each for each in places if os.access(each, os.X_OK)), "")


def _installed(program: str) -> Iterator[str]:
    """Yield the prefixes of a program in PREFIX/bin: its own, and its interpreter's, behind all links."""
    found = [program]
    try:
        with open(program, "rb") as file:  # noqa: PTH123
            first = file.readline(512)
    except OSError:
        first = b""
    if first.startswith(b"#!") and (words := first[2:].split()):
        found.append(os.fsdecode(words[0]))
    found += [os.path.join(os.path.dirname(program), "python")]  # noqa: PTH118, PTH120
    for each in found:
        for path in (each, os.path.realpath(each)):
            folder = os.path.dirname(path)  # noqa: PTH120
            if os.path.basename(folder) == "bin" and is_place(prefix := os.path.dirname(folder)):  # noqa: PTH119, PTH120
                yield prefix
