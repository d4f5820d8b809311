"""What is asked of an identity provider: its description and keys, and tokens for a code, a device or a refresh token.

OpenID Connect Discovery and Core 1.0, PKCE (RFC 7636), device grant (RFC 8628). A provider is somebody else's server:
answers are read to a maximum and a deadline, redirects are refused, no proxy is asked, and what it names is only asked
where protocol/identity.py allows it.
"""

import base64
import hashlib
import http.client
import json
import secrets
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar
from urllib.parse import quote_plus, urlencode, urlsplit

import msgspec

from stoker.protocol.identity import wrong_address
from stoker.types.errors import Forbidden, NotReachable

_T = TypeVar("_T")

ANSWER_BYTES_MAX: Final = 256 << 10  # the keys of large providers take 10 KB
ASK_S: Final = 5.0  # all of one exchange
WELL_KNOWN: Final = "/.well-known/openid-configuration"
WORDS_MAX: Final = 200  # characters of what a provider says that are shown


class Discovery(msgspec.Struct, frozen=True):
    """Where a provider answers what, by its own word."""

    issuer: str
    jwks_uri: str
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    device_authorization_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class Tokens(msgspec.Struct, frozen=True):
    """What a token endpoint answers. error: RFC 6749 section 5.2, such as authorization_pending."""

    id_token: str = ""
    refresh_token: str = ""
    error: str = ""
    error_description: str = ""


class Device(msgspec.Struct, frozen=True):
    """What somebody has to enter, and where."""

    device_code: str = ""
    user_code: str = ""
    verification_uri: str = ""
    verification_uri_complete: str = ""
    expires_in: float = 600.0
    interval: float = 5.0
    error: str = ""
    error_description: str = ""


class Client(msgspec.Struct, frozen=True):
    """Who asks: an OAuth client. secret: "" for a public one."""

    id: str
    secret: str = ""


def discover(issuer: str) -> tuple[Discovery, bytes]:
    """Return what a provider says of itself, and its keys as they were published. Raises NotReachable."""
    _, body = fetch(issuer.rstrip("/") + WELL_KNOWN)
    try:
        found = msgspec.json.decode(body, type=Discovery)
    except msgspec.MsgspecError as wrong:
        raise NotReachable(f"{issuer} does not describe itself: {wrong}") from wrong
    if found.issuer != issuer:
        raise NotReachable(f"{issuer} says that it is {found.issuer[:WORDS_MAX]!r}: write that, if it is meant")
    for name in ("jwks_uri", "authorization_endpoint", "token_endpoint", "device_authorization_endpoint"):
        problem = wrong_address(getattr(found, name), issuer) if getattr(found, name) or name == "jwks_uri" else ""
        if problem:
            raise NotReachable(f"its {name} is not asked: {problem}")
    return found, fetch(found.jwks_uri)[1]


def authorization_url(
    found: Discovery, client: str, scopes: tuple[str, ...], redirect: str, state: str, nonce: str, challenge: str
) -> str:
    """Return where somebody's browser is sent to sign in."""
    query = {
        "response_type": "code",
        "client_id": client,
        "redirect_uri": redirect,
        "scope": " ".join(scopes),
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    joint = "&" if urlsplit(found.authorization_endpoint).query else "?"
    return f"{found.authorization_endpoint}{joint}{urlencode(query)}"


def pkce() -> tuple[str, str]:
    """Return a secret, and what is told of it beforehand (S256)."""
    verifier = secrets.token_urlsafe(48)
    return verifier, base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def redeem(found: Discovery, client: Client, code: str, redirect: str, verifier: str) -> Tokens:
    """Return the tokens for a code. Raises Forbidden when the provider refuses, NotReachable."""
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect, "code_verifier": verifier}
    return _granted(ask_tokens(found, client, form))


def renew(found: Discovery, client: Client, refresh_token: str) -> Tokens:
    """Return new tokens for a refresh token. Raises Forbidden when it is none any more, NotReachable."""
    return _granted(ask_tokens(found, client, {"grant_type": "refresh_token", "refresh_token": refresh_token}))


def begin_device(found: Discovery, client: Client, scopes: tuple[str, ...]) -> Device:
    """Return what to enter where. Raises Forbidden, also where the provider has no such grant; NotReachable."""
    if not found.device_authorization_endpoint:
        raise Forbidden(f"{found.issuer} has no sign-in for devices; sign in without --device")
    form = {"client_id": client.id, "scope": " ".join(scopes)}
    device = _decoded(fetch(found.device_authorization_endpoint, form)[1], Device)
    if device.error or not device.device_code or not device.user_code:
        raise Forbidden(f"{found.issuer} refused: {_words(device.error, device.error_description)}")
    return device


def poll_device(found: Discovery, client: Client, device: Device) -> Tokens:
    """Return the tokens, or the error that says to ask again: authorization_pending, slow_down."""
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    return ask_tokens(found, client, {"grant_type": grant, "device_code": device.device_code})


def ask_tokens(found: Discovery, client: Client, form: Mapping[str, str]) -> Tokens:
    """Return what the token endpoint answers, an error too. Raises NotReachable."""
    sent, headers = {**form, "client_id": client.id}, {}
    if client.secret and "client_secret_basic" in found.token_endpoint_auth_methods_supported:
        pair = f"{quote_plus(client.id)}:{quote_plus(client.secret)}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    elif client.secret:
        sent["client_secret"] = client.secret
    return _decoded(fetch(found.token_endpoint, sent, headers)[1], Tokens)


def _granted(tokens: Tokens) -> Tokens:
    if tokens.error or not tokens.id_token:
        raise Forbidden(f"the identity provider refused: {_words(tokens.error, tokens.error_description)}")
    return tokens


def _words(code: str, more: str) -> str:
    text = f"{code or 'it gave no ID token'}{': ' if more else ''}{more}"
    return "".join(each if each.isprintable() else " " for each in text)[:WORDS_MAX]


def _decoded(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as wrong:
        raise NotReachable(f"the identity provider answers something else: {str(wrong)[:WORDS_MAX]}") from wrong


def fetch(
    url: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, ask_s: float = ASK_S
) -> tuple[int, bytes]:
    """Return status and body of a GET, or of a POST with a form; a form's refusal (400, 401) is an answer too.

    Raises NotReachable: nobody answers within `ask_s` in all, it redirects, or it says too much or nothing.
    """
    problem = wrong_address(url)
    if problem:
        raise NotReachable(f"{url[:WORDS_MAX]} is not asked: {problem}")
    parts = urlsplit(url)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        link: http.client.HTTPConnection = http.client.HTTPSConnection(parts.netloc, timeout=ask_s, context=context)
    else:
        link = http.client.HTTPConnection(parts.netloc, timeout=ask_s)
    held: list[socket.socket] = []
    cut = threading.Timer(ask_s, _cut, (held,))  # a server that sends a byte now and then never meets a timeout
    cut.daemon = True
    cut.start()
    try:
        link.connect()
        held.append(link.sock)
        status, body = _exchange(link, parts.path or "/", parts.query, form, headers or {})
    except (OSError, ValueError, http.client.HTTPException) as failed:
        words = str(failed) or type(failed).__name__
        raise NotReachable(f"{parts.hostname} does not answer: {words[:WORDS_MAX]}") from failed
    finally:
        cut.cancel()
        link.close()
    if 300 <= status < 400:
        raise NotReachable(f"{url[:WORDS_MAX]} sends elsewhere, where nobody follows")
    if len(body) > ANSWER_BYTES_MAX:
        raise NotReachable(f"{url[:WORDS_MAX]} says more than {ANSWER_BYTES_MAX} bytes")
    if status != 200 and not (form is not None and status in (400, 401, 403)):
        raise NotReachable(f"{url[:WORDS_MAX]} answers {status}")
    return status, body


def _exchange(
    link: http.client.HTTPConnection,
    path: str,
    query: str,
    form: Mapping[str, str] | None,
    headers: Mapping[str, str],
) -> tuple[int, bytes]:
    target = f"{path}?{query}" if query else path
    sent = {"Accept": "application/json", "User-Agent": "stoker", **headers}
    if form is None:
        link.request("GET", target, headers=sent)
    else:
        sent["Content-Type"] = "application/x-www-form-urlencoded"
        link.request("POST", target, urlencode(form), sent)
    answer = link.getresponse()
    return answer.status, answer.read(ANSWER_BYTES_MAX + 1)


def _cut(held: list[socket.socket]) -> None:
    for each in held:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def unbelieved(token: str) -> dict[str, Any]:
    """Return the claims of a token that nobody verified: for its nonce, and nothing else. Raises ValueError."""
    middle = token.split(".")[1] if token.count(".") == 2 else ""
    found = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    if not isinstance(found, dict):
        raise ValueError("no claims")
    return found
