"""How an endpoint scales, as its manifest says it."""

from typing import Final, Literal, get_args

# requests: arrivals x service time, and the queue. tokens: the same in tokens. forecast: where arrivals will be when a
# replica that starts now is ready. yesterday: what came at that time the day before. kv, engine-queue: room inside the
# engines. ttft, inter-token: objectives at risk. cpu, gpu: how busy the replicas are.
Signal = Literal[
    "requests", "tokens", "forecast", "yesterday", "kv", "engine-queue", "ttft", "inter-token", "cpu", "gpu"
]
SIGNALS: Final[tuple[Signal, ...]] = get_args(Signal)
