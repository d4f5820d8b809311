"""What is wrong with an identity provider's manifest beyond the types of its fields; and addresses of providers."""

import ipaddress
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from stoker.types.identity import LIFETIME_S_MAX, SKEW_S_MAX, ClaimGrant, IdentityProviderSpec, SessionRules
from stoker.types.ids import is_name
from stoker.types.units import parse_seconds

_LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))


def wrong_address(url: str, issuer: str = "") -> str:
    """Return why `url` cannot be asked: it is neither https nor on this machine; "" where it can.

    issuer: who names it. One from elsewhere must not send us to what only this machine or its network reaches, such as
    a cloud's metadata: an address in numbers that is not public.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "it is no address"
    if not host or parts.username is not None or parts.fragment or any(each <= " " or each > "~" for each in url):
        return "it is no address"
    if issuer:
        home = urlsplit(issuer).hostname or ""
        if host != home and _is_inside(host):
            return f"{issuer} may not send us to {host}"
    if parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK):
        return ""
    return "only https is asked, but on this machine"


def _is_inside(host: str) -> bool:
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def origin_of(url: str) -> str:
    """Return scheme, host and port of an address as browsers write an origin."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def identity_problems(spec: IdentityProviderSpec) -> Iterator[tuple[str, str]]:
    """Yield (field, message) for what cannot hold."""
    for field, url in (("spec.issuer", spec.issuer), ("spec.url", spec.url)):
        problem = wrong_address(url) if url else ""
        if problem or "?" in url:
            yield field, f"{url}: {problem or 'it has a query'}"
    if not spec.client_id and not spec.audiences:
        yield "spec", "it needs client_id, for people to sign in, or audiences, for tokens of programs"
    if "openid" not in spec.scopes:
        yield "spec.scopes", "without openid it gives no ID token"
    for client in (spec.client_id, spec.cli_client_id):
        if client and client in spec.audiences:
            yield "spec.audiences", f"{client} signs people in: an ID token would open the API; name another audience"
    bounds = (
        ("spec.skew", spec.skew, 0.0, SKEW_S_MAX),
        ("spec.session.lifetime", spec.session.lifetime, 60.0, LIFETIME_S_MAX),
        ("spec.session.idle", spec.session.idle, 60.0, LIFETIME_S_MAX),
    )
    for field, written, low, high in bounds:
        try:
            seconds = parse_seconds(written)
        except ValueError:
            continue  # told by its type
        if not low <= seconds <= high:
            yield field, f"{written} is not between {low:g} and {high:g} seconds"
    for at, grant in enumerate(spec.grants):
        yield from _grant_problems(f"spec.grants[{at}]", grant)


def _grant_problems(field: str, grant: ClaimGrant) -> Iterator[tuple[str, str]]:
    if grant.everywhere == bool(grant.project):
        yield field, "name a project, or everywhere: true"
    if grant.project and not is_name(grant.project):
        yield f"{field}.project", f"{grant.project!r} is no name of a project"


def lifetimes(rules: SessionRules) -> tuple[float, float]:
    """Return how long sessions live and may be idle, in seconds."""
    return parse_seconds(rules.lifetime), parse_seconds(rules.idle)
