"""An MLflow tracking server on this machine, as its REST API is documented: runs, versions, and the artifact proxy."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

API = "/api/2.0/mlflow/"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"
Answers = dict[tuple[str, ...], dict[str, Any]]


@dataclass
class Tracking:
    """What the server has: artifacts by their path, and answers by what is asked (path, then values by name)."""

    url: str = ""
    artifacts: dict[str, bytes] = field(default_factory=dict)
    answers: Answers = field(default_factory=dict)
    listing: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # instead of what is there
    authorization: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)  # path, Authorization

    def run(self, run_id: str, uri: str = "", models: tuple[str, ...] = ()) -> None:
        uri = uri or f"mlflow-artifacts:/1/{run_id}/artifacts"
        outputs = {"model_outputs": [{"model_id": each, "step": "0"} for each in models]}
        info = {"run_id": run_id, "run_uuid": run_id, "status": "FINISHED", "artifact_uri": uri}
        self.answers["runs/get", run_id] = {"run": {"info": info, "data": {}, "outputs": outputs}}

    def version(self, name: str, number: int, uri: str, run_id: str = "", alias: str = "") -> None:
        version = {"model_version": {"name": name, "version": str(number), "source": uri, "run_id": run_id}}
        self.answers["model-versions/get", name, str(number)] = version
        self.answers["model-versions/get-download-uri", name, str(number)] = {"artifact_uri": uri}
        if alias:
            self.answers["registered-models/alias", alias, name] = version

    def logged(self, model_id: str, name: str, run_id: str) -> None:
        uri = f"mlflow-artifacts:/1/models/{model_id}/artifacts"
        info = {"model_id": model_id, "name": name, "artifact_uri": uri, "source_run_id": run_id}
        self.answers[f"logged-models/{model_id}",] = {"model": {"info": info, "data": {}}}

    def files(self, folder: str) -> list[dict[str, Any]]:
        if folder in self.listing:
            return self.listing[folder]
        below = [path.removeprefix(f"{folder}/") for path in self.artifacts if path.startswith(f"{folder}/")]
        folders = dict.fromkeys(path.partition("/")[0] for path in below if "/" in path)
        found: list[dict[str, Any]] = [{"path": name, "is_dir": True} for name in folders]
        for path in below:
            if "/" not in path:
                size = len(self.artifacts[f"{folder}/{path}"])
                found.append({"path": path, "is_dir": False, "file_size": size})
        return found


@contextmanager
def serve() -> Iterator[Tracking]:
    """Run a server until the block ends."""
    tracking = Tracking()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body = answer(tracking, self.path, self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that hang up are part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    tracking.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield tracking
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(tracking: Tracking, target: str, authorization: str) -> tuple[int, bytes]:
    parts = urlsplit(target)
    tracking.asked.append((unquote(parts.path), authorization))
    if authorization != tracking.authorization:
        return 401, b"You are not authenticated."
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    if parts.path == PROXY:
        return 200, json.dumps({"files": tracking.files(query.get("path", ""))}).encode()
    if parts.path.startswith(f"{PROXY}/"):
        data = tracking.artifacts.get(unquote(parts.path.removeprefix(f"{PROXY}/")))
        return (200, data) if data is not None else (404, b"{}")
    asked = (parts.path.removeprefix(API), *(query[name] for name in sorted(query)))
    found = tracking.answers.get(asked)
    if found is None:
        return 404, json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not found"}).encode()
    return 200, json.dumps(found).encode()
