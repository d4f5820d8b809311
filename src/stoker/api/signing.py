"""Operations on signatures of versions, and on whom a project trusts."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.responses import Response

from stoker.api.bodies import decoded, nothing, reply
from stoker.api.models import require_model
from stoker.api.operations import Call, Operation, Parameter
from stoker.api.queries import NAME
from stoker.client.views import SignatureView
from stoker.control import signatures
from stoker.control.changes import Change
from stoker.control.models import reference
from stoker.store import projects, signing
from stoker.store.engine import Connection
from stoker.types.errors import InvalidInput
from stoker.types.ids import DEFAULT_PROJECT, is_name
from stoker.types.signing import (
    PUBLIC_KEY_BYTES_MAX,
    SIGNATURE_BYTES_MAX,
    Keyless,
    ProjectTrust,
    SignaturePolicy,
    TrustRoot,
)


class SignatureBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signature: the Sigstore bundle as JSON text."""

    bundle: Annotated[str, Meta(max_length=SIGNATURE_BYTES_MAX)]


class SignatureList(msgspec.Struct, frozen=True):
    """Signatures of a version, oldest first."""

    items: list[SignatureView]


class PolicyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a project demands of the versions it serves."""

    policy: SignaturePolicy


class TrustBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to trust: a public key (PEM), or somebody who signs without one."""

    public_key: Annotated[str, Meta(max_length=PUBLIC_KEY_BYTES_MAX)] = ""
    keyless: Keyless | None = None


async def _signatures(call: Call) -> Response:
    ref = reference(call.request.path_params["name"], call.request.path_params["which"])
    project = call.request.query_params.get("project", call.grant.only or DEFAULT_PROJECT)
    call.require("models:read", project)
    await require_model(call, "models:read", ref.name)
    found = await call.plane.database.reading(lambda connection: signatures.views(connection, ref, project))
    return reply(SignatureList(found))


async def _sign(call: Call) -> Response:
    body = await decoded(call.request, SignatureBody)
    ref = reference(call.request.path_params["name"], call.request.path_params["which"])
    await require_model(call, "models:push", ref.name)
    await call.plane.database.writing(lambda connection: signatures.sign(connection, ref, body.bundle))
    call.plane.loop.wake()
    return nothing()


async def _trust(call: Call) -> Response:
    project = call.request.path_params["project"]
    return reply(await call.plane.database.reading(lambda connection: signing.trust(connection, project)))


async def _set_policy(call: Call) -> Response:
    body = await decoded(call.request, PolicyBody)
    project = call.request.path_params["project"]

    def change(connection: Connection) -> tuple[ProjectTrust, list[Change]]:
        old = projects.find(connection, project)
        trust = signatures.set_policy(connection, project, body.policy)
        return trust, [Change("update", projects.find(connection, project), old)]

    made = await call.plane.admission.make(change, call.actor)
    call.plane.loop.wake()
    return reply(made.value)


async def _add_root(call: Call) -> Response:
    body = await decoded(call.request, TrustBody)
    project, name = call.request.path_params["project"], call.request.path_params["name"]
    if not is_name(name):
        raise InvalidInput(f"{name!r} cannot name a key; use lower-case letters, digits and dashes", field="name")
    if bool(body.public_key) is (body.keyless is not None):
        raise InvalidInput("give a public key, or who signs without one", field="public_key")
    root = await call.plane.database.writing(
        lambda connection: signatures.trust_key(connection, project, name, body.public_key, body.keyless)
    )
    call.plane.loop.wake()
    return reply(root)


async def _remove_root(call: Call) -> Response:
    project, name = call.request.path_params["project"], call.request.path_params["name"]
    await call.plane.database.writing(lambda connection: signatures.distrust(connection, project, name))
    return nothing()


_SIGNATURES: Final = "/api/v1/models/{name}/versions/{which}/signatures"
_TRUST: Final = "/api/v1/projects/{project}/trust"

OPERATIONS: Final = (
    Operation(
        "GET",
        _SIGNATURES,
        _signatures,
        "Signatures of a version, and what they are worth to a project",
        "models:read",
        where="each",
        answer=SignatureList,
        query=(Parameter("project", str, "whose trust counts; default by default", pattern=NAME),),
    ),
    Operation(
        "PUT",
        _SIGNATURES,
        _sign,
        "Add a signature to a version",
        "models:push",
        where="each",
        body=SignatureBody,
        status=204,
    ),
    Operation(
        "GET", _TRUST, _trust, "Whom a project trusts, and what it demands", "projects:read", answer=ProjectTrust
    ),
    Operation(
        "PUT", _TRUST, _set_policy, "Say what a project demands", "projects:write", body=PolicyBody, answer=ProjectTrust
    ),
    Operation(
        "PUT",
        _TRUST + "/{name}",
        _add_root,
        "Trust a key, or a signer without one",
        "projects:write",
        body=TrustBody,
        answer=TrustRoot,
    ),
    Operation("DELETE", _TRUST + "/{name}", _remove_root, "Trust a key no longer", "projects:write", status=204),
)
