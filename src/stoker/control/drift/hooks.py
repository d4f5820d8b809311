"""Tells whoever retrains that an endpoint has drifted: a signed webhook, or a program in the state folder's hooks/.

Programs and secrets are files of the operator in one folder: a manifest can name one of them and nothing else.
"""

import hashlib
import hmac
import http.client
import os
import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from stoker.client.views import DriftView
from stoker.types.resources import Trigger

TIMEOUT_S: Final = 10.0
SECRET_BYTES_MAX: Final = 4_096
SIGNATURE: Final = "Stoker-Signature"  # t=UNIX SECONDS,v1=HEX of HMAC-SHA256 over "SECONDS.BODY"


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
    body = msgspec.json.encode(msgspec.structs.replace(event, id=hashlib.sha256(key.encode()).hexdigest()[:16]))
    try:
        if trigger.command:
            return _run(hooks / trigger.command, body)
        secret = _secret(hooks / trigger.secret) if trigger.secret else b""
        return _post(trigger.webhook, body, signature(secret, body, event.at_s) if secret else "")
    except (OSError, ValueError, http.client.HTTPException, subprocess.SubprocessError) as problem:
        return f"{type(problem).__name__}: {problem}"


def signature(secret: bytes, body: bytes, at_s: float) -> str:
    """Return the value of the header SIGNATURE."""
    stamp = str(int(at_s)).encode()
    return f"t={stamp.decode()},v1={hmac.new(secret, stamp + b'.' + body, hashlib.sha256).hexdigest()}"


def _secret(path: Path) -> bytes:
    secret = path.read_bytes().strip()
    if not 16 <= len(secret) <= SECRET_BYTES_MAX:
        raise ValueError(f"the secret in {path.name} has {len(secret)} bytes; 16 to {SECRET_BYTES_MAX} are needed")
    return secret


def _post(url: str, body: bytes, signed: str) -> str:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    headers = {"Content-Type": "application/json", **({SIGNATURE: signed} if signed else {})}
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
