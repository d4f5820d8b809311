"""A process that speaks frames and misbehaves as its environment says. Started by the agent under test."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from stoker.protocol import frames
from stoker.protocol.frames import Hello
from stoker.protocol.link import Exchange, refuse, serve
from stoker.runtime.verify import verify
from stoker.types.replica import ReplicaSpec, ReplicaStats

BEHAVIOUR = os.environ.get("WORKER", "")
ADDRESS = os.environ["ADDRESS"]
GATE = os.environ.get("GATE", "")
NAME = os.environ["STOKER_PROCESS"].partition("/")[2]


class Worker:
    """Ready after LOAD_S, and once the file GATE is there; then it does what WORKER says."""

    body_max_bytes = 1 << 20

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.began_s = time.monotonic()
        self.load_s = float(os.environ.get("LOAD_S", "0"))
        self.running = int(os.environ.get("RUNNING", "0"))
        self.is_draining = False
        self.finished = 0

    def hello(self) -> Hello:
        return Hello(frames.WIRE_VERSION, NAME, "replica", os.getpid(), f"{os.getpid()}", state=self.stats().state)

    def stats(self) -> ReplicaStats:
        fraction = min(1.0, (time.monotonic() - self.began_s) / self.load_s) if self.load_s else 1.0
        if BEHAVIOUR == "stuck-loading":
            return ReplicaStats(state="loading", stage="weights", fraction=0.4)
        if self.is_draining:
            return ReplicaStats(state="draining", running=self.running)
        if GATE and not os.path.exists(GATE):  # noqa: PTH110
            return ReplicaStats(state="loading", stage="weights", fraction=0.5)
        if fraction < 1.0:
            return ReplicaStats(state="loading", stage="weights", fraction=fraction)
        if BEHAVIOUR == "progress":
            self.finished += 1
        return ReplicaStats(state="ready", running=self.running, finished=self.finished)

    def request(self, exchange: Exchange) -> None:
        raise AssertionError("not asked in these tests")

    def call(self, exchange: Exchange) -> None:
        raise refuse(exchange.head.method)

    def drain(self) -> None:
        if BEHAVIOUR == "deaf":
            return
        self.is_draining = True
        self.finish_if_may()

    def finish_if_may(self) -> None:
        """End what runs once the file FINISH is there."""
        if "FINISH" not in os.environ:
            self.running = 0
        elif os.path.exists(os.environ["FINISH"]):  # noqa: PTH110
            self.running = 0
            print("finished", flush=True)
        else:
            asyncio.get_running_loop().call_later(0.02, self.finish_if_may)


async def main() -> int:
    worker = Worker()
    loop = asyncio.get_running_loop()
    if BEHAVIOUR == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        loop.add_signal_handler(signal.SIGTERM, worker.done.set)
    if BEHAVIOUR == "children":
        subprocess.Popen(["sleep", "1000"])  # noqa: ASYNC220
        subprocess.Popen(["sleep", "1000"], start_new_session=True)  # noqa: ASYNC220
    if BEHAVIOUR == "environment":
        print("ENVIRONMENT", json.dumps(dict(os.environ)), flush=True)
    server = await serve(ADDRESS, worker)
    print("listening", os.getpid(), flush=True)
    if BEHAVIOUR == "writes":
        while True:
            try:
                with Path("file").open("ab") as file:  # noqa: ASYNC230
                    file.write(b"x" * 100)
            except OSError as refused:
                if not os.path.lexists("refused"):
                    Path("refused").symlink_to(str(refused.errno))  # not a byte of a file
            await asyncio.sleep(0.01)
    if BEHAVIOUR == "leak":
        held = []
        while True:
            held.append(b"x" * (8 << 20))
            await asyncio.sleep(0.02)
    if BEHAVIOUR == "chatty":
        for number in range(int(os.environ["LINES"])):
            print(f"line {number}", flush=True)
            if number % 1000 == 0:
                await asyncio.sleep(0)
    if BEHAVIOUR == "hang":
        await asyncio.sleep(0.3)
        time.sleep(1000)  # noqa: ASYNC251
    if BEHAVIOUR == "quit":
        await asyncio.sleep(0.2)
        return 0
    await worker.done.wait()
    await server.close()
    return 0


if BEHAVIOUR == "verifies":
    told = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=ReplicaSpec)
    verify(Path(told.model_dir), told.manifest, lambda *_: None)
if BEHAVIOUR == "crash":
    print("about to crash", flush=True)
    raise RuntimeError("the weights are made of cheese")
if BEHAVIOUR == "error-file":
    Path(os.environ["ERROR_FILE"]).write_text(json.dumps({"code": "engine_failed", "message": "no such operator: Foo"}))
    sys.exit(3)
sys.exit(asyncio.run(main()))
