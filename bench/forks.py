"""What a fork server brings: starts of one model, forked and not in turn, by an agent of its own.

python -m bench.forks [ROUNDS [WHAT ...]]: of `models` those whose names begin so; all by default.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import skops.io
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from stoker.agent import orphans
from stoker.agent.supervisor import Supervisor
from stoker.app import agent_main, demo
from stoker.app.home import Home
from stoker.types.forks import THREADS_ENV, USUAL_ENV
from stoker.types.models import FileEntry, VersionManifest, sha256_digest
from stoker.types.process import ProcessSpec, ProcessStatus
from stoker.types.replica import ReplicaSpec

ROUNDS = 9
PATIENCE_S = 120.0
# What `openai` starts: the least server that says it is ready and which model it has.
SERVER = """
import http.server, json, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"data": [{"id": "m"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def models(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what is started: by name, the fields of its replica's spec."""
    rows, labels = load_digits(return_X_y=True)
    (folder / "skops").mkdir()
    skops.io.dump(LogisticRegression(max_iter=500).fit(rows, labels), folder / "skops" / "model.skops")
    (folder / "python").mkdir()
    (folder / "python" / "model.py").write_text(
        "class Model:\n    inputs = {'x': ('FP32', [-1, 4])}\n    outputs = {'y': ('FP32', [-1, 4])}\n"
        "    def predict(self, inputs):\n        return {'y': inputs['x']}\n"
    )
    (folder / "openai").mkdir()
    (folder / "openai" / "server.py").write_text(SERVER)
    command = [sys.executable, str(folder / "openai" / "server.py"), "{port}"]
    onnx, minilm, smol = (demo.prepare(name, folder).folder for name in ("digits", "minilm", "smol"))
    return {
        "digits, sklearn": {"folder": folder / "skops", "engine": "sklearn", "format": "skops"},
        "digits, onnx": {"folder": onnx, "engine": "onnx", "format": "onnx"},
        "python": {"folder": folder / "python", "engine": "python", "format": "python"},
        "minilm, onnx": {"folder": minilm, "engine": "onnx", "format": "onnx", "task": "embed"},
        "smol, llamacpp": {"folder": smol, "engine": "llamacpp", "format": "gguf", "task": "chat"},
        "smol, openvino": {"folder": smol, "engine": "openvino", "format": "gguf", "task": "chat"},
        "openai, a command": {
            "folder": folder / "openai",
            "engine": "openai",
            "format": "remote",
            "task": "chat",
            "options": {"command": command},
        },
    }


def process_spec(home: Home, fields: dict[str, Any]) -> ProcessSpec:
    """Write the spec file of a replica, and return what its agent is told."""
    folder: Path = fields["folder"]
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    entries = tuple(FileEntry(each.name, sha256_digest(each.read_bytes()), each.stat().st_size) for each in files)
    entry = next(each.name for each in files if each.suffix in (".onnx", ".skops", ".py", ".gguf"))
    told = {
        "replica": "r1",
        "revision": "r",
        "project": "default",
        "endpoint": "e",
        "task": fields.get("task", "predict"),
        "model": "m@1",
        "version": "1",
        "engine": fields["engine"],
        "model_dir": str(folder),
        "manifest": VersionManifest(format=fields["format"], files=entries, entry=entry),
        "address": home.address("r1"),
        "options": fields.get("options", {}),
    }
    path = home.replicas / "r1.json"
    path.write_bytes(msgspec.json.encode(told))
    msgspec.json.decode(path.read_bytes(), type=ReplicaSpec)
    work_dir = str(home.replicas / "r1")
    return ProcessSpec(
        name="r1",
        kind="replica",
        argv=(sys.executable, "-m", "stoker.app.replica_main", str(path)),
        env={"HOME": work_dir, "TMPDIR": work_dir, **USUAL_ENV, THREADS_ENV: "1"},
        address=home.address("r1"),
        work_dir=work_dir,
        drain_s=0.0,
    )


async def start(agent: Supervisor, spec: ProcessSpec) -> ProcessStatus:
    """Start the replica, end it once it is ready, and return how that was."""
    agent.put(spec, 1)
    until_s = time.monotonic() + PATIENCE_S
    found: ProcessStatus | None = None
    while found is None:
        now = agent.status()
        found = next((each for each in now.processes if each.phase == "ready"), None)
        assert time.monotonic() < until_s, now
        await agent.wait_change(now.sequence, 1.0)
    agent.delete("r1", 0.0, 1)
    while (now := agent.status()).processes:
        await agent.wait_change(now.sequence, 1.0)
    return found


async def main() -> None:
    """Print a line a model: median seconds until ready and of the two phases that a fork saves."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    chosen = tuple(sys.argv[2:]) or ("",)
    orphans.take()
    with tempfile.TemporaryDirectory() as folder:
        homes = [Home(Path(folder) / name) for name in ("plain", "forks")]
        for home in homes:
            home.make()
        plain, forking = (Supervisor(agent_main.folders(each), "n", (), forks=each is homes[1]) for each in homes)
        forking.start()
        plain.start()
        print(f"{'model':18} {'ready':>18} {'process+imports':>20} {'server':>8}")
        for name, fields in ((name, each) for name, each in models(Path(folder)).items() if name.startswith(chosen)):
            specs = [process_spec(home, fields) for home in homes]
            rss_bytes = await warmed(forking, specs[1])
            taken: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
            for number in range(rounds):
                for is_forked in (True, False) if number % 2 else (False, True):
                    seen = await start(forking if is_forked else plain, specs[is_forked])
                    assert ("forked" in seen.phases) is is_forked, (name, seen, forking.status().forks)
                    imports_s = sum(seen.phases.get(phase, 0.0) for phase in ("process", "forked", "imports"))
                    taken[is_forked].append((seen.ready_at_s - seen.started_at_s, imports_s))
            before, after = ([median(each) for each in zip(*taken[how], strict=True)] for how in (False, True))
            times = "".join(f"{old:9.3f} → {new:6.3f} s" for old, new in zip(before, after, strict=True))
            print(f"{name:18}{times} {rss_bytes >> 20:5} MiB", flush=True)
        await forking.shutdown(0.0)
        await plain.shutdown(0.0)


async def warmed(agent: Supervisor, spec: ProcessSpec) -> int:
    """Start the replica once, and return the size of the server that is then there to fork it."""
    agent.put(spec, 1)
    until_s = time.monotonic() + PATIENCE_S
    while True:
        now = agent.status()
        told = msgspec.json.decode(Path(spec.argv[-1]).read_bytes(), type=ReplicaSpec)
        imports = "sklearn" if told.engine == "sklearn" else "platform"
        found = next((each for each in now.forks if each.imports == imports and each.phase == "ready"), None)
        if found is not None and any(each.phase == "ready" for each in now.processes):
            break
        assert time.monotonic() < until_s, now
        await agent.wait_change(now.sequence, 1.0)
    agent.delete("r1", 0.0, 1)
    while (now := agent.status()).processes:
        await agent.wait_change(now.sequence, 1.0)
    return found.rss_bytes


if __name__ == "__main__":
    asyncio.run(main())
