"""Operations that take a while and say how far they are: quantize a version, compare two. An answer is lines of JSON.

Whoever closes the connection ends the work, and nothing of it is left.
"""

from functools import partial
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.responses import Response

from stoker.api.bodies import decoded
from stoker.api.lines import LINES, lines
from stoker.api.models import require_model
from stoker.api.operations import Call, Operation
from stoker.control.compare import TEXTS_MAX
from stoker.control.models import reference
from stoker.control.signatures import demanded
from stoker.store import models
from stoker.types.fields import Name
from stoker.types.ids import DEFAULT_PROJECT
from stoker.types.models import ModelVersion
from stoker.types.quantization import Quantization


class QuantizeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to make of a version. requantize: also what is quantized already."""

    to: Quantization
    requantize: bool = False
    project: Name = DEFAULT_PROJECT  # whose demands of signatures the version is held to, before a tool opens it


class CompareBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which version of the same model, or of another, is held to the one in the path, on which texts."""

    name: Name
    version: str
    texts: Annotated[tuple[str, ...], Meta(max_length=TEXTS_MAX)] = ()
    project: Name = DEFAULT_PROJECT  # whose demands of signatures both are held to, before an engine opens them


async def _quantize(call: Call) -> Response:
    body = await decoded(call.request, QuantizeBody)
    call.require("models:push", body.project)
    version = await _version(call, call.request.path_params["name"], call.request.path_params["which"])
    await call.plane.database.reading(partial(demanded, version=version, project=body.project))
    return await lines(call.plane.models.quantizer.quantize(version, body.to, requantize=body.requantize))


async def _compare(call: Call) -> Response:
    body = await decoded(call.request, CompareBody)
    call.require("models:read", body.project)
    base = await _version(call, call.request.path_params["name"], call.request.path_params["which"])
    other = await _version(call, body.name, body.version)
    for version in (base, other):
        await call.plane.database.reading(partial(demanded, version=version, project=body.project))
    return await lines(call.plane.models.comparer.compare(base, other, body.texts))


async def _version(call: Call, name: str, which: str) -> ModelVersion:
    ref = reference(name, which)
    await require_model(call, "models:read", name)
    return await call.plane.database.reading(lambda connection: models.get(connection, ref))


_VERSION: Final = "/api/v1/models/{name}/versions/{which}"

OPERATIONS: Final = (
    Operation(
        "POST",
        _VERSION + "/quantize",
        _quantize,
        "Make files of a version with fewer bits, to be registered; lines of JSON say how far it is",
        "models:push",
        where="each",
        body=QuantizeBody,
        media=LINES,
        audit="begins",
    ),
    Operation(
        "POST",
        _VERSION + "/compare",
        _compare,
        "Compare a language model's version with another on texts; lines of JSON say how far it is",
        "models:read",
        where="each",
        body=CompareBody,
        media=LINES,
        audit="nothing",
    ),
)
