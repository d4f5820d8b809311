"""From a decision to a process: the spec file, the working folder and the environment of one replica.

Made the same way each time, so that starting what runs already changes nothing.
"""

import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from stoker.control.files import write_whole
from stoker.control.ports import Folders
from stoker.core.revisions import ServingConfig
from stoker.core.secrets import is_reference, named
from stoker.core.snapshot import Revision
from stoker.types.forks import THREADS_ENV, USUAL_ENV
from stoker.types.ids import ReplicaId
from stoker.types.models import ModelVersion
from stoker.types.process import ProcessSpec
from stoker.types.replica import ReplicaSpec
from stoker.types.signing import SignedVersion

STALL_MIN_S: Final = 120.0
START_TIMEOUT_S: Final = 120.0
# A model is read at least this fast, or its disk is broken; large ones get more time by it.
LOAD_BYTES_PER_S: Final = 20e6


def replica_spec(
    replica: ReplicaId,
    revision: Revision,
    version: ModelVersion,
    model_dir: Path,
    folders: Folders,
    signed: SignedVersion,
) -> ReplicaSpec:
    """Return what the replica process is told."""
    config = revision.config
    return ReplicaSpec(
        replica=replica,
        revision=revision.revision,
        project=revision.project,
        endpoint=revision.endpoint,
        task=config.task,
        model=config.ref,
        version=str(config.number),
        engine=config.engine,
        model_dir=str(model_dir),
        manifest=version.manifest,
        address=folders.address(replica),
        options=config.options,
        cores=config.cpu,
        memory_bytes=config.memory_bytes,
        max_rows=config.max_rows,
        max_bytes=config.max_bytes,
        pad=config.pad,
        mapping=config.mapping,
        max_body_bytes=config.max_body_bytes,
        concurrency=config.concurrency,
        error_file=str(_error_file(folders, replica)),
        goal=config.goal,
        measurements=str(folders.measurements) if config.goal else "",
        choice_file=str(choice_file(folders, replica)) if config.goal else "",
        signed=signed,
        secrets=named(config.options, config.env),
        sandbox=config.sandbox,
    )


def process_spec(
    replica: ReplicaId,
    revision: Revision,
    version: ModelVersion,
    drain_s: float,
    folders: Folders,
    gpus: tuple[int, ...] = (),
) -> ProcessSpec:
    """Return what the agent is told: nothing of control's own environment reaches the replica.

    gpus: those that were set aside for it, by NVML's numbers. Its engine sees no others, whatever `env` says.
    """
    config = revision.config
    work_dir = _work_dir(folders, replica)
    return ProcessSpec(
        name=replica,
        kind="replica",
        argv=(sys.executable, "-m", "stoker.app.replica_main", str(_spec_file(folders, replica))),
        env={**environment(config, work_dir), **_seen(gpus)},
        address=folders.address(replica),
        work_dir=str(work_dir),
        memory_bytes=config.memory_bytes,
        drain_s=drain_s,
        stall_s=max(STALL_MIN_S, 2 * drain_s),  # drain_s follows the endpoint's timeout: a slow request is no stall
        start_timeout_s=START_TIMEOUT_S + round(version.size_bytes / LOAD_BYTES_PER_S),
        labels={
            "project": revision.project,
            "endpoint": revision.endpoint,
            "revision": revision.revision,
            "model": config.ref,
            "error_file": str(_error_file(folders, replica)),
        },
    )


def environment(config: ServingConfig, work_dir: Path) -> dict[str, str]:
    """Return the variables of a replica of `config`, without those of its GPUs."""
    threads = str(max(1, int(config.cpu)))
    home = {"HOME": str(work_dir), "TMPDIR": str(work_dir)}
    plain = {name: value for name, value in config.env.items() if not is_reference(value)}  # others are handed over
    return {**home, **USUAL_ENV, THREADS_ENV: threads, **plain}


def _seen(gpus: tuple[int, ...]) -> dict[str, str]:
    """Return what hides all other GPUs; nothing where none was set aside, as it was before GPUs were placed."""
    if not gpus:
        return {}
    # NVML counts by the bus, CUDA by speed unless told.
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus))}


def write_files(spec: ReplicaSpec, folders: Folders) -> None:
    """Make the working folder and the spec file of a replica. Raises OSError."""
    _work_dir(folders, spec.replica).mkdir(mode=0o700, exist_ok=True)
    write_whole(_spec_file(folders, spec.replica), msgspec.json.format(msgspec.json.encode(spec)))


def remove_files(replica: str, folders: Folders) -> None:
    """Remove what `write_files` made, and what the replica left. Does nothing when it is gone."""
    _spec_file(folders, replica).unlink(missing_ok=True)
    _error_file(folders, replica).unlink(missing_ok=True)
    shutil.rmtree(_work_dir(folders, replica), ignore_errors=True)


def sweep(known: set[str], folders: Folders) -> int:
    """Remove files of replicas that are not in `known`: a crash came between their end and this. Returns how many."""
    names = {path.stem if path.suffix in (".json", ".error") else path.name for path in folders.replicas.iterdir()}
    for name in names - known:
        remove_files(name, folders)
        with suppress(OSError):
            (folders.replicas / name).unlink()
    return len(names - known)


def choice_file(folders: Folders, replica: str) -> Path:
    """Return where a replica writes which engine it chose; in its working folder, and gone with it."""
    return _work_dir(folders, replica) / "engine.json"


def _spec_file(folders: Folders, replica: str) -> Path:
    return folders.replicas / f"{replica}.json"


def _error_file(folders: Folders, replica: str) -> Path:
    return folders.replicas / f"{replica}.error"


def _work_dir(folders: Folders, replica: str) -> Path:
    return folders.replicas / replica
