"""Confines this replica by its spec, before anything of the model, or of what engines are made of, is read.

    socket bound ─► confined ─► tried from inside ─► imports ─► model

It runs where there is one thread yet; see confine/walls.py.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from stoker.confine import places, probe
from stoker.confine.walls import Walls, confine
from stoker.core import sandbox
from stoker.types.engines import AUTO
from stoker.types.replica import ReplicaSpec
from stoker.types.sandbox import Confinement
from stoker.types.units import parse_bytes

FILE_BYTES_MIN: Final = 1 << 30  # what a file may take at least; a log is cut long before
NVIDIA, NVIDIA_MEMORY = Path("/dev/nvidiactl"), Path("/dev/nvidia-uvm")
MODPROBE: Final = "/usr/bin/nvidia-modprobe"
MODPROBE_S: Final = 10.0
LISTENERS: Final = ("/run", "/tmp", "/var/tmp")  # noqa: S108 - they are hidden
OVER_TCP: Final = "use-vc"  # resolv.conf(5): names are looked up over TCP


def enter(spec: ReplicaSpec, spec_file: Path) -> Confinement:
    """Confine this process, and return what is in force."""
    asked = spec.sandbox
    if asked.level == "off":
        return Confinement("off")
    walls = _walls(spec, spec_file)
    _make_own(spec, walls)
    _bound_files(spec)
    _make_gpu_node()
    done = confine(walls)
    found = probe.probe(walls, done, str(spec_file), spec.address.removeprefix("unix:"))
    return Confinement(asked.level, tuple(done.by), found)


def refusal(seen: Confinement) -> str:
    """Return why this replica may not start, "" where it may."""
    return sandbox.refusal(seen)


def _walls(spec: ReplicaSpec, spec_file: Path) -> Walls:
    asked = spec.sandbox
    folder = spec_file.absolute().with_suffix("")  # the replica's working folder, which goes with it
    is_auto = spec.engine == AUTO
    return Walls(
        read=tuple(dict.fromkeys((*_of_model(spec), *_of_options(spec.options), *_of_node(spec)))),
        # With `auto` the platform's own code writes what it measured, of formats that bring no code.
        write=(str(folder), spec.measurements) if is_auto and spec.measurements else (),
        files=tuple(each for each in (spec.error_file, _opened_to_write(spec)) if each),
        asked_read=asked.read,
        asked_write=asked.write,
        tmp=str(folder / "tmp"),
        tmp_bytes=parse_bytes(asked.tmp),
        # The state folder, and that of sockets, which may lie elsewhere.
        kept_out=(str(Path(spec.error_file or spec_file).absolute().parent.parent), str(_sockets(spec))),
        hidden=_hidden(spec, folder),
        unix=spec.engine in sandbox.NEEDS_SOCKETS,
        network=sandbox.network(asked, spec.engine),
        ports=asked.ports,
    )


def _opened_to_write(spec: ReplicaSpec) -> str:
    """Return the file of the model that its engine opens for writing, though it never writes: OpenVINO does a GGUF.

    What were written would be found by its digest, which is looked at before each load.
    """
    opens = spec.engine in ("openvino", AUTO) and spec.manifest.format == "gguf"
    return os.path.realpath(os.path.join(spec.model_dir, spec.manifest.entry)) if opens else ""  # noqa: PTH118


def _hidden(spec: ReplicaSpec, folder: Path) -> tuple[str, ...]:
    """Return the folders in which others listen, but those that hold something the replica needs."""
    sockets = _sockets(spec)
    own = (spec.error_file, spec.model_dir, spec.measurements, *spec.sandbox.read, *spec.sandbox.write)
    needed = [folder, *(Path(each).absolute() for each in (*own, sys.prefix, *sys.path) if each)]
    found = [sockets]
    if sandbox.network(spec.sandbox, spec.engine) != "open":  # else names are looked up by what listens there
        found += [Path(each) for each in LISTENERS]
    return tuple(str(each) for each in found if not any(one.is_relative_to(each) for one in needed))


def _sockets(spec: ReplicaSpec) -> Path:
    return Path(spec.address.removeprefix("unix:")).absolute().parent


def _of_model(spec: ReplicaSpec) -> Iterator[str]:
    """Yield the folder of the version, and files that it only points to."""
    if not spec.model_dir:
        return
    yield spec.model_dir
    inside = os.path.realpath(spec.model_dir) + "/"
    for entry in spec.manifest.files:
        real = os.path.realpath(os.path.join(spec.model_dir, entry.path))  # noqa: PTH118
        if not real.startswith(inside):
            yield real


def _of_node(spec: ReplicaSpec) -> Iterator[str]:
    """Yield the folder of the certificate that it shows to other nodes, which is renewed there."""
    if spec.identity:
        yield spec.identity


def _of_options(options: dict[str, Any]) -> Iterator[str]:
    """Yield what the engine openai needs: its server's program, and the file with its key."""
    command = options.get("command")
    if isinstance(command, list):
        yield from places.of_command([each for each in command if isinstance(each, str)], os.environ)
    if isinstance(key := options.get("api_key_file"), str) and places.is_place(key):
        yield key


def _make_own(spec: ReplicaSpec, walls: Walls) -> None:
    """Make the folder for temporary files anew, and have everything that asks for one use it. Raises OSError."""
    tmp = Path(walls.tmp)
    if tmp.is_symlink():
        tmp.unlink()
    shutil.rmtree(tmp, ignore_errors=True)
    tmp.mkdir(mode=0o700, parents=True, exist_ok=True)
    if spec.error_file:
        Path(spec.error_file).touch(mode=0o600)
    os.environ["HOME"] = os.environ["TMPDIR"] = walls.tmp
    tempfile.tempdir = None
    if walls.ports and walls.network != "open":
        os.environ["RES_OPTIONS"] = f"{os.environ.get('RES_OPTIONS', '')} {OVER_TCP}".strip()


def _make_gpu_node() -> None:
    """Have the device made that CUDA else makes by a set-uid program, which a confined process cannot start."""
    if NVIDIA.exists() and not NVIDIA_MEMORY.exists():
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run((MODPROBE, "-c0", "-u"), timeout=MODPROBE_S, check=False, stdin=subprocess.DEVNULL)


def _bound_files(spec: ReplicaSpec) -> None:
    """Bound what one file may take, its log too, so that no descriptor it was given fills the disk."""
    if spec.sandbox.write or not spec.memory_bytes:
        return
    most = max(FILE_BYTES_MIN, spec.memory_bytes, parse_bytes(spec.sandbox.tmp))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
