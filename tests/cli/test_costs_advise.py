"""`stoker costs advise`: from what a platform kept of an endpoint to what to change of it, and back to a manifest."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from stoker.cli import advise_more, costs_advise
from stoker.cli.advise_platform import Advised, Spent, advised, patched, spent
from stoker.cli.plan_platform import Query
from stoker.client.views import Chart, Line
from stoker.core.cost.report import Report, Row
from stoker.types.costs import MachinePrice, PoolPrices, PriceList
from stoker.types.errors import InvalidInput
from stoker.types.placement import PlacementSpec
from stoker.types.process import NodeStatus
from stoker.types.resources import Endpoint, EndpointSpec, Metadata, Replicas, Resources
from stoker.types.scaling import Scaling, Schedule
from stoker.types.slos import Objective
from stoker.types.statuses import EndpointStatus, EndpointView
from tests.cli.run import stoker_here
from tests.observe.rig import LABELS, Counting, Rig

GIBI = 1 << 30
NODE = NodeStatus("here", 1, cores=4.0, memory_bytes=8 * GIBI, memory_free_bytes=GIBI, processes=())
COSTS = Spent(0.1, {"idle": 0.9, "requests": 0.1})
FAST = (Objective("fast", 0.95, "latency", under="2s"),)
SPEC = EndpointSpec(
    "m@1", resources=Resources(cpu=1.0, memory="2Gi"), replicas=Replicas(min=2, max=2), slos=FAST
)  # fmt: skip


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "metrics.db")
    yield made
    made.close()


def look(rig: Rig, spec: EndpointSpec = SPEC, nodes: tuple[NodeStatus, ...] = (NODE,)) -> Advised:
    return advised(asking(rig), endpoint(spec), COSTS, nodes, days=1)


def asking(rig: Rig) -> Query:
    """Return what asks the history as `stoker query` does."""

    def query(text: str, *, since_s: float = 0.0, step_s: float | None = None, at_s: float | None = None) -> Chart:
        asked = rig.history.query(text, since_s=since_s, step_s=step_s or 60.0, end_s=at_s)
        found = rig.run(asked)
        return Chart(list(found.times), [Line(dict(each.labels), list(each.values)) for each in found.lines])

    return query


def endpoint(spec: EndpointSpec) -> Endpoint:
    return Endpoint(Metadata("a"), spec)  # type: ignore[arg-type]


def there(process: Counting, *, replicas: int = 2, memory: int = 200 << 20) -> None:
    """Let replicas be there, and use that much memory."""
    process.registry.gauge("stoker_replicas", project="default", endpoint="a", phase="ready").set(replicas)
    for number in range(replicas):
        where = {"project": "default", "endpoint": "a", "node": "here", "replica": f"a-{number}"}
        process.registry.gauge("stoker_replica_memory_bytes", **where).set(memory)


def called(process: Counting, count: int, *, takes_s: float = 0.01) -> None:
    process.request(count)
    revision = {key: value for key, value in LABELS.items() if key != "method"}
    for _ in range(count):
        process.registry.histogram("stoker_request_phase_seconds", phase="compute", **revision).observe(takes_s)
        process.registry.histogram("stoker_batch_rows", **revision).observe(1.0)


def starts(process: Counting, took_s: float) -> None:
    where = {"project": "default", "endpoint": "a", "node": "here", "phase": "total"}
    process.registry.histogram("stoker_cold_start_seconds", **where).observe(took_s)


def test_an_endpoint_that_idles_is_told_to_sleep_with_less_memory_and_whoever_follows_has_nothing_to_gain(
    rig: Rig,
) -> None:
    process = Counting()
    rig.tick(process, seconds=60)
    there(process)
    starts(process, 1.5)

    def minute(number: int) -> None:
        if 40 <= number < 50:
            called(process, 12)

    rig.minutes(80, process, each=minute)
    found = look(rig)
    settings = dict(each.split("=") for each in found.settings)
    assert settings["replicas.min"] == "0"
    assert settings["resources.memory"] == "320Mi"
    assert found.requests == 120
    assert found.now is not None
    assert found.then is not None
    assert found.then.late_ratio <= 0.05
    # Two replicas of a quarter of a node all month, at $0.10 an hour each, come down to minutes of one.
    assert 0.8 * 146.0 < found.saves_per_month < 146.0
    assert found.confidence == "low", "hours are no week"
    assert any("200 MiB" in each for each in found.because)
    assert any("idle 90 %" in each for each in found.because)

    smaller = patched(endpoint(SPEC), found.settings)
    assert smaller.spec.replicas.min == 0
    assert smaller.spec.resources.memory == "320Mi"
    again = look(rig, smaller.spec)
    assert again.settings == ()
    assert again.saves_per_month == 0.0


def test_an_endpoint_that_nobody_calls_may_sleep_unless_a_start_would_break_its_promise(rig: Rig) -> None:
    process = Counting()
    rig.tick(process, seconds=60)
    there(process)
    starts(process, 1.5)
    rig.minutes(90, process)
    found = look(rig)
    assert found.settings == ("replicas.min=0",)
    assert found.saves_per_month == pytest.approx(2 * 730 * 0.1)
    assert re.match(r"nobody called it in 2 h; who calls next waits 1\.\d+ s", found.because[0])
    strict = msgspec.structs.replace(SPEC, slos=(Objective("fast", 0.95, "latency", under="500ms"),))
    kept = look(rig, strict)
    assert kept.settings == ()
    assert "asleep it would break latency_p95" in kept.because[0]


def test_what_cannot_be_judged_is_left_alone_with_the_reason(rig: Rig) -> None:
    rig.tick(Counting(), seconds=60)
    (because,) = look(rig).because
    assert because.startswith("a had 0 requests")
    assert "give --" not in because, "these are options of `stoker plan`"
    assert "from 1 h on it is said" in because
    scheduled = msgspec.structs.replace(SPEC, scaling=Scaling(schedules=(Schedule("08:00", "18:00"),)))
    assert "schedules" in look(rig, scheduled).because[0]
    assert look(rig, msgspec.structs.replace(SPEC, replicas=Replicas(0, 0))).settings == ()


def test_pools_are_judged_by_the_hours_in_which_their_nodes_and_replicas_were_seen(rig: Rig) -> None:
    process = Counting()
    rig.tick(process, seconds=60)
    there(process, replicas=3)
    nodes = [NodeStatus(name, 1, 4.0, 8 * GIBI, GIBI, ()) for name in ("here", "there", "beyond")]
    for node in nodes:
        process.registry.gauge("stoker_node_cores", node=node.node).set(4.0)
    rig.minutes(130, process)
    seen = advise_more.look(asking(rig), 1)
    assert 7200 <= seen.seconds <= 8400
    assert seen.replicas == {("default", "a"): 3}
    prices = PriceList((PoolPrices((MachinePrice(node_hour="0.40"), MachinePrice("2099-01-01", "9.00"))),))
    view = EndpointView("a", "default", 1, endpoint(SPEC), EndpointStatus())  # type: ignore[arg-type]
    (hint,) = advise_more.pool_hints([view], nodes, prices, seen, 1.7e9)
    assert (hint.about, hint.change, hint.saves_micro_usd) == ("default", "nodes 3 → 1", 2 * 400_000 * 730)
    shown = click.unstyle(costs_advise.page([], more=[hint]))
    assert "nodes 3 → 1  $584.00" in shown
    assert "its 3 replicas, the most there were, fit on 1 of its 3 nodes;\n  assuming that no room is kept" in shown
    spread = msgspec.structs.replace(SPEC, placement=PlacementSpec(spread="required"))
    apart = msgspec.structs.replace(view, resource=endpoint(spread))
    assert advise_more.pool_hints([apart], nodes, prices, seen, 1.7e9) == []


def test_what_a_replica_costs_is_read_from_the_settled_lines() -> None:
    rows = (
        Row({"project": "default", "endpoint": "a", "kind": "idle"}, "0.3", 300_000_000, 5400.0),
        Row({"project": "default", "endpoint": "a", "kind": "requests"}, "0.1", 100_000_000, 1800.0),
        Row({"project": "default", "endpoint": "b", "kind": "idle"}, "9", 9_000_000_000, 60.0),
    )
    found = spent(Report(0, 1, rows, Row(), (), None, None), "default", "a")
    assert found.usd_per_hour == pytest.approx(0.2)
    assert found.kinds == {"idle": 0.75, "requests": 0.25}
    assert spent(Report(0, 1, (), Row(), (), None, None), "default", "a").usd_per_hour == 0.0


def test_a_page_of_advice() -> None:
    found = Advised(
        "default", "a", ("replicas.min=0", "resources.memory=320Mi"), ("2", "2Gi"), 140.25, is_priced=True,
        because=("so it was",), confidence="high", requests=1200, days=7.0, promises=("latency_p95=2s",),
    )  # fmt: skip
    shown = click.unstyle(costs_advise.page([found, Advised("default", "b")]))
    assert "replicas.min 2 → 0, resources.memory 2Gi → 320Mi  $140.25" in shown
    assert "1,200 requests in 7.0 days, held to latency_p95=2s" in shown
    assert "all together  about $140.25 a month" in shown
    assert "default/b  nothing to advise" in " ".join(shown.split("\n")).replace("   ", "  ")
    more = msgspec.structs.replace(found, saves_per_month=-12.0)
    assert "costs $12.00 more" in click.unstyle(costs_advise.page([more]))


@pytest.mark.parametrize("since", ["1h", "8d", "36h", "soon"])
def test_how_far_back_is_said_in_days(since: str) -> None:
    with pytest.raises(InvalidInput, match="--since"):
        costs_advise._days(since)


def test_advice_is_asked_of_a_platform(home: Path) -> None:
    asked = stoker_here("costs", "advise", home=home)  # of a week, as it is when nothing is said
    assert asked.returncode == 0, asked.stderr
    assert "there is no endpoint to advise about" in asked.stdout
    unknown = stoker_here("costs", "advise", "nobody", home=home)
    assert unknown.returncode != 0
    assert "nobody" in unknown.stderr
