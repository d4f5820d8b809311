"""Tells whoever retrains that an endpoint has drifted: a signed webhook, or a program in the state folder's hooks/.

Programs and secrets are files of the operator in one folder: a manifest can name one of them and nothing else.
"""

import hashlib
import http.client
import os
import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from stoker.client.views import DriftView
from stoker.protocol import webhooks
from stoker.types.errors import StokerError
from stoker.types.resources import Trigger

TIMEOUT_S: Final = 10.0
SECRET_BYTES_MAX: Final = 4_096


class Event(msgspec.Struct, frozen=True, tag_field="type", tag="endpoint.drifted"):
    """What is sent, as JSON. The same `id` again is the same event."""

    endpoint: str
    model: str
    at_s: float
    drift: DriftView
    id: str = ""


def send(trigger: Trigger, event: Event, hooks: Path) -> str:
    """Send the event; return why it was not taken, "" when it was. Blocks for TIMEOUT_S at most."""
    key = f"{event.endpoint}:{event.drift.since_s}"
    event = msgspec.structs.replace(event, id=hashlib.sha256(key.encode()).hexdigest()[:16])
    body = msgspec.json.encode(event)
    try:
        if trigger.command:
            return _run(hooks / trigger.command, body)
        secret = secret_of(hooks / trigger.secret) if trigger.secret else b""
        headers = {"Content-Type": "application/json", **webhooks.sign(secret, event.id, event.at_s, body)}
        if secret:
            headers["Stoker-Signature"] = webhooks.former(secret, event.at_s, body)
        return _post(trigger.webhook, body, headers)
    except (StokerError, OSError, ValueError, http.client.HTTPException, subprocess.SubprocessError) as problem:
        return f"{type(problem).__name__}: {problem}"


def secret_of(path: Path) -> bytes:
    """Return the secret in a file of the folder. Raises OSError, and ValueError for one too short or long."""
    secret = path.read_bytes().strip()
    if not 16 <= len(secret) <= SECRET_BYTES_MAX:
        raise ValueError(f"the secret in {path.name} has {len(secret)} bytes; 16 to {SECRET_BYTES_MAX} are needed")
    return secret


def _post(url: str, body: bytes, headers: dict[str, str]) -> str:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers)
        status = connection.getresponse().status
    finally:
        connection.close()
    return "" if 200 <= status < 300 else f"{parts.hostname} answered {status}"


def _run(program: Path, body: bytes) -> str:
    done = subprocess.run(
        [str(program)],
        input=body,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=TIMEOUT_S,
        cwd=program.parent,
        env={name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        check=False,
    )
    words = done.stderr[-500:].decode("utf-8", "replace").strip()
    return "" if done.returncode == 0 else f"{program.name} ended with {done.returncode}: {words}"
