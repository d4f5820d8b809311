"""Which engine a replica with `engine: auto` runs: the candidates measured on this machine, once, and remembered.

The table of a model lies in the platform's folder, under a name made of everything that could change it. Who finds none
measures, each candidate in a process of its own, one replica at a time on the whole machine.
"""

import contextlib
import fcntl
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec

from stoker.core.engines import Chosen, choose
from stoker.runtime.engines import registry
from stoker.runtime.engines.cores import usable_cores
from stoker.runtime.engines.port import Progress
from stoker.types.engines import EngineChoice, EngineMeasurement, Goal
from stoker.types.errors import EngineFailed
from stoker.types.replica import ReplicaSpec

TABLES_MAX = 256  # kept in the folder; the oldest go
MEASURE_TIMEOUT_S = 100.0  # of one candidate, load and all: under the 120 s without progress after which a start fails
WAIT_S = 300.0  # for another replica that measures; then the first candidate is taken unmeasured
POLL_S = 0.2
FAILURE_KEPT_S = 24 * 3600.0  # a table with a failed candidate; the failure may have been of the moment
DEFAULT_GOAL: Goal = "throughput"


class Table(msgspec.Struct, frozen=True):
    """What was measured, in order of preference."""

    rows: tuple[EngineMeasurement, ...]
    measured_at_s: float


def resolve(spec: ReplicaSpec, progress: Progress) -> ReplicaSpec:
    """Return `spec` with the engine to run instead of `auto`; writes the choice to `spec.choice_file`. Blocks.

    Raises EngineFailed with every candidate's reason when none works.
    """
    candidates = registry.candidates(spec.manifest.format, spec.task)
    goal = spec.goal or DEFAULT_GOAL
    installed = [engine for engine in candidates if registry.version(engine)]
    if len(candidates) == 1:
        choice = EngineChoice(candidates[0], goal, "no other engine can run this model")
    elif len(installed) < 2:
        missing = [engine for engine in candidates if engine not in installed]
        advice = ", ".join(f"pip install 'stoker[{registry.EXTRAS[engine]}]'" for engine in missing)
        choice = EngineChoice((installed or candidates)[0], goal, f"others are not installed ({advice})")
    else:
        choice = _compare(spec, installed, goal, progress)
    if spec.choice_file:
        _write(Path(spec.choice_file), choice)
    return msgspec.structs.replace(spec, engine=choice.engine)


def _compare(spec: ReplicaSpec, candidates: Sequence[str], goal: Goal, progress: Progress) -> EngineChoice:
    folder = Path(spec.measurements or ".")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    versions = {engine: registry.version(engine) for engine in candidates}
    path = folder / f"{table_key(spec, versions)}.json"
    table = _read(path)
    if table is None:
        with _turn(folder / "lock", progress) as is_ours:
            table = _read(path)  # whoever was before may have measured the same
            if table is None and not is_ours:
                return EngineChoice(candidates[0], goal, f"another replica still measured after {WAIT_S:.0f} s")
            if table is None:
                table = Table(_measure_all(spec, versions, progress), time.time())
                if any(not row.error for row in table.rows):  # with none that works there is nothing to remember
                    _write(path, table)
                    _forget_old(folder)
    decision = choose(table.rows, goal)
    if not isinstance(decision, Chosen):
        raise EngineFailed(f"engine auto: {decision.because}")
    return EngineChoice(decision.engine, goal, decision.because, table.rows, table.measured_at_s)


def table_key(spec: ReplicaSpec, versions: dict[str, str]) -> str:
    """Return the name of a table: a digest of the model's files, the engines, their options, the cores, the machine."""
    files: list[str] = [file.digest for file in spec.manifest.files] or [spec.model_dir]
    options = {**spec.manifest.options, **spec.options}
    parts = [files, versions, options, spec.cores, usable_cores(), spec.memory_bytes, processor(), platform.machine()]
    return sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:32]


def processor() -> str:
    """Return the processor's name as the kernel tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _measure_all(spec: ReplicaSpec, versions: dict[str, str], progress: Progress) -> tuple[EngineMeasurement, ...]:
    rows = []
    for at, (engine, version) in enumerate(versions.items()):
        progress(f"measuring {engine} {at + 1}/{len(versions)}", at / len(versions))
        row = _measure(msgspec.structs.replace(spec, engine=engine))
        rows.append(msgspec.structs.replace(row, version=version))
    return tuple(rows)


def _measure(spec: ReplicaSpec) -> EngineMeasurement:
    """Return the row of one candidate, measured in a process of its own."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as answer:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "stoker.runtime.measure_main", str(writing)],
                input=msgspec.json.encode(spec),
                stdout=sys.stderr,
                pass_fds=(writing,),
                timeout=MEASURE_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return EngineMeasurement(spec.engine, error=f"it took longer than {MEASURE_TIMEOUT_S:.0f} s")
        finally:
            os.close(writing)
        data = answer.read()
    try:
        return msgspec.json.decode(data, type=EngineMeasurement)
    except msgspec.DecodeError:
        return EngineMeasurement(spec.engine, error=f"it ended with code {done.returncode}; its log has why")


@contextlib.contextmanager
def _turn(path: Path, progress: Progress) -> Iterator[bool]:
    """Hold the machine's one turn to measure; yields False when it did not come within WAIT_S."""
    deadline_s = time.monotonic() + WAIT_S
    with path.open("a") as file:
        is_ours = _try_lock(file.fileno())
        while not is_ours and time.monotonic() < deadline_s:
            progress("waiting for another to measure", 1 - (deadline_s - time.monotonic()) / WAIT_S)
            time.sleep(POLL_S)
            is_ours = _try_lock(file.fileno())
        yield is_ours  # closing the file ends the turn, and so does the end of the process


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> Table | None:
    try:
        table = msgspec.json.decode(path.read_bytes(), type=Table)
    except (OSError, msgspec.DecodeError):
        return None
    has_failed = any(row.error for row in table.rows)
    return None if has_failed and time.time() - table.measured_at_s > FAILURE_KEPT_S else table


def _write(path: Path, value: Table | EngineChoice) -> None:
    """Write a file whole or not at all."""
    half = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        half.write_bytes(msgspec.json.format(msgspec.json.encode(value)))
        half.replace(path)
    except OSError as full:  # the choice holds without it; the next replica measures again
        sys.stderr.write(f"{path} could not be written: {full}\n")


def _forget_old(folder: Path) -> None:
    tables = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in tables[TABLES_MAX:]:
        path.unlink(missing_ok=True)
