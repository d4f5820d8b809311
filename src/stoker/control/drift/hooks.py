"""Tells whoever retrains that an endpoint has drifted: a signed webhook, or a program in the state folder's hooks/.

Programs and files with secrets are the operator's, in one folder: a manifest can name one of them and nothing else.
Address and secret may be named by reference too (types/secrets.py).
"""

import asyncio
import hashlib
import http.client
import os
import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from stoker.client.views import DriftView
from stoker.control import hooked
from stoker.control.hooked import Resolve
from stoker.protocol import webhooks
from stoker.types.errors import StokerError
from stoker.types.resources import Trigger

TIMEOUT_S: Final = 10.0


class Event(msgspec.Struct, frozen=True, tag_field="type", tag="endpoint.drifted"):
    """What is sent, as JSON. The same `id` again is the same event."""

    endpoint: str
    model: str
    at_s: float
    drift: DriftView
    id: str = ""


async def send(trigger: Trigger, event: Event, hooks: Path, resolve: Resolve) -> str:
    """Send the event; return why it was not taken, "" when it was. Takes TIMEOUT_S at most, and what secrets take."""
    project = event.endpoint.partition("/")[0]
    try:
        url = await hooked.address(trigger.webhook_from or trigger.webhook, project, resolve)
        file = hooks / trigger.secret if trigger.secret else None
        secret = b"" if trigger.command else await hooked.key(trigger.sign_with or "", file, project, resolve)
    except StokerError as problem:
        return f"{type(problem).__name__}: {problem.message}"
    return await asyncio.to_thread(_send, event, hooks / trigger.command if trigger.command else None, url, secret)


def _send(event: Event, program: Path | None, url: str, secret: bytes) -> str:
    key = f"{event.endpoint}:{event.drift.since_s}"
    event = msgspec.structs.replace(event, id=hashlib.sha256(key.encode()).hexdigest()[:16])
    body = msgspec.json.encode(event)
    try:
        if program is not None:
            return _run(program, body)
        headers = {"Content-Type": "application/json", **webhooks.sign(secret, event.id, event.at_s, body)}
        if secret:
            headers["Stoker-Signature"] = webhooks.former(secret, event.at_s, body)
        return _post(url, body, headers)
    except (StokerError, OSError, ValueError, http.client.HTTPException, subprocess.SubprocessError) as problem:
        return f"{type(problem).__name__}: {problem}"


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
