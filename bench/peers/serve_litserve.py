"""LitServe with the model. `python -m bench.peers.serve_litserve PORT WORKERS API_SERVERS`."""

import sys
from typing import Any

import litserve

from bench.peers.digits import Digits


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.digits = Digits()

    def decode_request(self, request: dict[str, Any]) -> Any:
        return request["inputs"]

    def predict(self, inputs: Any) -> dict[str, Any]:
        return self.digits.answer(inputs)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    port, workers, api_servers = (int(argument) for argument in sys.argv[1:])
    # fast_queue: ZeroMQ instead of a manager's queues.
    server = litserve.LitServer(
        Api(), accelerator="cpu", workers_per_device=workers, fast_queue=True, timeout=False, disable_openapi_url=True
    )
    server.run(
        host="127.0.0.1",
        port=port,
        num_api_servers=api_servers,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
