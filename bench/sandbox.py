"""What the sandbox costs: starts that are forked, and requests of digits, with it and without, in turns.

python -m bench.sandbox [SECONDS] [ROUNDS]
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from bench import forks, load
from bench.figures import Sample
from bench.load import Load
from bench.servers import Contender
from stoker.agent import orphans
from stoker.agent.supervisor import Supervisor
from stoker.app import agent_main, demo
from stoker.app.home import Home
from tests.whole.rig import Platform, until

LEVELS = ("off", "standard")
MODELS = ("python", "digits, sklearn", "digits, onnx")
BODY = json.dumps({"inputs": [{"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": [0.5] * 64}]}).encode()
MANIFEST = """
apiVersion: stoker/v1
kind: Endpoint
metadata: {{name: digits-{level}}}
spec: {{model: digits, sandbox: {{level: "{level}"}}, resources: {{cpu: 0.5}}}}
---
"""


async def starts(rounds: int) -> None:
    """Print the median seconds from the fork until ready, by model and level."""
    orphans.take()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        home.make()
        agent = Supervisor(agent_main.folders(home), "n", (), forks=True)
        agent.start()
        for name, fields in forks.models(Path(folder)).items():
            if name not in MODELS:
                continue
            await forks.warmed(agent, forks.process_spec(home, fields))
            taken: dict[str, list[float]] = {level: [] for level in LEVELS}
            for number in range(rounds):
                for level in LEVELS if number % 2 else reversed(LEVELS):
                    seen = await forks.start(agent, _with(forks.process_spec(home, fields), level))
                    assert "forked" in seen.phases, seen
                    taken[level].append(seen.ready_at_s - seen.started_at_s)
            print(name, {level: f"{median(each) * 1e3:.0f} ms" for level, each in taken.items()}, flush=True)
        await agent.shutdown(0.0)


def _with(spec: Any, level: str) -> Any:
    path = Path(spec.argv[-1])
    path.write_bytes(msgspec.json.encode({**msgspec.json.decode(path.read_bytes()), "sandbox": {"level": level}}))
    return spec


def requests(seconds: float, rounds: int) -> None:
    """Print requests a second, and processor time of the replica, by level at two concurrencies."""
    with tempfile.TemporaryDirectory() as folder:
        platform = Platform(Path(folder) / "home")
        try:
            platform.up()
            platform.cli("push", "digits", str(demo.prepare("digits", Path(folder)).folder))
            platform.cli("apply", "-f", "-", stdin="".join(MANIFEST.format(level=each) for each in LEVELS))
            for level in LEVELS:
                until(
                    lambda level=level: platform.json("describe", f"digits-{level}")["status"]["replicas_ready"], 60.0
                )
            made = {level: _contender(platform, level) for level in LEVELS}
            for each in made.values():
                load.warm_up(each, Load(BODY, 16, 2.0), 2.0)
            for connections in (1, 16):
                taken: dict[str, list[Sample]] = {level: [] for level in LEVELS}
                for number in range(rounds):
                    for level in LEVELS if number % 2 else reversed(LEVELS):
                        taken[level].append(load.run(made[level], Load(BODY, connections, seconds)))
                print(f"c={connections}", {level: _said(each) for level, each in taken.items()}, flush=True)
        finally:
            platform.kill_everything()


def _is_ready(platform: Platform, level: str) -> bool:
    return bool(platform.json("describe", f"digits-{level}")["status"]["replicas_ready"])


def _contender(platform: Platform, level: str) -> Contender:
    url = f"{platform.url}/v2/models/digits-{level}/infer"
    pid = platform.pid(f"default.digits-{level}")
    return Contender(level, url, (pid,), (("Authorization", f"Bearer {platform.key}"),))


def _said(taken: Iterable[Sample]) -> str:
    seen = list(taken)
    rate, cpu_us, p50_s = (median(getattr(each, name) for each in seen) for name in ("rate", "cpu_us", "p50_s"))
    return f"{rate:.0f}/s, {cpu_us:.1f} us of the replica, p50 {p50_s * 1e6:.0f} us"


def main() -> None:
    """Run both."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    asyncio.run(starts(rounds))
    requests(seconds, rounds)


if __name__ == "__main__":
    main()
