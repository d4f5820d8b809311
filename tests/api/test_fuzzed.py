"""schemathesis, unmodified, against a control: nothing it sends finds an error of the server, or an unpublished answer.

A short run of `python -m bench --only apifuzz`, which takes keys of every role and many more requests.
"""

import os
import sys
from pathlib import Path

import pytest

from bench import apifuzz
from tests.control.rig import Rig

TOOL = Path(sys.prefix) / "sdks" / "schemathesis"  # `make test` puts it here, with what it depends on

pytestmark = pytest.mark.timeout(120)


@pytest.mark.skipif(not TOOL.is_dir(), reason="`make test` installs schemathesis")
def test_no_generated_request_finds_an_answer_that_is_not_as_published(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TOOL))
    monkeypatch.setitem(os.environ, "PYTHONDONTWRITEBYTECODE", "1")
    command = [sys.executable, "-m", "schemathesis.cli"]
    found = apifuzz.run(command, f"http://127.0.0.1:{rig.port + 1}", "admin", rig.key, examples=1, phases="coverage")
    assert found.failures == (), found.said[-6000:]
    assert found.cases > 1000
