"""What the gateway itself costs: a real gateway process before a replica that only echoes.

python -m bench.gateway [SECONDS]

Prints req/s, processor microseconds a request in the gateway, p50 and p99 at c = 1, 16, 64, 256; then microseconds a
relayed chunk at 1 and 64 streams, and the gateway's memory before, with and after 500 open streams.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import uvloop

from bench import load, machine
from bench.load import Load
from bench.servers import Contender
from tests.gateway import rig as rigs
from tests.gateway.rig import KEY, Rig, chat, client

# The fake replica takes its slow path for bodies with a colon or these words; this one it echoes at once.
BODY = json.dumps({"inputs": [0.5] * 64}).replace(":", " ").encode()
CHUNKS = 2000
OPEN = 500


def requests(rig: Rig, seconds: float) -> None:
    """Print the cost of small requests."""
    gateway = rig.processes["gateway-0"].pid
    contender = Contender(
        "gateway",
        f"http://127.0.0.1:{rig.port}/v2/models/digits/infer",
        (gateway,),
        (("Authorization", f"Bearer {KEY}"),),
    )
    load.warm_up(contender, Load(BODY, 16, 1.0), 1.0)
    print(f"{'c':>4} {'req/s':>8} {'CPU us':>7} {'p50 us':>7} {'p99 us':>8} {'errors':>6}")
    for connections in (1, 16, 64, 256):
        sample = load.run(contender, Load(BODY, connections, seconds))
        micro = (sample.cpu_us, sample.p50_s * 1e6, sample.p99_s * 1e6)
        print(f"{connections:4} {sample.rate:8.0f} {micro[0]:7.1f} {micro[1]:7.0f} {micro[2]:8.0f} {sample.errors:6}")


async def streams(rig: Rig) -> None:
    """Print the cost of a relayed chunk, and of streams that only stay open."""
    gateway = rig.processes["gateway-0"].pid

    async def read(text: str) -> int:
        async with client(rig) as one:
            return (await one.request("POST", "/v1/chat/completions", chat(text, stream=True))).body.count(b"data: {")

    for count, every_s in ((1, 0.001), (64, 0.02), (500, 0.1)):
        chunks = CHUNKS if count == 1 else 200
        before_s = machine.cpu_s((gateway,))
        seen = sum(await asyncio.gather(*(read(f"chunks:{chunks} every:{every_s}") for _ in range(count))))
        used_s = machine.cpu_s((gateway,)) - before_s
        print(f"{count:4} streams, a chunk every {every_s * 1e3:g} ms: {used_s / seen * 1e6:.1f} us a chunk ({seen})")
    before = machine.rss_bytes(gateway)
    tasks = [asyncio.create_task(read("chunks:60 every:0.1")) for _ in range(OPEN)]
    for moment in (2, 4):
        await asyncio.sleep(2)
        print(f"{OPEN} streams open, {moment} s: {(machine.rss_bytes(gateway) - before) / 2**20:+.1f} MB")
    await asyncio.gather(*tasks)
    print(f"after them: {machine.rss_bytes(gateway) / 2**20:.1f} MB in all")


def main() -> None:
    """Run all."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
    with tempfile.TemporaryDirectory() as folder, rigs.rig(Path(folder), replicas=1) as rig:
        requests(rig, seconds)
        uvloop.run(streams(rig))


if __name__ == "__main__":
    main()
