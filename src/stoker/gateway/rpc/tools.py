"""What gRPC's own tools ask: health, for probes and load balancers, and reflection, for who explores by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from stoker.gateway.rpc import call as calls
from stoker.protocol.grpc_status import Status
from stoker.protocol.oip_messages import HEALTH, INFERENCE, REFLECTION, REFLECTION_ALPHA
from stoker.protocol.protobuf import File
from stoker.types.errors import NotFound, StokerError

WATCH_S: Final = 0.25  # how soon a watcher learns of a change
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3
_FILES: Final = (INFERENCE, HEALTH, REFLECTION, REFLECTION_ALPHA)
_HEALTH: Final[Any] = HEALTH.messages["HealthCheckRequest"]
_STATUS: Final[Any] = HEALTH.messages["HealthCheckResponse"]


class Health:
    """grpc.health.v1: the whole server by "", or one of its services."""

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self.is_draining = False
        self._is_ready = is_ready

    async def check(self, message: bytes, context: Any) -> bytes:
        """Answer Check."""
        try:
            status = self._status(calls.decode(_HEALTH, message).service)
            if status == _SERVICE_UNKNOWN:
                raise NotFound("this server has no such service")
        except StokerError as problem:
            await calls.refuse_with(context, problem, "")
        return _STATUS(status=status).SerializeToString()  # type: ignore[no-any-return]

    async def watch(self, message: bytes, context: Any) -> AsyncIterator[bytes]:
        """Answer Watch: the status now, and whenever it changes, until a drain."""
        try:
            service = calls.decode(_HEALTH, message).service
        except StokerError as problem:
            await calls.refuse_with(context, problem, "")
        said = -1
        while not self.is_draining:
            status = self._status(service)
            if status != said:
                said = status
                yield _STATUS(status=status).SerializeToString()
            await asyncio.sleep(WATCH_S)
        yield _STATUS(status=_NOT_SERVING).SerializeToString()

    def _status(self, service: str) -> int:
        if service and all(service not in file.services for file in _FILES):
            return _SERVICE_UNKNOWN
        return _SERVING if self._is_ready() and not self.is_draining else _NOT_SERVING


async def reflect(file: File, messages: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    """Answer ServerReflectionInfo, in the version that `file` describes."""
    kind: Any = file.messages["ServerReflectionRequest"]
    response: Any = file.messages["ServerReflectionResponse"]
    async for message in messages:
        request = calls.decode(kind, message)
        made = response(valid_host=request.host, original_request=request)
        asked = request.WhichOneof("message_request")
        found: File | None = None
        if asked == "list_services":
            for each in _FILES:
                for name in each.services:
                    made.list_services_response.service.add(name=name)
        elif asked == "file_by_filename":
            found = next((each for each in _FILES if each.name == request.file_by_filename), None)
        elif asked == "file_containing_symbol":
            found = next((each for each in _FILES if request.file_containing_symbol in each.symbols), None)
        else:
            made.error_response.error_code = Status.UNIMPLEMENTED
            made.error_response.error_message = "there are no extensions here"
        if found is not None:
            made.file_descriptor_response.file_descriptor_proto.append(found.serialized)
        elif made.WhichOneof("message_response") is None:
            made.error_response.error_code = Status.NOT_FOUND
            made.error_response.error_message = "nothing here is called so"
        yield made.SerializeToString()
