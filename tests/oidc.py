"""An identity provider in a thread: discovery, keys that turn over, codes with PKCE, devices, refresh tokens; and lies.

It speaks HTTP on loopback, signs real tokens, and does what tests tell it to be wrong in.
"""

import base64
import hashlib
import http.server
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

_RSA = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]  # 0.1 s each


class Key:
    def __init__(self, kid: str, alg: str = "RS256", private: Any = None) -> None:
        self.kid, self.alg = kid, alg
        self.private = private or (_RSA[0] if alg[:2] in ("RS", "PS") else ec.generate_private_key(ec.SECP256R1()))

    def public(self) -> dict[str, Any]:
        algorithm = jwt.algorithms.RSAAlgorithm if self.alg[:2] in ("RS", "PS") else jwt.algorithms.ECAlgorithm
        made: dict[str, Any] = json.loads(algorithm.to_jwk(self.private.public_key()))
        return {**made, "kid": self.kid, "use": "sig", "alg": self.alg}


class Provider:
    """One provider. `lies` is put over the discovery document; `jwks` (bytes) is said instead of the keys."""

    def __init__(self) -> None:
        self.keys = [Key("one")]
        self.lies: dict[str, Any] = {}
        self.jwks: bytes | None = None
        self.elsewhere = ""  # where /jwks redirects to
        self.is_down = False
        self.claims: dict[str, Any] = {"sub": "alice", "email": "alice@example.org", "email_verified": True}
        self.codes: dict[str, dict[str, str]] = {}
        self.devices: dict[str, list[str]] = {}  # device code: errors to answer with, before a token
        self.refresh: set[str] = set()
        self.asked: list[str] = []
        self.secret = ""
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.issuer = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def rotate(self, kid: str, *, keeps_old: bool = False) -> None:
        made = Key(kid, private=_RSA[1])
        self.keys = [made, *self.keys] if keeps_old else [made]

    def token(self, *, key: Key | None = None, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """Sign a token of an hour for the audience `stoker-api`; None takes a claim out."""
        signer, now_s = key or self.keys[0], int(time.time())
        said = {
            **self.claims,
            "iss": self.issuer,
            "aud": "stoker-api",
            "iat": now_s,
            "exp": now_s + 3600,
            "jti": secrets.token_hex(8),
            **claims,
        }
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(said, signer.private, algorithm=signer.alg, headers={"kid": signer.kid, **(headers or {})})

    def id_token(self, client: str = "stoker", **claims: Any) -> str:
        return self.token(**{"aud": client, **claims})

    def approve(self, url: str) -> str:
        """Do what somebody's browser does who signs in: return where it is sent back to."""
        asked = dict(parse_qsl(urlsplit(url).query))
        code = secrets.token_urlsafe(8)
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state'], 'iss': self.issuer})}"

    def _discovery(self) -> dict[str, Any]:
        here = self.issuer
        return {
            "issuer": here,
            "jwks_uri": f"{here}/jwks",
            "authorization_endpoint": f"{here}/authorize",
            "token_endpoint": f"{here}/token",
            "device_authorization_endpoint": f"{here}/device",
            **self.lies,
        }

    def _granted(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        match form.get("grant_type", ""):
            case "authorization_code":
                asked = self.codes.pop(form.get("code", ""), None)
                verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
                challenge = base64.urlsafe_b64encode(verifier).rstrip(b"=").decode()
                if (
                    asked is None
                    or challenge != asked["code_challenge"]
                    or asked["redirect_uri"] != form["redirect_uri"]
                ):
                    return 400, {"error": "invalid_grant", "error_description": "no such code"}
                return 200, self._tokens(asked["client_id"], asked["nonce"])
            case "refresh_token":
                if form.get("refresh_token") not in self.refresh:
                    return 400, {"error": "invalid_grant"}
                self.refresh.discard(form["refresh_token"])
                return 200, self._tokens(form["client_id"], "")
            case _:
                waiting = self.devices.get(form.get("device_code", ""))
                if waiting is None:
                    return 400, {"error": "expired_token"}
                if waiting:
                    return 400, {"error": waiting.pop(0)}
                return 200, self._tokens(form["client_id"], "")

    def _tokens(self, client: str, nonce: str) -> dict[str, Any]:
        again = secrets.token_urlsafe(8)
        self.refresh.add(again)
        more = {"nonce": nonce} if nonce else {}
        return {"id_token": self.id_token(client, **more), "refresh_token": again, "token_type": "Bearer"}

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                parts = urlsplit(self.path)
                if provider.is_down:
                    self._say(503, b"")
                elif parts.path == "/.well-known/openid-configuration":
                    self._say(200, json.dumps(provider._discovery()).encode())
                elif parts.path == "/jwks" and provider.elsewhere:
                    self._say(302, b"", {"Location": provider.elsewhere})
                elif parts.path == "/jwks":
                    keys = json.dumps({"keys": [each.public() for each in provider.keys]}).encode()
                    self._say(200, keys if provider.jwks is None else provider.jwks)
                elif parts.path == "/authorize":
                    self._say(302, b"", {"Location": provider.approve(self.path)})
                else:
                    self._say(404, b"")

            def do_POST(self) -> None:
                provider.asked.append(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
                form = {name: values[0] for name, values in parse_qs(body).items()}
                basic = base64.b64decode(self.headers.get("Authorization", "Basic ")[6:]).decode()
                if provider.secret and basic.partition(":")[2] != provider.secret:
                    self._say(401, b'{"error": "invalid_client"}')
                elif self.path == "/token":
                    status, said = provider._granted(form)
                    self._say(status, json.dumps(said).encode())
                elif self.path == "/device":
                    provider.devices["d1"] = ["authorization_pending"]
                    here = {"device_code": "d1", "user_code": "ABCD-EFGH", "interval": 0.1, "expires_in": 60}
                    self._say(200, json.dumps({**here, "verification_uri": f"{provider.issuer}/enter"}).encode())
                else:
                    self._say(404, b"")

            def _say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:  # who asked has heard enough
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        return Handler


@contextmanager
def serving() -> Iterator[Provider]:
    provider = Provider()
    try:
        yield provider
    finally:
        provider.close()
