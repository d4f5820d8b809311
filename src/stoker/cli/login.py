"""`stoker login`: sign in by an identity provider, with a browser here or on another device."""

import secrets
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from stoker.cli.loopback import Loopback
from stoker.cli.session import Command, Session
from stoker.client import oidc, signed_in
from stoker.client.connection import Connection
from stoker.client.oidc import Client, Discovery, Tokens
from stoker.client.signed_in import Signed
from stoker.client.trust import Trust
from stoker.types.access import EVERYWHERE
from stoker.types.errors import DeadlineExceeded, Forbidden, InvalidInput, NotFound, NotReachable, Unauthenticated
from stoker.types.identity import Door, Me

WAIT_S: Final = 300.0  # for somebody to sign in
SLOWER_S: Final = 5.0  # RFC 8628, 3.5


@click.command(
    cls=Command,
    example="""
    stoker login
    stoker --api https://stoker.example.org login --device
    stoker login --provider corp --no-browser
    """,
)
@click.option("--provider", default="", help="By whom, where there are several.")
@click.option(
    "--device", is_flag=True, help="With a code that is entered on another device, for a machine without a browser."
)
@click.option("--no-browser", is_flag=True, help="Only print the address to open.")
@click.pass_obj
def command(session: Session, provider: str, device: bool, no_browser: bool) -> None:
    """Sign in by an identity provider. Commands are yours then, until `stoker logout` or the session's end."""
    api, gateway = session.addresses()
    control = Connection(api, trust=Trust(ca=session.ca, own=session.cert))
    door = _chosen(signed_in.doors(control), provider)
    with _asking(door):
        found, _ = oidc.discover(door.issuer)
        given = by_device(found, door) if device else by_browser(found, door, opens=not no_browser)
    made = signed_in.exchange(control, door.name, given.id_token)
    signed = Signed(
        api, made.token, made.expires_at_s, made.id, made.subject, door.name, door.issuer, door.client_id,
        gateway=gateway, email=made.email, refresh_token=given.refresh_token,
    )  # fmt: skip
    signed_in.keep(session.signed_path, signed)
    click.echo(welcome(signed_in.me(session.control().connection), session.signed_path))


@contextmanager
def _asking(door: Door) -> Iterator[None]:
    """Say of a provider that is away what helps: it is not stoker that has to be started."""
    try:
        yield
    except NotReachable as away:
        away.add_note(
            f"the identity provider {door.name} ({door.issuer}) is asked from this machine: try again when it can be "
            "reached from here; until then use a key (STOKER_KEY)"
        )
        raise


def welcome(me: Me, path: Path) -> str:
    """Return who somebody is, and what they may do."""
    where = "; ".join(
        f"{'everywhere' if each.project == EVERYWHERE else each.project}: {', '.join(each.permissions)}"
        for each in me.grants
    )
    known = f"{me.email} ({me.subject})" if me.email else me.subject
    ends = time.strftime("%Y-%m-%d %H:%M", time.localtime(me.expires_at_s))
    note = click.style(f"{where}\nuntil {ends}; kept in {path}", dim=True)
    return f"signed in as {click.style(known, bold=True)}\n{note}"


def _chosen(doors: tuple[Door, ...], name: str) -> Door:
    if not doors:
        raise NotFound("nobody signs in there: it has no identity provider; use a key")
    fitting = [each for each in doors if name in ("", each.name)]
    if not fitting:
        raise NotFound(f"no identity provider {name!r}; there are {', '.join(each.name for each in doors)}")
    if len(fitting) > 1:
        raise InvalidInput(f"name one with --provider: {', '.join(each.name for each in fitting)}")
    return fitting[0]


def by_browser(found: Discovery, door: Door, *, opens: bool) -> Tokens:
    """Return the tokens of who signs in with a browser on this machine (RFC 8252: loopback, code, PKCE)."""
    verifier, challenge = oidc.pkce()
    state, nonce = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    with Loopback() as waiting:
        url = oidc.authorization_url(found, door.client_id, door.scopes, waiting.address, state, nonce, challenge)
        click.echo(f"Open this address to sign in:\n\n  {url}\n", err=True)
        if opens:
            webbrowser.open(url)
        back = waiting.answer(WAIT_S, state)
        if back is None:
            raise DeadlineExceeded(
                f"nobody signed in within {WAIT_S:g} s; without a browser here: stoker login --device"
            )
        if back.get("error"):
            raise Forbidden(
                f"{door.name} refused: {back['error'][:100]} {back.get('error_description', '')[:200]}".strip()
            )
        if back.get("iss", door.issuer) != door.issuer:
            raise Unauthenticated(f"the answer is not {door.name}'s; sign in again")
        given = oidc.redeem(found, Client(door.client_id), back.get("code", ""), waiting.address, verifier)
    try:
        said = oidc.unbelieved(given.id_token).get("nonce")
    except ValueError as odd:
        raise Unauthenticated(f"{door.name} gave something that is no ID token") from odd
    if said != nonce:
        raise Unauthenticated("the ID token was made for another sign-in; sign in again")
    return given


def by_device(found: Discovery, door: Door) -> Tokens:
    """Return the tokens of who signs in on another device (RFC 8628)."""
    client = Client(door.client_id)
    device = oidc.begin_device(found, client, door.scopes)
    where = device.verification_uri_complete or device.verification_uri
    code = click.style(device.user_code, bold=True)
    click.echo(f"Open {where} on any device, and enter {code}", err=True)
    interval_s, end_s = min(max(device.interval, 0.1), 60.0), time.monotonic() + min(device.expires_in, 1800.0)
    while time.monotonic() < end_s:
        time.sleep(interval_s)
        given = oidc.poll_device(found, client, device)
        match given.error:
            case "" if given.id_token:
                return given
            case "authorization_pending":
                continue
            case "slow_down":
                interval_s += SLOWER_S
            case _:
                raise Forbidden(
                    f"{door.name} refused: {given.error or 'no ID token'} {given.error_description[:200]}".strip()
                )
    raise DeadlineExceeded("the code was not entered in time; `stoker login --device` gives a new one")
