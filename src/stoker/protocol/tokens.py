"""Signed tokens (JWT, RFC 7519) as providers sign them: read strictly, verified by PyJWT, judged by core/identity.py.

What RFC 8725 asks for: the algorithm is one that the provider is allowed, and fits the kind of the key that the key
id names; a token says nothing about where its key is. Whatever is not understood is refused.
"""

import base64
import binascii
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import jwt
import msgspec
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from stoker.core import identity as rules
from stoker.core.identity import Refused, UnknownKey
from stoker.types.identity import KEYS_MAX, TOKEN_BYTES_MAX, Identity, Jwk, ProviderRoute

HEADER_BYTES_MAX: Final = 4096
KID_MAX: Final = 256
RSA_BITS: Final = range(2048, 8193)
_FORM: Final = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_KINDS: Final = {
    "RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "PS256": "RSA", "PS384": "RSA", "PS512": "RSA",
    "ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519",
}  # fmt: skip
_TYPES: Final = frozenset(("", "jwt", "at+jwt", "application/at+jwt", "application/jwt"))
_PUBLIC: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}


class Keyring:
    """Providers with their keys, made ready once: a token costs what its signature does."""

    def __init__(self, providers: Iterable[ProviderRoute] = ()) -> None:
        self._by_issuer: dict[str, list[ProviderRoute]] = {}
        self._keys: dict[str, list[tuple[Jwk, Any]]] = {}
        for each in providers:
            self._by_issuer.setdefault(each.issuer, []).append(each)
            self._keys[each.name] = [(key, _made(key)) for key in each.keys]
        self._jws = jwt.PyJWS()

    def verify(self, token: bytes, now_s: float, *, audiences: Collection[str] = ()) -> Identity:
        """Return whose token it is. now_s: wall clock. audiences: others than the provider's own, for an ID token.

        Raises Refused, or UnknownKey when asking the provider again may help.
        """
        header, claims = read(token)
        route = self._route(claims, audiences)
        kind = _KINDS.get(header["alg"])
        if kind is None or header["alg"] not in route.algorithms:
            raise Refused("algorithm")
        key = self._key(route, header, kind, now_s)
        try:
            self._jws.decode_complete(token, key, algorithms=[header["alg"]])
        except (PyJWTError, ValueError, TypeError) as wrong:
            raise Refused("signature") from wrong
        reason = rules.refused(claims, route.issuer, audiences or route.audiences, route.skew_s, now_s)
        if reason is not None:
            raise Refused(reason)
        found = rules.identity(claims, route)
        if found is None:
            raise Refused("email")
        return found

    def _route(self, claims: Mapping[str, Any], audiences: Collection[str]) -> ProviderRoute:
        issuer = claims.get("iss")
        found = self._by_issuer.get(issuer) if isinstance(issuer, str) else None
        if not found:
            raise Refused("issuer")
        aud = claims.get("aud")
        meant = [aud] if isinstance(aud, str) else aud if isinstance(aud, list) else []
        fits = (each for each in found if any(one in (audiences or each.audiences) for one in meant))
        return next(fits, found[0])

    def _key(self, route: ProviderRoute, header: Mapping[str, Any], kind: str, now_s: float) -> Any:
        if now_s >= route.keys_until_s:
            raise UnknownKey(route.name, "")
        kid = header.get("kid")
        fitting = [
            (jwk, key)
            for jwk, key in self._keys[route.name]
            if jwk.kind == kind and jwk.alg in ("", header["alg"]) and key is not None
        ]
        if kid is None:
            if len(fitting) != 1:
                raise Refused("key")
            return fitting[0][1]
        for jwk, key in fitting:
            if jwk.kid == kid:
                return key
        raise UnknownKey(route.name, kid)


def read(token: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a token, neither believed yet. Raises Refused."""
    if len(token) > TOKEN_BYTES_MAX or _FORM.fullmatch(token) is None:
        raise Refused("malformed")
    first, second, _ = token.split(b".")
    if len(first) > HEADER_BYTES_MAX:
        raise Refused("malformed")
    header, claims = _object(first), _object(second)
    kid, kind = header.get("kid"), header.get("typ", "")
    if not isinstance(header.get("alg"), str):
        raise Refused("algorithm")
    if "crit" in header or "b64" in header or "zip" in header:
        raise Refused("malformed")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise Refused("malformed")
    if kid is not None and not (isinstance(kid, str) and len(kid) <= KID_MAX):
        raise Refused("malformed")
    return header, claims


def _object(segment: bytes) -> dict[str, Any]:
    """Return a segment as an object; one that names a field twice means two things, and is none."""
    try:
        text = base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
        found = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, binascii.Error, RecursionError) as wrong:
        raise Refused("malformed") from wrong
    if not isinstance(found, dict):
        raise Refused("malformed")
    return found


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def keys_of(document: bytes) -> tuple[Jwk, ...]:
    """Return the keys of a JWKS document that can verify something; private and shared ones are left out.

    Raises ValueError for what is no such document, or has more than KEYS_MAX keys.
    """
    try:
        found = json.loads(document.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as deep:
        raise ValueError("its keys are nested too deep") from deep
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it has no list of keys")
    if len(listed) > KEYS_MAX:
        raise ValueError(f"it has {len(listed)} keys; at most {KEYS_MAX} are taken")
    made: dict[tuple[str, str], Jwk] = {}
    for each in listed:
        key = _public(each) if isinstance(each, dict) else None
        if key is not None and _made(key) is not None:
            made.setdefault((key.kid, key.kind), key)
    return tuple(made.values())


def _public(given: Mapping[str, Any]) -> Jwk | None:
    kty, use, ops = given.get("kty"), given.get("use", "sig"), given.get("key_ops", ["verify"])
    kid, alg = given.get("kid", ""), given.get("alg", "")
    if kty not in _PUBLIC or use != "sig" or not isinstance(ops, list) or "verify" not in ops:
        return None
    if not isinstance(kid, str) or len(kid) > KID_MAX or not isinstance(alg, str) or (alg and alg not in _KINDS):
        return None
    parts = {name: given.get(name) for name in _PUBLIC[kty]}
    if not all(isinstance(value, str) and len(value) <= 2048 for value in parts.values()):
        return None
    kind = "RSA" if kty == "RSA" else str(parts["crv"])
    if kind not in _KINDS.values():
        return None
    return Jwk(kid, kind, msgspec.json.encode({"kty": kty, **parts}).decode(), alg)


def _made(key: Jwk) -> Any:
    """Return a key that verifies; None for one that is too weak, or is none."""
    try:
        if key.kind == "RSA":
            made: Any = RSAAlgorithm.from_jwk(key.text)
            return made if made.key_size in RSA_BITS and made.public_numbers().e in range(3, 1 << 33, 2) else None
        return (OKPAlgorithm if key.kind == "Ed25519" else ECAlgorithm).from_jwk(key.text)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
