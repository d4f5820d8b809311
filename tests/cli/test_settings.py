"""`stoker settings` as a person types it: what is changed works at once, and can be undone."""

import json
import time
from pathlib import Path

from stoker.cli.exits import Exit
from tests.cli.conftest import Run

WAIT_S = 60.0


def until(log: Path, words: str) -> None:
    """Wait for a line of a log that has `words`."""
    end_s = time.monotonic() + WAIT_S
    while words not in log.read_text():
        assert time.monotonic() < end_s, f"no {words} in {log}"
        time.sleep(0.05)


def shown(run: Run) -> dict[str, tuple[object, bool]]:
    found = json.loads(run("settings", "-o", "json").stdout)["items"]
    return {each["name"]: (each["value"], each["is_set"]) for each in found}


def test_a_setting_is_changed_while_control_runs_and_undone(run: Run, home: Path) -> None:
    before = shown(run)
    assert before["log_level"] == ("info", False)
    done = run("settings", "log_level=debug", "trace_slow_s=500ms", "samples_max_bytes=2Gi")
    assert done.returncode == 0, done.stderr
    assert "2.0 GiB" in done.stdout
    assert shown(run)["trace_slow_s"] == (0.5, True)
    until(home / "output", '"to":"debug"')
    done = run("settings", "--unset", "log_level", "--unset", "trace_slow_s", "--unset", "samples_max_bytes")
    assert done.returncode == 0, done.stderr
    assert shown(run) == before


def test_what_cannot_be_is_refused_and_changes_nothing(run: Run) -> None:
    before = shown(run)
    for wrong, named in (
        ("trace_ratio=3", "trace_ratio"),
        ("trace_ratio=much", "trace_ratio"),
        ("otlp_endpoint=ftp://there", "otlp_endpoint"),
        ("port=80", "expected NAME=VALUE"),
        ("log_level", "expected NAME=VALUE"),
    ):
        refused = run("settings", "access_log=on", wrong)
        assert refused.returncode == Exit.REFUSED, wrong
        assert named in refused.stderr
    assert shown(run) == before
