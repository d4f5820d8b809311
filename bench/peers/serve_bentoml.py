"""BentoML with the model: `bentoml serve bench.peers.serve_bentoml:DigitsService`."""

import os
from typing import Any

import bentoml

from bench.peers.digits import Digits


@bentoml.service(
    workers=int(os.environ.get("BENCH_WORKERS", "1")),
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class DigitsService:
    def __init__(self) -> None:
        self.digits = Digits()

    @bentoml.api
    async def infer(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        return self.digits.answer(inputs)
