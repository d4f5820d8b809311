"""A server that somebody else runs, behind an endpoint: pushed as a version without files, called like any other."""

import json
from pathlib import Path

from tests.whole.rig import Platform, until
from tests.whole.test_readme import bash, blocks
from tests.whole.test_streams import ask


def secret_of(demo: Platform, value: str) -> Path:
    """Write the secret file that the project default may name, as whoever turns it over would."""
    place = demo.home / "secrets" / "default" / "upstream"
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.with_name("next").write_text(value)
    return place.with_name("next").replace(place)


def test_a_remote_server_is_served_as_the_page_says(demo: Platform, tmp_path: Path) -> None:
    """The other server is this platform's own gateway; the page's lines and manifest are used as they stand."""
    (endpoint,) = blocks("docs/how-to/models.md", "yaml")
    key = secret_of(demo, demo.key)
    (tmp_path / "big.yaml").write_text(
        endpoint.replace("env:STOKER_SECRET_DEFAULT__UPSTREAM", f"file:{key}").replace(
            "meta-llama/Llama-3.1-70B-Instruct", "smol"
        )
    )
    shell = next(block for block in blocks("docs/how-to/models.md") if "stoker push big" in block)
    bash(demo, shell.replace("http://10.0.0.5:8000", demo.url), tmp_path)
    demo.cli("deploy", "big", "--wait")
    body = {"model": "big", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
    with ask(demo, body) as answer:
        said = json.loads(answer.read())
        assert answer.status == 200, said
    assert said["model"] == "big"
    assert said["usage"]["completion_tokens"] == 5
    with ask(demo, {**body, "stream": True}) as answer:
        assert answer.read().decode().rstrip().endswith("data: [DONE]")
    demo.cli("delete", "endpoint", "big", "--wait")


def test_a_secret_is_turned_over_while_it_serves_and_is_nowhere_on_the_disk(demo: Platform, tmp_path: Path) -> None:
    """A key of this platform's own gateway, which a gateway of it sends to itself."""
    first = demo.new_key("planted")
    place = secret_of(demo, first["key"])
    spec = {"model": "far@1", "engine": "openai", "resources": {"cpu": 0.1, "memory": "256Mi"}}
    options = {"model": "smol", "api_key": f"file:{place}"}
    manifest = tmp_path / "far.yaml"
    manifest.write_text(
        json.dumps({"kind": "Endpoint", "metadata": {"name": "far"}, "spec": {**spec, "options": options}})
    )
    demo.cli("push", "far", "--format", "remote", "--task", "chat", "--option", f"url={demo.url}/v1")
    demo.cli("apply", "-f", str(manifest))
    body = {"model": "far", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
    until(lambda: asked(demo, body) == 200, "it serves")
    second = demo.json("keys", "rotate", first["id"], "--overlap", "0")
    secret_of(demo, second["key"])
    until(lambda: asked(demo, body) == 200, "the new key is used")
    (use,) = [each for each in demo.json("secrets", "check")["items"] if each["use"]["name"] == "far"]
    assert use["health"] == "good"
    assert max(state["read"] for state in use["states"]) >= 2
    assert "file:" in demo.cli("secrets", "list")
    until(lambda: "read secrets" in demo.cli("audit", "list", "--limit", "50"), "the audit has it")
    refused = demo.cli("deploy", "far", "--env", "OPENAI_API_KEY=sk-literalliteralliteral", check=False)
    assert "sk-literal" not in refused

    backup = tmp_path / "b.stoker"
    (tmp_path / "passphrase").write_text("x" * 64)
    demo.cli("backup", str(backup), "--key-file", str(tmp_path / "passphrase"))
    restored = tmp_path / "restored"
    demo.cli("--home", str(restored), "restore", str(backup), "--key-file", str(tmp_path / "passphrase"))
    values = [each["key"].encode() for each in (first, second)] + [b"sk-literalliteral"]
    for folder in (demo.home, restored):
        written = [path for path in folder.rglob("*") if path.is_file() and path != place]
        assert len(written) > 10
        assert [path for path in written if any(value in path.read_bytes() for value in values)] == []
    demo.cli("delete", "endpoint", "far", "--wait")


def asked(demo: Platform, body: dict[str, object]) -> int:
    with ask(demo, body) as answer:
        return answer.status
