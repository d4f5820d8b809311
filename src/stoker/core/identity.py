"""What the claims of a token come to: whether it is meant for us and now, who its subject is, and their grants. Pure.

The signature was checked by then (protocol/tokens.py). Rules: RFC 7519 section 4.1, OpenID Connect Core 3.1.3.7.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from math import isfinite
from typing import Any, Final, Literal

import msgspec

from stoker.core.access import Roles, role
from stoker.types.access import EVERYWHERE, Grant, Member
from stoker.types.identity import ClaimGrant, Identity, ProviderRoute
from stoker.types.ids import DEFAULT_PROJECT, KeyId, ProjectName
from stoker.types.keys import KeyLimits
from stoker.types.routes import KeyRoute

Reason = Literal[
    "malformed", "algorithm", "issuer", "key", "signature", "audience", "expired", "early", "claims", "email"
]
SUB_MAX: Final = 255  # characters, as OpenID Connect Core says
VALUES_MAX: Final = 1000  # of one claim that are looked at
DEPTH_MAX: Final = 8  # of a claim's name with dots
ID_PREFIX: Final = "oidc-"  # of what a subject is counted by; ids of keys have no dash
_PLAIN: Final = re.compile(r"[A-Za-z0-9._@+-]{1,55}")
_DIGITS: Final = "abcdefghijklmnopqrstuvwxyz234567"


class Refused(Exception):
    """A token that does not hold, and why: one of a closed list of reasons."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownKey(Refused):
    """A token signed by a key that its provider did not have when it was asked: `kid` may be new."""

    def __init__(self, provider: str, kid: str) -> None:
        super().__init__("key")
        self.provider = provider
        self.kid = kid


def looks_like_token(text: str) -> bool:
    """Return whether it has the form of a token, not of a key."""
    return text.count(".") == 2


def refused(
    claims: Mapping[str, Any], issuer: str, audiences: Collection[str], skew_s: float, now_s: float
) -> Reason | None:
    """Return why claims do not hold at `now_s` (wall clock), or None. A token must say when it ends."""
    sub = claims.get("sub")
    if not isinstance(sub, str) or not 0 < len(sub) <= SUB_MAX:
        return "claims"
    if claims.get("iss") != issuer:
        return "issuer"
    aud = claims.get("aud")
    meant = (aud,) if isinstance(aud, str) else aud
    if not isinstance(meant, (list, tuple)) or not any(isinstance(each, str) and each in audiences for each in meant):
        return "audience"
    moments = {name: claims.get(name) for name in ("exp", "nbf", "iat")}
    if any(value is not None and not _is_moment(value) for value in moments.values()):
        return "claims"
    exp, nbf, iat = moments["exp"], moments["nbf"], moments["iat"]
    if exp is None:
        return "claims"
    if now_s >= exp + skew_s:
        return "expired"
    if any(value is not None and now_s < value - skew_s for value in (nbf, iat)):
        return "early"
    return None


def _is_moment(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12 and isfinite(value)


def subject_of(kind: str, provider: str, sub: str) -> str:
    """Return a subject's name here. Two of one provider never share one; what cannot be written plainly is a digest."""
    plain = (
        sub if _PLAIN.fullmatch(sub) else f"~{hashlib.sha256(sub.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"
    )
    return f"{kind}:{provider}:{plain}"


def account_of(subject: str) -> KeyId:
    """Return what a subject's requests are counted by where keys have their ids: 16 characters, 55 bits of a digest."""
    number = int.from_bytes(hashlib.sha256(subject.encode()).digest()[:7], "big")
    return KeyId(ID_PREFIX + "".join(_DIGITS[number >> 5 * at & 31] for at in range(11)))


def values_of(claims: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return what a claim says, as texts: the one of that whole name, or the one that its dots lead to."""
    value: object = claims.get(name)
    if value is None and "." in name:
        value = claims
        for part in name.split(".", DEPTH_MAX):
            value = value.get(part) if isinstance(value, Mapping) else None
    found = value if isinstance(value, (list, tuple)) else (value,)
    texts = []
    for each in found[:VALUES_MAX]:
        if isinstance(each, bool):
            texts.append("true" if each else "false")
        elif isinstance(each, (str, int)):
            texts.append(str(each))
    return tuple(texts)


def says(claims: Mapping[str, Any], name: str, wanted: str) -> bool:
    """Return whether a claim is, or has, what is wanted; a `wanted` that ends in * is how it begins."""
    found = values_of(claims, name)
    if wanted.endswith("*"):
        return any(each.startswith(wanted[:-1]) for each in found)
    return wanted in found


def email_of(claims: Mapping[str, Any], *, is_assumed: bool) -> str:
    """Return the address that the provider vouches for, in lower case; "" without one."""
    email, verified = claims.get("email"), claims.get("email_verified")
    vouched = verified in (True, "true") or (is_assumed and verified in (None, True, "true"))
    if not isinstance(email, str) or not vouched or not 2 < len(email) <= 320 or email.count("@") != 1:
        return ""
    return email.lower()


def identity(claims: Mapping[str, Any], route: ProviderRoute) -> Identity | None:
    """Return whose claims these are; None where their address is in no domain that the provider is limited to."""
    email = email_of(claims, is_assumed=route.email_assumed)
    if route.email_domains and email.rpartition("@")[2] not in route.email_domains:
        return None
    name = claims.get("name")
    return Identity(
        route.name,
        subject_of(route.subjects, route.name, claims["sub"]),
        float(claims["exp"]) + route.skew_s,
        email,
        name[:200] if isinstance(name, str) else "",
        dict(claims),
    )


def grants(
    subject: str,
    claims: Mapping[str, Any],
    mapped: Iterable[ClaimGrant],
    members: Mapping[str, Iterable[Member]],
    roles: Roles,
) -> tuple[Grant, ...]:
    """Return what somebody may do, by project: as a member, and by their claims. A role that is none says nothing.

    members: of each project.
    """
    found: dict[str, frozenset[Any]] = {}
    for project, those in members.items():
        for member in those:
            if member.subject == subject:
                found[project] = found.get(project, frozenset()) | (role(member.role, project, roles) or frozenset())
    for each in mapped:
        where = EVERYWHERE if each.everywhere else each.project
        if (where == EVERYWHERE or where in members) and says(claims, each.claim, each.value):
            found[where] = found.get(where, frozenset()) | (role(each.role, where, roles) or frozenset())
    return tuple(Grant(project, permissions) for project, permissions in sorted(found.items()) if permissions)


def calls(claims: Mapping[str, Any], route: ProviderRoute) -> tuple[tuple[str, ...], bool]:
    """Return where the claims alone let somebody call endpoints, "*" for everywhere, and whether they may read
    everybody's numbers."""
    held = [each for each in route.grants if says(claims, each.claim, each.value)]
    return tuple(sorted({each.project for each in held} - {""})), any(each.sees for each in held)


def caller(
    subject: str, projects: Iterable[str], *, sees: bool, limits: KeyLimits, unsampled: Collection[str], ends_s: float
) -> KeyRoute:
    """Return somebody as the data plane knows callers. projects: whose endpoints they may call, "*" for all.

    Where they name none, their own is the one called default, or else the first by name. unsampled: see ProviderRoute.
    """
    account, held = account_of(subject), sorted(set(projects))
    is_everywhere, own = EVERYWHERE in held, [each for each in held if each != EVERYWHERE]
    first = DEFAULT_PROJECT if is_everywhere or not own or DEFAULT_PROJECT in own else ProjectName(own[0])
    if any(f"{each}/{limits.tenant or account}" in unsampled for each in (first, *own)):
        limits = msgspec.structs.replace(limits, samples=False)
    return KeyRoute(
        "", account, first, is_admin=is_everywhere, expires_at_s=ends_s, limits=limits, calls=bool(held), sees=sees,
        projects=tuple(each for each in own if each != first),
    )  # fmt: skip
