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
    url, methods = f"http://127.0.0.1:{rig.port + 1}", ("GET", "DELETE")
    found = apifuzz.run(command, url, "admin", rig.key, examples=2, phases="fuzzing", methods=methods)
    # No agent runs here, so that no log can be read: 503.
    wrong = [each for each in found.failures if not each[0].endswith("/logs")]
    assert wrong == [], found.said[-6000:]
    assert found.cases > 100
