"""The limit over gRPC: servers that answer what they were sent, unread, in each way that Python has.

python -m bench.baselines.rpc_echo aio|threads|crossing
"""

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import uvloop

THREADS = 64


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, echo: Any) -> None:
        self._handler = grpc.unary_unary_rpc_method_handler(echo)

    def service(self, handler_call_details: Any) -> Any:
        return self._handler


def listen(server: Any) -> None:
    port = server.add_insecure_port("127.0.0.1:0")
    print(json.dumps({"port": port}), flush=True)


async def aio() -> None:
    async def echo(message: bytes, _context: Any) -> bytes:
        return message

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(echo),))
    listen(server)
    await server.start()
    await server.wait_for_termination()


def threads() -> None:
    server = grpc.server(ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers((Echo(lambda message, _context: message),))
    listen(server)
    server.start()
    server.wait_for_termination()


async def crossing() -> None:
    """gRPC's threads, each call answered by a coroutine in the loop: what layers on a loop would need of them."""
    loop = asyncio.get_running_loop()

    async def echo(message: bytes) -> bytes:
        return message

    server = grpc.server(ThreadPoolExecutor(THREADS))
    handler = Echo(lambda message, _context: asyncio.run_coroutine_threadsafe(echo(message), loop).result())
    server.add_generic_rpc_handlers((handler,))
    listen(server)
    server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "threads":
        threads()
    else:
        uvloop.run(aio() if sys.argv[1] == "aio" else crossing())
