"""Ray Serve with the model. `python -m bench.peers.serve_ray PORT REPLICAS`."""

import json
import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from bench.peers.digits import Digits


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.5})
class Runtime:
    def __init__(self) -> None:
        self.digits = Digits()

    async def __call__(self, request: Request) -> Any:
        return Response(json.dumps(self.digits.answer(json.loads(await request.body())["inputs"])))


if __name__ == "__main__":
    port, replicas = (int(argument) for argument in sys.argv[1:])
    ray.init(include_dashboard=False, num_cpus=4, log_to_driver=False, object_store_memory=100_000_000)
    serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"enable_access_log": False})
    serve.run(Runtime.options(num_replicas=replicas).bind(), route_prefix="/")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
