"""Operations of signing in: to a provider and back, sessions of the command line, who one is, and signing out."""

import time
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.responses import RedirectResponse, Response

from stoker.api import cookies
from stoker.api.bodies import decoded, nothing, reply
from stoker.api.operations import Call, Operation, Parameter
from stoker.api.queries import NAME
from stoker.control.identity import sessions as holding
from stoker.control.identity.sessions import csrf_of
from stoker.control.identity.signing_in import CODE_MAX, NEXT, SIGN_IN_S, Returned
from stoker.control.keys import digest
from stoker.core.identity import account_of
from stoker.store import journal, providers, sessions
from stoker.store.engine import Connection
from stoker.store.recording import Actor, acting
from stoker.store.sessions import SessionRow
from stoker.types.access import EVERYWHERE, Permission
from stoker.types.errors import NotFound
from stoker.types.identity import (
    TOKEN_BYTES_MAX,
    Door,
    GrantView,
    Identity,
    Me,
    NewSession,
    SessionKind,
    SessionView,
)
from stoker.types.ids import NAME_PATTERN
from stoker.types.resources import IdentityProvider

PUBLISHED_WAIT_S: Final = 2.0
AFTER: Final = "/auth/session"  # where somebody lands who was going nowhere


class Doors(msgspec.Struct, frozen=True):
    """The providers that people sign in by."""

    items: list[Door]


class SessionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An ID token that the command line got for somebody."""

    id_token: Annotated[str, Meta(min_length=16, max_length=TOKEN_BYTES_MAX)]
    provider: Annotated[str, Meta(pattern=rf"{NAME_PATTERN}|^(?!\n)$")] = ""


class SessionList(msgspec.Struct, frozen=True):
    """Sessions, newest first."""

    items: list[SessionView]


async def _sign_in_providers(call: Call) -> Response:
    every = await call.plane.database.reading(providers.everything)
    return reply(
        Doors(
            [
                Door(
                    each.metadata.name,
                    each.spec.issuer,
                    each.spec.cli_client_id or each.spec.client_id,
                    each.spec.scopes,
                    browser=True,
                    url=call.plane.sign_in.base_of(each),
                )
                for each in every
                if each.spec.client_id
            ]
        )
    )


async def _login(call: Call) -> Response:
    asked = call.request.query_params
    where, sealed, provider = await call.plane.sign_in.begin(asked.get("provider", ""), asked.get("next", ""))
    answer = _away(where)
    cookies.keep_sign_in(answer, call.plane.sign_in.base_of(provider), sealed, SIGN_IN_S)
    return answer


async def _callback(call: Call) -> Response:
    asked = call.request.query_params
    returned = Returned(**{name: asked.get(name, "") for name in Returned.__struct_fields__})
    desk = call.plane.sign_in
    who, provider, back = await desk.end(cookies.sign_in(call.request), returned, call.plane.routes.table.providers)
    before, _ = cookies.session(call.request)  # whoever's it was, it does not become somebody else's
    text, row = await _begin(call, who, provider, "browser", before)
    base = desk.base_of(provider)
    answer = _away(back or AFTER)
    cookies.forget(answer, base, also_session=False)
    cookies.keep(answer, base, text, row.expires_at_s - row.created_at_s)
    return answer


def _away(where: str) -> Response:
    return RedirectResponse(where, 303, {"cache-control": "no-store", "referrer-policy": "no-referrer"})


async def _begin_session(call: Call) -> Response:
    body = await decoded(call.request, SessionBody)
    who, provider = await call.plane.sign_in.exchange(body.provider, body.id_token, call.plane.routes.table.providers)
    text, row = await _begin(call, who, provider, "cli")
    await call.plane.published(PUBLISHED_WAIT_S)  # gateways know it when its owner does
    made = NewSession(**msgspec.structs.asdict(_view(row, current=True)), token=text)
    return reply(made, 201, {"cache-control": "no-store"})


async def _begin(
    call: Call, who: Identity, provider: IdentityProvider, kind: SessionKind, before: str = ""
) -> tuple[str, SessionRow]:
    """Begin a session as an act of who signs in; what was open in that browser before ends."""
    client, now_s = call.request.client, time.time()
    origin = client.host if client is not None else "socket"
    agent = call.request.headers.get("user-agent", "")
    asked = (origin, "".join(each for each in agent if each.isprintable()))

    def begin(connection: Connection) -> tuple[str, SessionRow]:
        if before:
            sessions.forget(connection, digest(before))
        return holding.begin(connection, provider, who, kind, asked, now_s)

    with acting(Actor(account_of(who.subject), "sign in", origin, subject=who.subject)):
        return await call.plane.database.writing(begin)


async def _me(call: Call) -> Response:
    key, session = call.key, call.session
    assert key is not None
    grants = [
        GrantView(each.project, tuple(sorted(each.permissions)))
        for each in (call.grant, *call.grant.others)
        if each.permissions
    ]
    me = Me(
        key.subject,
        key.id,
        tuple(grants),
        email=call.email,
        name=session.name if session is not None else key.name,
        provider=session.provider if session is not None else "",
        session=session.id if session is not None else "",
        expires_at_s=key.expires_at_s,
        csrf=csrf_of(call.cookie) if call.cookie else "",
    )
    return reply(me, headers={"cache-control": "no-store"})


async def _logout(call: Call) -> Response:
    held = call.session
    if held is None:
        raise NotFound("this is no session; a key is revoked, and a token ends by itself")
    await call.plane.database.writing(lambda connection: _end(connection, held.id, "signs out"))
    await call.plane.published(PUBLISHED_WAIT_S)
    answer = nothing()
    cookies.forget(answer, "https://" if cookies.session(call.request)[1] == cookies.SECURE else "")
    return answer


async def _sessions(call: Call) -> Response:
    found = await call.plane.database.reading(sessions.everything)
    now_s, own = time.time(), call.session.id if call.session is not None else ""
    shown = [each for each in found if each.ends_s() > now_s and _is_theirs(call, each, "platform:read")]
    return reply(SessionList([_view(each, current=each.id == own) for each in shown]))


async def _end_session(call: Call) -> Response:
    session_id = call.request.path_params["id"]

    def change(connection: Connection) -> None:
        found = sessions.find(connection, session_id)
        if found is None or not _is_theirs(call, found, "platform:write"):
            raise NotFound(f"no session {session_id[:64]!r}")
        _end(connection, session_id, call.because)

    await call.plane.database.writing(change)
    await call.plane.published(PUBLISHED_WAIT_S)
    return nothing()


def _is_theirs(call: Call, session: SessionRow, permission: Permission) -> bool:
    assert call.key is not None
    return call.may(permission, EVERYWHERE) or bool(call.key.subject and call.key.subject == session.subject)


def _end(connection: Connection, session_id: str, because: str) -> None:
    gone = sessions.remove(connection, session_id)
    journal.add(connection, journal.Entry(time.time(), "EndSession", because, subject=gone.subject))


def _view(row: SessionRow, *, current: bool) -> SessionView:
    shown = {name: getattr(row, name) for name in SessionView.__struct_fields__ if name != "current"}
    return SessionView(**shown, current=current)


OPERATIONS: Final = (
    Operation("GET", "/auth/providers", _sign_in_providers, "By whom people sign in", "open", answer=Doors),
    Operation(
        "GET",
        "/auth/login",
        _login,
        "Send a browser to sign in",
        "open",
        status=303,
        query=(
            Parameter("provider", str, "its name; the only one by default", pattern=f"({NAME})?"),
            Parameter("next", str, "a path here to come back to", form=f"({NEXT})?"),
        ),
    ),
    Operation(
        "GET", "/auth/callback", _callback, "Where a provider sends a browser back to", "open", status=303,
        query=tuple(Parameter(each, str, "of the provider", longest=CODE_MAX) for each in Returned.__struct_fields__),
    ),
    Operation(
        "POST",
        "/auth/sessions",
        _begin_session,
        "Begin a session of the command line with an ID token",
        "open",
        body=SessionBody,
        answer=NewSession,
        status=201,
    ),
    Operation("GET", "/auth/session", _me, "Who asks, and what they may do", "known", answer=Me),
    Operation("POST", "/auth/logout", _logout, "End the caller's own session", "known", status=204),
    Operation(
        "GET",
        "/api/v1/sessions",
        _sessions,
        "List sessions: one's own, or with platform:read everybody's",
        "known",
        answer=SessionList,
    ),
    Operation(
        "DELETE",
        "/api/v1/sessions/{id}",
        _end_session,
        "End a session: one's own, or with platform:write anybody's",
        "known",
        status=204,
    ),
)  # fmt: skip
