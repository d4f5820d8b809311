"""An endpoint broken on purpose, by the lines of docs/how-to/incidents.md: alert, incident, cause, repair.

Control is killed in the middle of it: what it had seen, found and told is still known.
"""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stoker.client import alerts
from stoker.core.diagnose.incident import Incident
from tests.whole.rig import STOKER, Platform, until
from tests.whole.test_readme import bash, blocks

PAGE = "docs/how-to/incidents.md"
GOOD_MIN = 80  # answers before it is broken; some twenty a second come


@contextmanager
def callers(platform: Platform, folder: Path, name: str = "prices") -> Iterator[None]:
    """Run the page's loop of calls while the block runs, of an endpoint of another `name`; gateways know its key."""
    (loop,) = blocks(PAGE, "bash")
    assert "\nwhile " in loop
    loop = loop.replace("\nwhile ", "\nuntil [ -e known ]; do sleep 0.02; done\nwhile ").replace(
        "sleep 0.1", "sleep 0.03"
    )
    known = platform.client.keys()
    before = {each.id for each in known}
    process = subprocess.Popen(
        ["bash", "-c", loop.replace(":8080", f":{platform.port}").replace("prices", name)],
        env={**platform.environment, "PATH": f"{STOKER.parent}:{platform.environment['PATH']}"},
        cwd=folder,
        start_new_session=True,
    )
    try:
        platform.follows(lambda table: any(each.key not in before for each in table.keys))
        (folder / "known").touch()
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def prices(demo: Platform) -> Iterator[None]:
    """Let nothing of the page's endpoint be left for other tests."""
    yield
    demo.cli("delete", "endpoint", "prices", "--wait")


@pytest.mark.usefixtures("prices")
def test_a_version_that_fails_is_paged_explained_and_taken_back_as_the_page_says(
    demo: Platform, tmp_path: Path
) -> None:
    make, break_it, look, repair = (
        blocks(PAGE)[0],
        *(each for each in blocks(PAGE) if each.startswith(("sed", "stoker alerts", "stoker rollback"))),
    )
    (tmp_path / "prices").mkdir()
    (tmp_path / "prices" / "model.py").write_text(blocks(PAGE, "python")[0])
    (tmp_path / "prices.yaml").write_text(blocks(PAGE, "yaml")[0])
    bash(demo, make, tmp_path)

    def answered() -> float:
        chart = demo.client.query('sum(increase(stoker_requests_total{endpoint="prices", code="200"}[10m]))')
        return sum(line.values[-1] or 0.0 for line in chart.lines)

    def named() -> Incident | None:
        mine = [each for each in demo.client.incidents() if each.endpoint == "prices"]
        return mine[0] if mine and mine[0].causes else None

    def since() -> dict[str, float]:
        """Return since when each alert fires."""
        mine = (each for each in alerts.everything(demo.client).items if each.labels.get("endpoint") == "prices")
        return {each.id: each.began_s for each in mine if each.state == "firing"}

    with callers(demo, tmp_path):
        until(lambda: answered() >= GOOD_MIN, "callers are answered")
        bash(demo, break_it, tmp_path)
        incident = until(named, "an incident opened by itself, with a cause")
        assert incident.opened_at_s - incident.since_s < 60
        firing, seen = since(), answered()
        assert firing
        demo.kill("control")
        until(lambda: "prices" in demo.cli("status", check=False), what="another control answers")
        until(lambda: firing.items() <= since().items(), what="its alerts are those of before")
        assert until(named, what="so are its incidents").number == incident.number
        until(lambda: answered() >= seen, what="what was counted is counted again, once")
        said = bash(demo, look, tmp_path)
        assert incident.raised_by == "alert: default/prices misses its objective 'answers'"
        assert incident.causes[0].kind == "change", incident.causes
        assert "firing" in said
        assert "because a new version or configuration is worse" in said
        assert "traffic to prices-2" in said
        failing = re.search(r"([\d.]+) % of the requests fail, ([\d.]+) % before", said)
        assert failing, said
        assert float(failing[1]) > float(failing[2]), said
        written = bash(demo, repair.replace(" 1 ", f" {incident.number} "), tmp_path)
    assert "default.prices-1 (prices@1) takes the traffic" in written
    draft = (tmp_path / "postmortem.md").read_text()
    assert "1. **a new version or configuration is worse**" in draft
    assert "over: rolled back to prices@1" in demo.cli("incidents", "show", str(incident.number))
