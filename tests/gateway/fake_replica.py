"""A replica process without an engine, for tests and measurements of the gateway: what it does, the body says.

python fake_replica.py ADDRESS NAME LOGFILE [--state loading] [--slots 256] [--pace 10] [--full-cache PATH]
    [--says TEXT] [--stage weights]

The text of a body, anywhere in it (of a large one: at its ends), decides: `die` kills the process, `hang` never
answers, `slow:0.2` answers after that, `until:PATH` when that file is there, `cost:0.1` says that four requests
together took so much of the engine's time; `report` answers with a report of engine calls, `stream` bodies
(`"stream": true`) get `chunks:N` events with `every:S` between them, `cut-after:N` dies after N events, `big:N` answers
N bytes, `who:` is answered with who computed it (replica, request id, body), `traced:` logs the trace it is part of,
`turn:` its turn, `refuse:CODE` fails with that error, `stuck` blocks the process; with `at:NAME` only the replica of
that name does so.
Every event worth asserting (requests, cancels) is appended to LOGFILE as a line. With `--pace N` all that is slow is N
times slower, until SIGUSR1. While the file of `--full-cache` is there, its cache is full.
"""

import asyncio
import os
import re
import secrets
import signal
import sys
import time
from pathlib import Path

import uvloop

from stoker.protocol import frames
from stoker.protocol.frames import EndHead, Hello
from stoker.protocol.link import Exchange, refuse, serve
from stoker.types.errors import EngineFailed, all_codes
from stoker.types.replica import EngineCalls, ReplicaStats, Timings, Usage

EVENT = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"tok"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
REPORT = EngineCalls({"queue": 2, "shed": 1}, values=100, padding=30)


def option(name: str, default: str) -> str:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


class Fake:
    """The handler."""

    body_max_bytes = 64 << 20

    def __init__(self, name: str, log: Path, state: str, slots: int, pace: float) -> None:
        self.name = name
        self.state = state
        self.boot = secrets.token_hex(4)
        self.log = log.open("a", buffering=1)
        self.running = 0
        self.slots = slots
        self.finished = 0
        self.tokens = 0
        self.pace = pace
        self.full_cache = Path(option("--full-cache", "/nowhere"))
        self.says = option("--says", "").encode()  # the answer to all that is not quick
        self.stage = option("--stage", "")  # of the load, until SIGUSR1
        self.fails = False  # SIGHUP, to and fro: every request ends with an error of the engine
        self.hangs = False  # SIGUSR2: answer pings, and nothing else any more
        self.tasks: set[asyncio.Task[None]] = set()

    def hello(self) -> Hello:
        return Hello(
            wire=frames.WIRE_VERSION, name=self.name, kind="replica", pid=os.getpid(), boot=self.boot, state=self.state
        )

    def stats(self) -> ReplicaStats:
        return ReplicaStats(
            state=self.state,
            stage=self.stage if self.state == "loading" else "",
            running=self.running,
            slots=self.slots,
            finished=self.finished,
            tokens=self.tokens,
            kv_used_ratio=0.97 if self.full_cache.exists() else 0.0,
            error="the weights are missing" if self.state == "failed" else "",
        )

    def drain(self) -> None:
        self.state = "draining"

    def call(self, exchange: Exchange) -> None:
        raise refuse(exchange.head.method)

    def request(self, exchange: Exchange) -> None:
        body = exchange.body
        if self.hangs:
            return
        if self.fails:
            raise EngineFailed("as told")
        is_small = len(body) <= frames.INLINE_MAX
        if is_small and b"die" not in body and b":" not in body and b"hang" not in body:  # quick, for measurements
            self.finished += 1
            exchange.end(EndHead(usage=Usage(rows=1), timings=Timings(batch_rows=1)), body)
            return
        # Looking through a megabyte costs 60 ms: the words of a large body are at its ends.
        text = (body if is_small else body[:4096] + body[-4096:]).decode("latin-1")
        at = re.search(r"\bat:(\w+)", text)
        if at and at[1] != self.name:
            text = re.sub(r"(slow|refuse|until):\S+|hang|die|stuck", "", text)
        if re.search(r"\bdie\b", text):
            self.log.write(f"died alone={exchange.head.alone}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        if "stuck" in text:
            self.log.write("stuck\n")
            time.sleep(60)
        self.running += 1
        task = asyncio.get_running_loop().create_task(self.answer(exchange, text))
        self.tasks.add(task)
        task.add_done_callback(self.done)
        exchange.on_cancel = lambda: (self.log.write("cancelled\n"), task.cancel())

    def done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self.running -= 1
        self.finished += 1

    async def answer(self, exchange: Exchange, text: str) -> None:
        def number(name: str, default: float) -> float:
            found = re.search(rf"{name}:([0-9.]+)", text)
            return float(found[1]) if found else default

        self.log.write(f"request {exchange.head.method} {exchange.head.request} {len(exchange.body)}\n")
        if "whose:" in text:
            self.log.write(f"tenant {exchange.head.tenant}\n")
        if "turn:" in text:
            self.log.write(f"turn {exchange.head.tenant} {exchange.head.turn}\n")
        if "traced:" in text:
            self.log.write(f"trace {exchange.head.trace} {exchange.head.trace_state}\n")
        if "hang" in text:
            await asyncio.Event().wait()
        await asyncio.sleep(number("slow", 0) * self.pace)
        gate = re.search(r'until:([^\s"]+)', text)
        while gate is not None and not Path(gate[1]).exists():
            await asyncio.sleep(0.005)
        refused = re.search(r"refuse:([a-z_]+)", text)
        if refused:
            exchange.fail(all_codes()[refused[1]]("as asked", retry_after_s=3.0))
        elif re.search(r'"stream": ?true', text):
            usage = Usage(input_tokens=2, output_tokens=int(number("chunks", 3)), loops=int(number("loops", 0)))
            await self.stream(exchange, usage, number("every", 0), int(number("cut-after", -1)))
        else:
            size = int(number("big", 0))
            usage = Usage(rows=1) if "cost:" in text else Usage(input_tokens=3, output_tokens=5, rows=1)
            header_bytes = exchange.head.header_bytes
            if header_bytes > 0 and exchange.body.startswith(b'{"inputs":'):  # tensors go back as they came
                exchange.body = b'{"outputs":' + exchange.body[len('{"inputs":') :]
                header_bytes += 1
            who = f"{self.name} {exchange.head.request} {text}".encode() if "who:" in text else exchange.body
            who = self.says or who
            await exchange.finish(
                EndHead(
                    usage=usage,
                    header_bytes=header_bytes,
                    timings=Timings(
                        compute_s=number("cost", 0), batch_rows=4, calls=REPORT if "report" in text else None
                    ),
                    content_type="application/json" if header_bytes < 0 else "application/octet-stream",
                ),
                b"x" * size if size else who,
            )

    async def stream(self, exchange: Exchange, usage: Usage, every_s: float, die_after: int) -> None:
        for at in range(usage.output_tokens):
            if at == die_after:
                os.kill(os.getpid(), signal.SIGKILL)
            await exchange.send(EVENT)
            self.tokens += 1
            if every_s:
                await asyncio.sleep(every_s)
        exchange.end(EndHead(usage=usage), DONE)


async def main() -> None:
    address, name, log = sys.argv[1:4]
    slots, pace = int(option("--slots", "256")), float(option("--pace", "1"))
    fake = Fake(name, Path(log), option("--state", "ready"), slots, pace)
    server = await serve(address, fake)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    def load() -> None:
        fake.state, fake.pace = "ready", 1.0

    def hang() -> None:
        fake.hangs = True

    def fail() -> None:
        fake.fails = not fake.fails

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, load)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, fail)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, hang)
    await stop.wait()
    await server.close()


if __name__ == "__main__":
    uvloop.run(main())
