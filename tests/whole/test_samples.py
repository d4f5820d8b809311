"""Samples from a manifest to a replay, through the command line of a real platform."""

import json
import sqlite3
import urllib.error
import urllib.request
from typing import Any

from tests.whole.rig import WAIT_S, Platform, until

MANIFEST = """
apiVersion: stoker/v1
kind: Endpoint
metadata: {{name: {name}}}
spec:
  model: digits
  resources: {{cpu: 0.05}}
  samples: {{rate: 1, ttl: 1h, patterns: {{employee: 'EMP-\\d{{6}}'}}}}
"""
SECRETS = (b"alice.secret@example.com", b"4242 4242 4242 4242", b"EMP-123456")


def ask(demo: Platform, body: bytes, key: str = "") -> int:
    """POST `body` to the endpoint `kept`; return the status."""
    headers = {"Authorization": f"Bearer {key or demo.key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{demo.url}/v2/models/kept/infer", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def body(number: int, note: str = "") -> bytes:
    data = [float((number * at) % 17) for at in range(64)]
    tensor = {"name": "pixels", "datatype": "FP32", "shape": [1, 64], "data": data}
    return json.dumps({"id": note, "inputs": [tensor]}).encode()


def test_samples_are_listed_shown_exported_replayed_and_deleted(demo: Platform) -> None:
    try:
        for name in ("kept", "other"):
            demo.cli("apply", "-f", "-", stdin=MANIFEST.format(name=name))
        for name in ("kept", "other"):
            demo.cli("deploy", name, "--wait")
        demo.follows()
        note = b"; ".join(SECRETS).decode()
        for number in range(12):
            assert ask(demo, body(number, note)) == 200
        assert ask(demo, b'{"inputs": [{"name": "nothing"}]}') == 400

        def listed() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = demo.json("samples", "kept")["items"]
            return found

        until(lambda: len(listed()) == 13, what="all are kept")
        (failed,) = demo.json("samples", "kept", "--errors")["items"]
        assert failed["status"] == 400
        shown = demo.cli("samples", "kept", next(each["id"] for each in listed() if each["status"] == 200))
        assert "<email:" in shown
        assert "<employee:" in shown
        exported = demo.cli("samples", "export", "kept").splitlines()
        assert len(exported) == 13
        stored = b"".join(path.read_bytes() for path in (demo.home / "samples").rglob("*") if path.is_file())
        assert stored
        for secret in SECRETS:
            assert secret not in stored
            assert secret.decode() not in "".join(exported)

        replayed = demo.json("samples", "replay", "kept", "--to", "other", "--limit", "13")["summary"]
        assert replayed["statuses"] == {"200 → 200": 12, "400 → 400": 1}
        assert (replayed["answered"], replayed["equal"]) == (12, 12)
        assert "12 of 12 equal" in demo.cli("samples", "replay", "kept", "--to", "other", "--limit", "13")

        key = demo.new_key("private", "--no-samples")
        before = len(listed())
        assert ask(demo, body(1), key["key"]) == 200
        assert ask(demo, body(1)) == 200
        until(lambda: len(listed()) > before or len(listed()) == 20, what="the other key's request is kept")
        assert all(each["key"] != key["id"] for each in demo.json("samples", "kept", "--limit", "1000")["items"])

        demo.cli("samples", "delete", "kept")
        assert listed() == []
        with sqlite3.connect(f"file:{demo.home / 'state.db'}?mode=ro", uri=True) as database:
            found = {row[0] for row in database.execute("select action from journal where endpoint = 'kept'")}
        assert {"ReadSamples", "DeleteSamples"} <= found
    finally:
        for name in ("kept", "other"):
            demo.cli("delete", "endpoint", name, check=False)
