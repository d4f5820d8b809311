"""Infer requests over gRPC: one a call, or many on a stream."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final, Protocol

from stoker.gateway.directory import Directory
from stoker.gateway.exchange import Exchange
from stoker.gateway.http.incoming import SMALL_BODY_BYTES, HttpRequest
from stoker.gateway.protocols import oip_http
from stoker.gateway.router import Route
from stoker.gateway.rpc import call as calls
from stoker.gateway.rpc.bounds import STREAM_AHEAD_MAX
from stoker.gateway.rpc.call import Answer, Call, RpcShapes
from stoker.gateway.stack import Stack
from stoker.protocol import oip_grpc
from stoker.protocol.oip_messages import INFERENCE
from stoker.types.errors import Draining, StokerError, TooLarge, Unavailable

_StreamResponse: Final[Any] = INFERENCE.messages["ModelStreamInferResponse"]


class Bodies(Protocol):
    """The process' allowance for large bodies (server.Server has it)."""

    def reserve(self, count: int) -> bool:
        """Take `count` bytes; False when it is used up."""

    def release(self, count: int) -> None:
        """Give back what `reserve` took."""


class Infer:
    """ModelInfer and ModelStreamInfer."""

    def __init__(self, stack: Stack, bodies: Bodies) -> None:
        self._loop = asyncio.get_running_loop()
        self._bodies = bodies
        self._route = Route(RpcShapes(), stack.inference(), "infer", prepare)
        self._reading: set[asyncio.Task[None]] = set()  # a task for each open stream
        self._is_draining = False
        self._held: asyncio.Event | None = None
        self.arrived = 0  # calls of `unary` so far

    def hold(self) -> None:
        """Keep back the answers of `unary` until `drain`."""
        self._held = asyncio.Event()

    def drain(self) -> None:
        """Let held answers go. Read no more from streams; they end once what was read is answered."""
        self._is_draining = True
        if self._held is not None:
            self._held.set()
        for reading in self._reading:
            reading.cancel()

    async def unary(self, head: HttpRequest, message: bytes, context: Any) -> bytes:
        """Answer one request."""
        self.arrived += 1
        calls.hold_deadline(head, context.time_remaining())
        exchange, call = self._start(head, message)
        try:
            answer = await call.answer
            if self._held is not None:
                await self._held.wait()
        except asyncio.CancelledError:
            calls.give_up(exchange, context.time_remaining())
            raise
        finally:
            self._free(exchange.request)
        if answer.status != 200:
            del message, exchange  # gRPC keeps the error, and with it this frame, until the collector runs
            await calls.refuse(context, answer)
        try:
            made = self._response(answer, call)
        except StokerError as problem:
            await calls.refuse_with(context, problem, exchange.id)
        context.set_trailing_metadata(tuple(answer.trailers()))
        return made.SerializeToString()  # type: ignore[no-any-return]

    async def stream(self, head: HttpRequest, messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Answer the requests of a stream in their order, while those behind the first are worked on already."""
        ahead: asyncio.Queue[tuple[Exchange, Call] | None] = asyncio.Queue(STREAM_AHEAD_MAX)
        reading = self._loop.create_task(self._read(head, messages, context, ahead))
        self._reading.add(reading)
        current: tuple[Exchange, Call] | None = None
        try:
            while (current := await ahead.get()) is not None:
                yield await self._stream_response(*current)
            if self._is_draining:
                await calls.refuse_with(context, Draining("this gateway ends; open the stream anew"), "")
        finally:
            self._reading.discard(reading)
            reading.cancel()
            left = [current] if current is not None else []
            while not ahead.empty():
                waiting = ahead.get_nowait()
                left += [waiting] if waiting is not None else []
            for exchange, _ in left:
                self._give_up(exchange, context)
            with suppress(asyncio.CancelledError):
                await reading

    async def _read(
        self,
        head: HttpRequest,
        messages: AsyncIterator[bytes],
        context: Any,
        ahead: "asyncio.Queue[tuple[Exchange, Call] | None]",
    ) -> None:
        number = 0
        try:
            async for message in messages:
                number += 1
                own = HttpRequest(head.method, head.path, dict(head.headers), time.monotonic())
                if number > 1 and b"x-request-id" in own.headers:
                    own.headers[b"x-request-id"] += b"-%d" % number
                calls.hold_deadline(own, context.time_remaining())
                exchange, call = self._start(own, message)
                try:
                    await ahead.put((exchange, call))
                except asyncio.CancelledError:
                    self._give_up(exchange, context)
                    raise
        finally:
            await ahead.put(None)

    async def _stream_response(self, exchange: Exchange, call: Call) -> bytes:
        try:
            answer = await call.answer
        finally:
            self._free(exchange.request)
        if answer.status == 200:
            try:
                made = _StreamResponse(infer_response=self._response(answer, call))
            except StokerError as problem:
                made = _StreamResponse(error_message=problem.message)
        else:
            made = _StreamResponse(error_message=answer.body.partition(b"\n")[2].decode())
            made.infer_response.id = call.id
            made.infer_response.model_name = exchange.name
        made.infer_response.parameters["triton_final_response"].bool_param = True
        return made.SerializeToString()  # type: ignore[no-any-return]

    def _start(self, head: HttpRequest, message: bytes) -> tuple[Exchange, Call]:
        call = Call(self._loop)
        exchange = Exchange(call, head, self._route, "", "")
        exchange.body = message
        if len(message) > SMALL_BODY_BYTES:
            if not self._bodies.reserve(len(message)):
                exchange.body = b""
                exchange.fail(Unavailable("the gateway holds as many bodies as it can; retry", retry_after_s=1.0))
                return exchange, call
            head.reserved = len(message)
        exchange.task = self._loop.create_task(self._route.handle(exchange))
        return exchange, call

    def _give_up(self, exchange: Exchange, context: Any) -> None:
        calls.give_up(exchange, context.time_remaining())
        self._free(exchange.request)

    def _free(self, head: HttpRequest) -> None:
        self._bodies.release(head.reserved)
        head.reserved = 0

    def _response(self, answer: Answer, call: Call) -> Any:
        length = answer.header(b"inference-header-content-length")
        return oip_grpc.response(answer.body, -1 if length is None else int(length), raw=call.is_raw)


def prepare(exchange: Exchange, directory: Directory) -> None:
    """Read a ModelInferRequest: whom it is for, and what goes to the replica. See Route."""
    request = calls.decode(oip_grpc.ModelInferRequest, exchange.body)
    call = exchange.connection
    assert isinstance(call, Call)
    call.id = request.id
    exchange.name, exchange.version = request.model_name, request.model_version
    lane = exchange.lane = oip_http.find_lane(exchange, directory)
    oip_http.prepare_lane(exchange, lane)
    limit = lane.route.max_body_bytes
    if len(exchange.body) <= limit:
        exchange.body, exchange.header_bytes = oip_grpc.request_body(request)
    if len(exchange.body) > limit:
        raise TooLarge(f"the message is over the {limit} bytes that {exchange.name} takes")
    call.is_raw = oip_grpc.is_raw(request)
