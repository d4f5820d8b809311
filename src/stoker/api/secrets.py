"""Operations on secrets: which are named where, and how they stand. No operation gives or takes a value."""

from collections.abc import Iterable
from typing import Final

from starlette.responses import Response

from stoker.api.bodies import reply
from stoker.api.operations import Call, Operation, Parameter
from stoker.types.secrets import SecretList, SecretView


async def _secrets(call: Call) -> Response:
    return reply(_seen(call, await call.plane.secrets.view()))


async def _check(call: Call) -> Response:
    return reply(_seen(call, await call.plane.secrets.view(insists=True)))


def _seen(call: Call, found: Iterable[SecretView]) -> SecretList:
    wanted = call.request.query_params.get("project", "")
    return SecretList(
        tuple(each for each in found if wanted in ("", each.use.project) and call.may("secrets:read", each.use.project))
    )


_PROJECT: Final = (Parameter("project", str, "only this project's"),)

OPERATIONS: Final = (
    Operation(
        "GET",
        "/api/v1/secrets",
        _secrets,
        "Secrets that manifests name, where, and how they stand in the processes that resolve them; never a value",
        "secrets:read",
        "each",
        answer=SecretList,
        query=_PROJECT,
    ),
    Operation(
        "POST",
        "/api/v1/secrets/check",
        _check,
        "The same after all of them were read again",
        "secrets:read",
        "each",
        answer=SecretList,
        query=_PROJECT,
        audit="begins",
    ),
)
