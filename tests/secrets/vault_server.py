"""A real HTTP server that speaks as much of Vault as stoker asks for: logins, tokens, secrets, faults."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hvs.the-platforms-own"
ROLE, SECRET_ID, JWT = "role-1", "secret-id-1", "eyJ.service.account"


@dataclass
class VaultServer:
    """What it holds, and how it behaves. fault: "" or one of those in `_Handler.misbehave`; faults: so many times."""

    url: str = ""
    secrets: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by mount/path, all versions
    tokens: dict[str, float] = field(default_factory=lambda: {TOKEN: float("inf")})  # until when
    fault: str = ""
    lease_s: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    logins: int = 0
    renewals: int = 0
    namespace: str = ""
    turn: threading.Lock = field(default_factory=threading.Lock)

    def put(self, path: str, **fields: Any) -> None:
        """Write a new version."""
        self.secrets.setdefault(path, []).append(fields)

    def reads(self, path: str) -> int:
        mount, _, rest = path.partition("/")
        return sum(asked == f"/v1/{mount}/data/{rest}" for _, asked in self.asked)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    vault: VaultServer

    def do_GET(self) -> None:
        vault = self.vault
        vault.asked.append(("GET", self.path))
        if vault.fault and self.misbehave(vault.fault):
            return
        if not self.may():
            self.say(403, {"errors": ["permission denied"]})
            return
        _, _, mount, kind, path = (*self.path.split("/", 4), "")[:5]
        found = vault.secrets.get(f"{mount}/{path}") if kind == "data" else None
        if not found:
            self.say(404, {"errors": []})
            return
        self.say(200, {"data": {"data": found[-1], "metadata": {"version": len(found)}}})

    def do_POST(self) -> None:
        vault = self.vault
        vault.asked.append(("POST", self.path))
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        if vault.fault and self.misbehave(vault.fault):
            return
        if self.path == "/v1/auth/token/renew-self":
            if not self.may():
                self.say(403, {"errors": ["permission denied"]})
                return
            vault.renewals += 1
            token = self.headers["X-Vault-Token"]
            self.say(200, {"auth": {"client_token": token, "lease_duration": vault.lease_s, "renewable": True}})
        elif body in ({"role_id": ROLE, "secret_id": SECRET_ID}, {"role": ROLE, "jwt": JWT}):
            vault.logins += 1
            token = f"hvs.login-{vault.logins}"
            vault.tokens[token] = float("inf")
            self.say(200, {"auth": {"client_token": token, "lease_duration": vault.lease_s, "renewable": True}})
        else:
            self.say(400, {"errors": ["invalid role or secret ID"]})

    def may(self) -> bool:
        token = self.headers.get("X-Vault-Token", "")
        is_here = self.headers.get("X-Vault-Namespace", "") == self.vault.namespace
        return is_here and self.vault.tokens.get(token, 0.0) > time.monotonic()

    def misbehave(self, fault: str) -> bool:
        match fault:
            case "429":
                self.say(429, {"errors": ["rate limited"]}, {"Retry-After": "7"})
            case "503":
                self.say(503, {"errors": ["Vault is sealed"]})
            case "500":
                self.say(500, {"errors": ["TOP-SECRET-in-an-error"]})
            case "302":
                self.say(302, {}, {"Location": "http://127.0.0.1:1/elsewhere"})
            case "html":
                self.raw(b"<html>TOP-SECRET</html>")
            case "number":
                self.say(200, {"data": {"data": {"key": 5}}})
            case "flat":
                self.say(200, {"data": {"key": "KV version 1"}})
            case "deleted":
                self.say(200, {"data": {"data": None, "metadata": {"deletion_time": "2026-01-01T00:00:00Z"}}})
            case "huge":
                self.raw(b'{"data": {"data": {"key": "' + b"x" * (4 << 20) + b'"}}}')
            case "long":
                self.say(200, {"data": {"data": {"key": "x" * (100 << 10)}}})
            case "endless head":
                self.drip(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            case "endless body":
                self.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            case "silent":
                self.drip(b"")
            case "cut":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
                self.close_connection = True
            case _:
                return False
        return True

    def drip(self, begin: bytes) -> None:
        """Send a byte now and then, for ever."""
        self.close_connection = True
        try:
            self.wfile.write(begin)
            while self.vault.fault:
                if begin:
                    self.wfile.write(b"x")
                    self.wfile.flush()
                time.sleep(0.02)
        except OSError:
            return

    def raw(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:  # who asked had enough
            self.close_connection = True

    def say(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - as it is called there
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: who asked had enough."""


@contextmanager
def serving() -> Iterator[VaultServer]:
    """Run one on a port of its own."""
    vault = VaultServer()
    handler = type("Handler", (_Handler,), {"vault": vault})
    server = _Server(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    vault.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield vault
    finally:
        vault.fault = ""
        server.shutdown()
        server.server_close()
        thread.join()
