"""Where a browser comes back to after a sign-in: an address of this machine, while `stoker login` waits (RFC 8252)."""

import hmac
import http.server
import threading
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

_PAGE: Final = (
    b"<!doctype html><meta charset=utf-8><title>stoker</title><p>You can close this page and go on in the terminal."
)
_QUERY_MAX: Final = 8192


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = 5.0
    server: "_Server"

    def do_GET(self) -> None:
        """Take what a provider sent the browser back with."""
        parts = urlsplit(self.path)
        found = dict(parse_qsl(parts.query[:_QUERY_MAX], max_num_fields=20)) if parts.path == "/callback" else {}
        is_ours = hmac.compare_digest(found.get("state", "").encode(), self.server.state.encode())
        self.send_response(200 if is_ours else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Connection", "close")
        self.end_headers()
        if is_ours:
            self.wfile.write(_PAGE)
            self.server.found = found
            self.server.came.set()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Say nothing: the address holds a code."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.state = ""
        self.found: dict[str, str] = {}
        self.came = threading.Event()


class Loopback:
    """A context manager; nobody but this machine reaches it, and only who knows the state is heard."""

    def __enter__(self) -> "Loopback":
        self._server = _Server()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """Where a provider sends the browser back to."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/callback"

    def answer(self, wait_s: float, state: str) -> dict[str, str] | None:
        """Return what a browser came back with, or None after `wait_s`."""
        self._server.state = state
        self._thread.start()
        return self._server.found if self._server.came.wait(wait_s) else None
