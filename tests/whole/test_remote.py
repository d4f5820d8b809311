"""A server that somebody else runs, behind an endpoint: pushed as a version without files, called like any other."""

import json
from pathlib import Path

import pytest

from tests.whole.rig import Platform
from tests.whole.test_readme import bash, blocks
from tests.whole.test_streams import ask

pytestmark = pytest.mark.timeout(120)


def test_a_remote_server_is_served_as_the_page_says(demo: Platform, tmp_path: Path) -> None:
    """The other server is this platform's own gateway; the page's lines and manifest are used as they stand."""
    (endpoint,) = blocks("docs/how-to/models.md", "yaml")
    (tmp_path / "key").write_text(demo.key)
    (tmp_path / "big.yaml").write_text(
        endpoint.replace("/etc/stoker/upstream.key", str(tmp_path / "key")).replace(
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
    demo.cli("delete", "endpoint", "big")
