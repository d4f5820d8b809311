"""Who people and programs are by somebody else's word: identity providers (OpenID Connect), and sessions.

A provider's `sub` is who somebody is; an address of mail is shown and never an identity, because it can change hands.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from stoker.types.fields import Name, Seconds
from stoker.types.keys import UNLIMITED, KeyLimits
from stoker.types.secrets import SecretRef

# Public keys alone: neither `none` nor a shared secret can be named, so no token can choose one.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
PROVIDERS_MAX: Final = 20
GRANTS_MAX: Final = 200  # of one provider
SKEW_S_MAX: Final = 300.0
LIFETIME_S_MAX: Final = 30 * 86_400.0
TOKEN_BYTES_MAX: Final = 16 << 10  # larger than what a head may hold beside it, in practice
KEYS_MAX: Final = 32  # of one provider
KEYS_KEPT_S: Final = 24 * 3600.0  # good without the provider, once they were fetched
SESSIONS_MAX: Final = 5000
SESSIONS_EACH_MAX: Final = 20  # of one person: one more ends the oldest

SessionKind = Literal["browser", "cli"]


class ClaimGrant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A role for everybody whose token says something: the claim `groups` has `ml-team`."""

    claim: Annotated[str, Meta(min_length=1, max_length=200, description="its name; realm_access.roles goes deeper")]
    value: Annotated[str, Meta(min_length=1, max_length=200, description="what it is, or has; it may end in *")]
    role: Annotated[Name, Meta(description="viewer, caller, deployer, operator, owner, or a Role's name")]
    project: Annotated[str, Meta(max_length=63, description="where; or everywhere")] = ""
    everywhere: Annotated[bool, Meta(description="in every project, and for the platform itself")] = False


class SessionRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long people stay signed in."""

    lifetime: Annotated[Seconds, Meta(description="from the sign-in on, whatever they do")] = "12h"
    idle: Annotated[Seconds, Meta(description="a browser's session without a request ends after this")] = "1h"


class IdentityProviderSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server that says who people and programs are, and what is believed of what it says."""

    issuer: Annotated[
        str, Meta(min_length=8, max_length=500, description="exactly as its tokens name it; https, or on this machine")
    ]
    client_id: Annotated[str, Meta(max_length=300, description="stoker's own there; empty: nobody signs in by it")] = ""
    client_secret: Annotated[SecretRef | None, Meta(description="where its secret is, if it has one")] = None
    cli_client_id: Annotated[
        str, Meta(max_length=300, description="the public client of `stoker login`; by default client_id")
    ] = ""
    url: Annotated[
        str, Meta(max_length=500, description="where browsers reach control; URL/auth/callback is what it returns to")
    ] = ""
    scopes: Annotated[tuple[Annotated[str, Meta(max_length=100)], ...], Meta(max_length=20)] = (
        "openid",
        "email",
        "profile",
    )
    audiences: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=500)], ...],
        Meta(max_length=20, description="of tokens that programs send instead of keys; none: no token is taken"),
    ] = ()
    algorithms: Annotated[tuple[Algorithm, ...], Meta(min_length=1, description="that may sign")] = ("RS256", "ES256")
    subjects: Annotated[
        Literal["user", "service"], Meta(description="what its subjects are called: user:NAME:SUB or service:NAME:SUB")
    ] = "user"
    grants: Annotated[
        tuple[ClaimGrant, ...], Meta(max_length=GRANTS_MAX, description="roles by what a token says")
    ] = ()
    email_domains: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[a-z0-9.-]{1,253}$")], ...],
        Meta(max_length=50, description="only who has a verified address there; none: anybody it knows"),
    ] = ()
    email_verified: Annotated[
        Literal["required", "assumed"],
        Meta(description="assumed: it verifies every address and does not say so (`email_verified`)"),
    ] = "required"
    skew: Annotated[Seconds, Meta(description="how far its clock may be from this one; at most 300 s")] = "60s"
    session: SessionRules = SessionRules()
    limits: Annotated[KeyLimits, Meta(description="what each of its subjects is counted as on the data plane")] = (
        UNLIMITED
    )


class Jwk(msgspec.Struct, frozen=True):
    """A public key of a provider. `text`: its JSON, with nothing but what makes the key."""

    kid: str
    kind: str  # RSA, P-256, P-384, P-521, Ed25519
    text: str
    alg: str = ""  # the one that it may be used with; "": any that its kind allows


class Identity(msgspec.Struct, frozen=True):
    """Somebody, as a token that held says. `ends_s`: wall clock, when the token does."""

    provider: str
    subject: str
    ends_s: float
    email: str = ""
    name: str = ""
    claims: dict[str, object] = {}


class GrantRoute(msgspec.Struct, frozen=True):
    """What a claim comes to on the data plane: its holders may call endpoints of a project, or of all ("*")."""

    claim: str
    value: str
    project: str
    sees: bool = False


class ProviderRoute(msgspec.Struct, frozen=True):
    """A provider as gateways know it. members: projects whose endpoints may be called, by subject.

    keys_until_s: the keys are not believed after this, whoever still has them.
    unsampled: tenants, as `project/tenant`, of whose requests nothing is kept.
    """

    name: str
    issuer: str
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...]
    subjects: str
    keys: tuple[Jwk, ...]
    keys_until_s: float
    skew_s: float = 60.0
    email_domains: tuple[str, ...] = ()
    email_assumed: bool = False
    grants: tuple[GrantRoute, ...] = ()
    members: dict[str, tuple[str, ...]] = {}
    limits: KeyLimits = UNLIMITED
    unsampled: tuple[str, ...] = ()


class ProviderView(msgspec.Struct, frozen=True):
    """A provider and how it does. `problem`: "" while all is well, or what is wrong since `failing_since_s`."""

    name: str
    issuer: str
    state: Literal["ok", "stale", "failing", "unknown"] = "unknown"
    problem: str = ""
    keys: int = 0
    fetched_at_s: float = 0.0
    failing_since_s: float = 0.0
    secret: str = ""  # "", ok, or why it cannot be read
    sessions: int = 0
    spec: IdentityProviderSpec | None = None


class Door(msgspec.Struct, frozen=True):
    """How somebody signs in: what anybody may know of a provider."""

    name: str
    issuer: str
    client_id: str
    scopes: tuple[str, ...]
    browser: bool  # /auth/login works with it
    url: str = ""


class SessionView(msgspec.Struct, frozen=True):
    """A session, without what opens it."""

    id: str
    subject: str
    provider: str
    kind: SessionKind
    created_at_s: float
    used_at_s: float
    expires_at_s: float
    email: str = ""
    name: str = ""
    origin: str = ""
    agent: str = ""
    current: bool = False


class NewSession(SessionView, frozen=True, kw_only=True):
    """A session that was just made; its token is shown this once."""

    token: str


class GrantView(msgspec.Struct, frozen=True):
    """What somebody may do somewhere; project "*" is everywhere."""

    project: str
    permissions: tuple[str, ...]


class Me(msgspec.Struct, frozen=True):
    """Who asks, and what they may do. `csrf` goes into `x-stoker-csrf` of requests by cookie that change something."""

    subject: str
    key: str
    grants: tuple[GrantView, ...]
    email: str = ""
    name: str = ""
    provider: str = ""
    session: str = ""
    expires_at_s: float = 0.0
    csrf: str = ""
