"""A model hub on this machine: the hub's own paths over real HTTP, with faults on demand."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Hub:
    """What the server offers, how it misbehaves, and what it was asked."""

    url: str = ""
    repo: str = "org/tiny"
    files: dict[str, bytes] = field(default_factory=dict)
    plain: set[str] = field(default_factory=set)  # kept in git, not as large files
    token: str = ""
    busy: int = 0  # answer 503 so many times
    cut_after: int = 0  # bytes of a body after which the connection ends, until `cuts` is used up
    cuts: int = 0
    damaged: int = 0  # send wrong bytes so many times
    ranges: bool = True
    says_digests: bool = True
    answer: bytes | None = None  # instead of the listing
    redirect: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # path, Range, Authorization

    def listing(self) -> bytes:
        siblings = []
        for path, data in self.files.items():
            entry: dict[str, object] = {"rfilename": path}
            if self.says_digests:
                entry |= {"size": len(data), "blobId": git_sha1(data)}
                if path not in self.plain:
                    entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 133}
            siblings.append(entry)
        return json.dumps({"id": self.repo, "sha": COMMIT, "siblings": siblings}).encode()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a hub until the block ends."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, hub)

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that hang up are part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(request: BaseHTTPRequestHandler, hub: Hub) -> None:
    path = unquote(urlsplit(request.path).path)
    asked_range = request.headers.get("Range", "")
    hub.asked.append((path, asked_range, request.headers.get("Authorization", "")))
    if hub.busy > 0:
        hub.busy -= 1
        return send(request, 503, b"later", {"Retry-After": "0"})
    if hub.token and not path.startswith("/cdn/") and request.headers.get("Authorization") != f"Bearer {hub.token}":
        return send(request, 401, b"gated", {})
    if path == f"/api/models/{hub.repo}/revision/main":
        return send(request, 200, hub.listing() if hub.answer is None else hub.answer, {})
    for where in (f"/{hub.repo}/resolve/{COMMIT}/", f"/{hub.repo}/resolve/main/"):
        if path.startswith(where) and (data := hub.files.get(path.removeprefix(where))) is not None:
            name = path.removeprefix(where)
            etag = git_sha1(data) if name in hub.plain else hashlib.sha256(data).hexdigest()
            # Another name of the same machine is another host: the token must not follow there.
            elsewhere = hub.redirect or f"{hub.url.replace('127.0.0.1', 'localhost')}/cdn/{name}"
            return send(request, 302, b"", {"Location": elsewhere, "X-Linked-Etag": f'"{etag}"'})
    if path.startswith("/cdn/") and (data := hub.files.get(path.removeprefix("/cdn/"))) is not None:
        return send_file(request, hub, data, asked_range)
    return send(request, 404, b"not here", {})


def send_file(request: BaseHTTPRequestHandler, hub: Hub, data: bytes, asked_range: str) -> None:
    start, status = 0, 200
    headers = {"ETag": '"' + hashlib.md5(data).hexdigest() + '"'}
    if asked_range and hub.ranges and request.headers.get("If-Range", headers["ETag"]) == headers["ETag"]:
        start, status = int(asked_range.removeprefix("bytes=").removesuffix("-")), 206
        if start >= len(data):
            return send(request, 416, b"", {})
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    body = data[start:]
    if hub.damaged > 0:
        hub.damaged -= 1
        body = bytes(byte ^ 1 for byte in body)
    if hub.cuts > 0 and len(body) > hub.cut_after:
        hub.cuts -= 1
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body[: hub.cut_after])
        request.close_connection = True
        return None
    return send(request, status, body, headers)


def send(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]) -> None:
    request.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)
