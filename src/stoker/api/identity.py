"""Operations on identity providers: how each does, its end, and what gateways ask."""

import time
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.responses import Response

from stoker.api.bodies import decoded, nothing, reply
from stoker.api.operations import Call, Operation
from stoker.control.identity import providing
from stoker.control.identity.watch import Health
from stoker.store import providers, sessions
from stoker.store.engine import Connection
from stoker.store.providers import Published
from stoker.types.errors import Unavailable
from stoker.types.fields import Name
from stoker.types.identity import ProviderView
from stoker.types.resources import IdentityProvider


class ProviderList(msgspec.Struct, frozen=True):
    """Identity providers by name."""

    items: list[ProviderView]


class UnknownKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Providers of whom a gateway saw a token that no known key signed."""

    providers: Annotated[tuple[Name, ...], Meta(max_length=100)]


async def _providers(call: Call) -> Response:
    def read(connection: Connection) -> tuple[list[IdentityProvider], dict[str, Published], list[str]]:
        open_now = [each.provider for each in sessions.everything(connection) if each.ends_s() > time.time()]
        return providers.everything(connection), providers.published(connection), open_now

    every, published, open_now = await call.plane.database.reading(read)
    health = call.plane.sign_in.providers.health
    secret = {each.metadata.name: await _secret(call, each) for each in every}
    return reply(
        ProviderList(
            [
                _view(each, published.get(name), health.get(name, Health()), open_now.count(name), secret[name])
                for each in every
                for name in (each.metadata.name,)
            ]
        )
    )


async def _secret(call: Call, provider: IdentityProvider) -> str:
    """Return how the client's secret stands: "ok", why it cannot be read, "" where there is none."""
    try:
        return "ok" if await call.plane.sign_in.secret(provider) else ""
    except Unavailable as missing:
        return missing.message


def _view(
    provider: IdentityProvider, published: Published | None, health: Health, count: int, secret: str
) -> ProviderView:
    spec = provider.spec
    return ProviderView(
        provider.metadata.name,
        spec.issuer,
        state=health.state(published, time.time()),
        problem=health.problem,
        keys=len(published.keys) if published is not None else 0,
        fetched_at_s=published.fetched_at_s if published is not None else 0.0,
        failing_since_s=health.failing_since_s,
        secret=secret,
        sessions=count,
        spec=spec,
    )


async def _delete_provider(call: Call) -> Response:
    name = call.request.path_params["name"]
    await call.plane.database.writing(lambda connection: providing.delete(connection, name, call.because, time.time()))
    call.plane.sign_in.providers.wake()
    await call.plane.loop.turned(2.0)
    return nothing()


async def _unknown_keys(call: Call) -> Response:
    body = await decoded(call.request, UnknownKeys)
    for name in body.providers:
        await call.plane.sign_in.providers.again(name)
    return nothing()


OPERATIONS: Final = (
    Operation(
        "GET",
        "/api/v1/providers",
        _providers,
        "List identity providers, and how each does",
        "platform:read",
        where="platform",
        answer=ProviderList,
    ),
    Operation(
        "DELETE",
        "/api/v1/providers/{name}",
        _delete_provider,
        "Delete an identity provider, and end its sessions",
        "platform:write",
        where="platform",
        status=204,
    ),
    Operation(
        "POST",
        "/internal/v1/unknown-keys",
        _unknown_keys,
        "Ask providers for their keys again: a gateway saw a token that none of the known ones signed",
        "socket",
        body=UnknownKeys,
    ),
)
