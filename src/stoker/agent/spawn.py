"""How a process is started: its own session, a scrubbed environment, no input, its log as output, limits.

Nothing of the agent's own environment reaches it but what BASE_NAMES lists, so that no secret of whoever started
the platform ends up in a model's process. Control and gateways, which resolve secrets, get those that are meant so.
"""

import os
import resource
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from stoker.agent import logs
from stoker.agent.kernel import MARKER
from stoker.types.process import ProcessSpec
from stoker.types.secrets import ENV_PREFIX
from stoker.types.starts import SPAWNED

# What a program needs to run at all: where programs and libraries are, language, time zone, certificates.
BASE_NAMES: Final = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
# The platform's own processes are trusted with the user's folders; a replica's home is its work folder.
SYSTEM_NAMES: Final = (*BASE_NAMES, "HOME", "USER", "TMPDIR", "STOKER_VAULT_TOKEN")
# Short of memory, the kernel should end a replica, which is started again, before anything that keeps the rest alive.
REPLICA_OOM_SCORE: Final = 500
NOFILE_WANTED: Final = 65_536  # a gateway's connections


def raise_own_limits() -> None:
    """Set what children inherit: many open files, no core dumps (they hold requests and weights)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > soft:
        wanted = NOFILE_WANTED if hard == resource.RLIM_INFINITY else min(hard, NOFILE_WANTED)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def environment(spec: ProcessSpec, home_id: str, own: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of a process that starts now: a few names of the agent's `own`, then the spec's."""
    names = BASE_NAMES if spec.kind == "replica" else SYSTEM_NAMES
    found = {name: own[name] for name in names if name in own}
    if spec.kind in ("control", "gateway"):  # what manifests may name as `env:…`; it is in no record of a process
        found |= {name: value for name, value in own.items() if name.startswith(ENV_PREFIX)}
    if spec.kind == "replica":
        found["HOME"] = found["TMPDIR"] = spec.work_dir
    # Without them a crash in native code, or a print before it, would leave no word in the log.
    found["PYTHONFAULTHANDLER"] = found["PYTHONUNBUFFERED"] = "1"
    # `python -m` would else import modules out of the work folder, which anything may have written to.
    found["PYTHONSAFEPATH"] = "1"
    return {**found, **spec.env, MARKER: f"{home_id}/{spec.name}", SPAWNED: f"{time.monotonic():.6f}"}


def spawn(spec: ProcessSpec, home_id: str, log: Path) -> "subprocess.Popen[bytes]":
    """Start the process. Raises OSError or ValueError when the kernel, or Python before it, refuses."""
    Path(spec.work_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
    output = logs.open_log(log)
    try:
        started = subprocess.Popen(
            spec.argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=spec.work_dir,
            env=environment(spec, home_id, os.environ),
            start_new_session=True,
        )
    finally:
        os.close(output)
    mark_for_oom(spec, started.pid)
    return started


def mark_for_oom(spec: ProcessSpec, pid: int) -> None:
    """Have the kernel end a replica first when memory is short."""
    if spec.kind == "replica":
        with suppress(OSError):  # it may have died already
            Path(f"/proc/{pid}/oom_score_adj").write_text(str(REPLICA_OOM_SCORE))
