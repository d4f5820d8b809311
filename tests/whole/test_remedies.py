"""A version that fails is taken back by its incident, as the page allows it, though control is killed in the middle."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.core.diagnose.incident import Incident
from tests.whole.rig import Platform, until
from tests.whole.test_incident import GOOD_MIN, PAGE, callers
from tests.whole.test_readme import bash, blocks


@pytest.fixture
def rates(demo: Platform) -> Iterator[None]:
    """Let nothing of the endpoint be left for other tests."""
    yield
    demo.cli("delete", "endpoint", "rates", "--wait")


@pytest.mark.usefixtures("rates")
def test_a_version_that_fails_is_rolled_back_once_over_a_kill_of_control(demo: Platform, tmp_path: Path) -> None:
    lines = [each.replace("prices", "rates") for each in blocks(PAGE)]  # other tests break an endpoint of that name
    make, break_it = lines[0], next(each for each in lines if each.startswith("sed"))
    (tmp_path / "rates").mkdir()
    (tmp_path / "rates" / "model.py").write_text(blocks(PAGE, "python")[0])
    (tmp_path / "rates.yaml").write_text(blocks(PAGE, "yaml")[1].replace("prices", "rates"))
    bash(demo, make, tmp_path)

    def answered() -> float:
        chart = demo.client.query('sum(increase(stoker_requests_total{endpoint="rates", code="200"}[10m]))')
        return sum(line.values[-1] or 0.0 for line in chart.lines)

    def newest() -> Incident | None:
        mine = [each for each in demo.client.incidents() if each.endpoint == "rates"]
        return mine[0] if mine else None

    def acting() -> Incident | None:
        found = newest()
        return found if found is not None and found.acts else None

    def over() -> Incident | None:
        found = newest() if demo.client.is_ready() else None
        return found if found is not None and not any(act.is_in_force for act in found.acts) else None

    with callers(demo, tmp_path, "rates"):
        until(lambda: answered() >= GOOD_MIN, "callers are answered")
        bash(demo, break_it, tmp_path)
        until(acting, lambda: f"the incident acts: {demo.cli('why', 'rates')}")
        demo.kill("control")
        until(demo.client.is_ready, "control is back")
        found = until(over, "the act is over")
    assert [(act.number, act.kind, act.outcome) for act in found.acts] == [(1, "roll-back", "it serves")]
    assert demo.client.endpoint("default", "rates").resource.spec.model == "rates@1"
    serving = found.acts[0].subject
    until(lambda: demo.client.endpoint("default", "rates").status.serving == serving, "its status says so too")
    done = [entry.action.split()[0] for entry in demo.client.journal(endpoint="rates")]
    assert [done.count(action) for action in ("Remedy", "Rollback", "RemedyEnded")] == [1, 1, 1]
    said = demo.cli("incidents", "show", str(found.number))
    assert "What it did by itself" in said
    assert "act 1 begins: roll-back" in " ".join(said.split())
    print(said)
    ended = 'sum(increase(stoker_remedies_total{endpoint="rates", event="ended"}[10m]))'
    until(lambda: demo.client.query(ended).lines, "its end is counted")
