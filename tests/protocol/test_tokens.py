"""Tokens as enemies write them, and keys as providers publish them."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.protocol.tokens import Keyring, Refused, UnknownKey, keys_of, read
from stoker.types.identity import KEYS_MAX, TOKEN_BYTES_MAX, ProviderRoute
from tests import oidc
from tests.oidc import Key, Provider


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with oidc.serving() as made:
        yield made


def route(provider: Provider, *keys: Key, **given_: Any) -> ProviderRoute:
    published = keys_of(json.dumps({"keys": [each.public() for each in keys or provider.keys]}).encode())
    named = {"audiences": ("stoker-api",), "algorithms": ("RS256", "ES256"), **given_}
    return ProviderRoute("corp", provider.issuer, subjects="user", keys=published, keys_until_s=2e9 * 2, **named)


def reason(ring: Keyring, token: str | bytes, **named: Any) -> str:
    try:
        ring.verify(token if isinstance(token, bytes) else token.encode(), time.time(), **named)
    except Refused as refused:
        return refused.reason
    return ""


def encoded(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def resigned(token: str, key: Key, header: bytes | None = None, claims: bytes | None = None) -> str:
    """Return a token with another header or other claims, rightly signed."""
    first, second, _ = token.split(".")
    signed = f"{encoded(header) if header is not None else first}.{encoded(claims) if claims is not None else second}"
    algorithm = jwt.algorithms.get_default_algorithms()[key.alg]
    return f"{signed}.{encoded(algorithm.sign(signed.encode(), key.private))}"


def test_a_good_token_says_who_it_is_of(provider: Provider) -> None:
    who = Keyring([route(provider)]).verify(provider.token(name="Alice").encode(), time.time())
    assert (who.subject, who.email, who.name) == ("user:corp:alice", "alice@example.org", "Alice")
    elliptic = Key("ec", "ES256")
    ring = Keyring([route(provider, elliptic)])
    assert ring.verify(provider.token(key=elliptic).encode(), time.time()).subject == "user:corp:alice"


def test_a_token_without_a_signature_or_signed_with_what_everybody_knows_is_refused(provider: Provider) -> None:
    ring, token = Keyring([route(provider)]), provider.token()
    header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    for alg in ("none", "None", "NONE", "nOnE"):
        bare = f"{encoded({**header, 'alg': alg})}.{token.split('.')[1]}"
        assert reason(ring, bare + ".") == "malformed"
        assert reason(ring, bare + ".AA") == "algorithm"
    public = provider.keys[0].private.public_key()
    secrets_ = [
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        json.dumps(provider.keys[0].public()).encode(),
        b"",
    ]
    for secret in secrets_:
        signed = f"{encoded({**header, 'alg': 'HS256'})}.{token.split('.')[1]}"
        forged = f"{signed}.{encoded(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"
        assert reason(ring, forged) == "algorithm"


def test_the_algorithm_is_one_that_the_provider_may_use_and_fits_its_key(provider: Provider) -> None:
    one = provider.keys[0]
    wide = Keyring([route(provider, algorithms=("RS256", "PS256", "ES256"))])
    ps = Key("one", "PS256", one.private)
    assert reason(wide, provider.token(key=ps)) == "key", "the key says that it is for RS256"
    assert reason(Keyring([route(provider)]), provider.token(key=ps)) == "algorithm"
    token = provider.token()
    swapped = resigned(token, one, header=json.dumps({"alg": "ES256", "kid": "one"}).encode())
    assert reason(wide, swapped) == "key"


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"RS256","kid":"one","crit":["exp"]}',
        b'{"alg":"RS256","kid":"one","b64":false}',
        b'{"alg":"RS256","kid":"one","zip":"DEF"}',
        b'{"alg":"RS256","kid":"one","typ":"logout+jwt"}',
        b'{"alg":"RS256","kid":"one","typ":7}',
        b'{"alg":"RS256","kid":["one"]}',
        b'{"alg":"RS256","alg":"none","kid":"one"}',
        b'["RS256"]',
        b'{"alg":"RS256","kid":"' + b"k" * 300 + b'"}',
        b'{"alg":"RS256","kid":"one","x":' + b"[" * 2000 + b"]" * 2000 + b"}",
        b'{"alg":"RS256","kid":"one"}\xff',
    ],
)
def test_a_header_that_says_more_than_is_understood_is_refused(provider: Provider, header: bytes) -> None:
    assert (
        reason(Keyring([route(provider)]), resigned(provider.token(), provider.keys[0], header=header)) == "malformed"
    )


def test_keys_that_a_token_brings_along_are_not_looked_at(provider: Provider) -> None:
    mine = Key("one", private=rsa.generate_private_key(public_exponent=65537, key_size=2048))
    more = {"jwk": mine.public(), "jku": "https://evil.example/jwks", "x5u": "https://evil.example/x", "x5c": ["MII"]}
    assert reason(Keyring([route(provider)]), provider.token(key=mine, headers=more)) == "signature"


def test_a_claim_that_is_there_twice_means_nothing(provider: Provider) -> None:
    claims = base64.urlsafe_b64decode(provider.token().split(".")[1] + "==").decode()
    twice = claims[:-1] + ',"sub":"root"}'
    for said in (twice, claims.replace('"exp":', '"exp":NaN,"exp_":'), "[1]", '"text"', "{", claims[:-1]):
        assert (
            reason(Keyring([route(provider)]), resigned(provider.token(), provider.keys[0], claims=said.encode()))
            == "malformed"
        )


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"aud": "somebody-else"}, "audience"),
        ({"aud": "stoker"}, "audience"),  # an ID token opens no API
        ({"iss": "https://evil.example"}, "issuer"),
        ({"exp": -30}, ""),  # within the skew
        ({"exp": -90}, "expired"),
        ({"nbf": 30}, ""),
        ({"nbf": 120}, "early"),
        ({"iat": 120}, "early"),
        ({"sub": None}, "claims"),
        ({"exp": None}, "claims"),
    ],
)
def test_claims_are_held_to(provider: Provider, claims: dict[str, Any], why: str) -> None:
    moved = {name: int(time.time()) + value for name, value in claims.items() if isinstance(value, int)}
    assert reason(Keyring([route(provider)]), provider.token(**{**claims, **moved})) == why


def test_what_is_huge_or_no_token_is_refused_before_it_is_read(provider: Provider) -> None:
    ring, token = Keyring([route(provider)]), provider.token()
    assert reason(ring, provider.token(junk="j" * TOKEN_BYTES_MAX)) == "malformed"
    for odd in (
        "",
        "..",
        "a.b",
        "a.b.c.d",
        token + "=",
        token + "\n",
        " " + token,
        token.replace(".", "..", 1),
        "é.é.é",
    ):
        assert reason(ring, odd) == "malformed", odd
    assert reason(ring, b"\x00.\xff.\xfe") == "malformed"


def test_a_key_that_is_not_known_may_be_new_and_one_that_ran_out_is_asked_for(provider: Provider) -> None:
    ring = Keyring([route(provider)])
    with pytest.raises(UnknownKey) as unknown:
        ring.verify(provider.token(headers={"kid": "two"}).encode(), time.time())
    assert (unknown.value.provider, unknown.value.kid) == ("corp", "two")
    with pytest.raises(UnknownKey):
        ring.verify(provider.token().encode(), 4e9)
    nameless = provider.token()
    assert reason(ring, resigned(nameless, provider.keys[0], header=b'{"alg":"RS256"}')) == ""
    two = Key("two", private=oidc._RSA[1])
    assert (
        reason(Keyring([route(provider, provider.keys[0], two)]), resigned(nameless, two, header=b'{"alg":"RS256"}'))
        == "key"
    )


def test_of_two_providers_with_one_issuer_the_audience_says_which(provider: Provider) -> None:
    machines = msgspec.structs.replace(route(provider), name="ci", audiences=("ci-api",), subjects="service")
    ring = Keyring([route(provider), machines])
    assert ring.verify(provider.token(aud="ci-api").encode(), time.time()).subject == "service:ci:alice"
    assert ring.verify(provider.token().encode(), time.time()).subject == "user:corp:alice"


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 10_000), by=st.integers(1, 255))
def test_no_token_with_a_changed_byte_says_anything_else(at: int, by: int) -> None:
    token = bytearray(TOKEN)
    place = at % len(token)
    token[place] = (token[place] + by) % 256
    try:
        who = RING.verify(bytes(token), time.time())
    except Refused:
        return
    # The last character of a part may hold bits that mean nothing.
    assert who == RING.verify(TOKEN, time.time())
    assert bytes(token).split(b".")[1][:-1] == TOKEN.split(b".")[1][:-1]


@given(st.binary(max_size=300))
def test_whatever_comes_is_a_token_or_refused(text: bytes) -> None:
    with suppress(Refused):
        read(text)


def test_keys_that_cannot_verify_are_left_out_and_too_many_are_refused(provider: Provider) -> None:
    good = provider.keys[0].public()
    weak = Key("weak", private=rsa.generate_private_key(public_exponent=65537, key_size=1024))
    edwards = ed25519.Ed25519PrivateKey.generate().public_key()
    okp = {**json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(edwards)), "kid": "ed"}
    other = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256K1()).public_key()))
    given_ = [
        good,
        {**good, "kid": "enc", "use": "enc"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared", "alg": "HS256"},
        {**good, "kid": "hs", "alg": "HS256"},
        weak.public(),
        okp,
        {**other, "kid": "k1"},
        {**good, "kid": 7},
        {**good, "kid": "cut", "n": good["n"][:40]},
        {**good, "kid": "e1", "e": "AQ"},
        {"kty": "RSA"},
        "text",
        None,
    ]
    assert [each.kid for each in keys_of(json.dumps({"keys": given_}).encode())] == ["one", "ed"]
    private = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(provider.keys[0].private))
    (kept,) = keys_of(json.dumps({"keys": [{**private, "kid": "p", "key_ops": ["verify"]}]}).encode())
    assert "d" not in json.loads(kept.text), "a private key that was published goes no further"
    for odd in (b"", b"[]", b"{}", b'{"keys":{}}', b"[" * 100_000, b'{"keys":[],"keys":[]}', b"\xff"):
        with pytest.raises(ValueError):
            keys_of(odd)
    with pytest.raises(ValueError, match="at most"):
        keys_of(json.dumps({"keys": [{**good, "kid": str(n)} for n in range(KEYS_MAX + 1)]}).encode())


_HERE = Key("one")
_ROUTE = ProviderRoute(
    "corp",
    "https://id.example.org",
    ("a",),
    ("RS256",),
    "user",
    keys_of(json.dumps({"keys": [_HERE.public()]}).encode()),
    4e9,
)
RING = Keyring([_ROUTE])
TOKEN = jwt.encode(
    {"iss": "https://id.example.org", "aud": "a", "sub": "s", "exp": int(time.time()) + 86_400},
    _HERE.private,
    algorithm="RS256",
    headers={"kid": "one"},
).encode()
