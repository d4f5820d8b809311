"""Policies are compared on the same arrivals, with intervals over seeds, by late requests and replica-hours both."""

import pytest

from stoker.sim import arrivals
from stoker.sim.compare import Figure, Row, compare, figure, row, verdict
from stoker.sim.endpoint import Terms
from stoker.sim.policies import named
from stoker.sim.run import Summary
from stoker.sim.service import Drawn
from stoker.types.errors import InvalidInput


def summed(late_ratio: float, replica_hours: float) -> Row:
    return row("one", [Summary(100, 0, 0.0, 1.0, 2.0, late_ratio, replica_hours, 4.0)])


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        ((0.01, 5.0), (0.02, 6.0), "better"),
        ((0.01, 5.0), (0.01, 6.0), "better"),
        ((0.01, 5.0), (0.02, 4.0), "trade"),
        ((0.02, 6.0), (0.01, 5.0), "worse"),
        ((0.01, 5.0), (0.01, 5.0), "same"),
    ],
)
def test_a_policy_is_better_only_when_it_is_worse_at_nothing(
    ours: tuple[float, float], theirs: tuple[float, float], found: str
) -> None:
    assert verdict(summed(*ours), summed(*theirs)) == found


def test_the_interval_is_students() -> None:
    found = figure([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5
    assert found.high - found.mean == pytest.approx(3.182 * 1.2910 / 2, rel=1e-3)
    assert figure([7.0]) == Figure(7.0, 7.0, 7.0)


def test_all_policies_see_the_same_requests_and_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    rows = compare(
        {name: named(name) for name in ("fixed-2", "fixed-3")},
        lambda seed: arrivals.make("edge", seed, 300.0),
        Drawn(),
        Terms(),
        (1, 2),
        1.0,
        lambda *what: told.append(what),
    )
    two, three = rows
    assert [run.requests for run in two.runs] == [run.requests for run in three.runs]
    assert two.replica_hours.mean < three.replica_hours.mean
    assert told[0] == ("fixed-2, seed 1", 0, 4)
    assert len(told) == 4


def test_a_policy_that_nobody_wrote_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidInput, match="there are stoker, kpa"):
        named("keda")
    with pytest.raises(InvalidInput, match="is no policy"):
        named("fixed-0")  # nothing is there to be compared
