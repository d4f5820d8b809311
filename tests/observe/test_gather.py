"""Several metrics of the history as snapshots: what a diagnosis compares is what was counted, step by step."""

import pytest

from stoker.observe.port import like, select
from stoker.types.errors import InvalidInput
from tests.observe.rig import LATENCY, REQUESTS, START_S, Counting, Rig

QUEUE = select("stoker_queue_depth", endpoint="a")


def test_steps_hold_what_was_counted_in_them_and_add_up_to_the_whole(rig: Rig) -> None:
    one, other = Counting("gateway-0"), Counting("gateway-1")
    rig.tick(one, other)
    for number in range(24):
        one.request(number)
        other.request(1, code="500")
        other.latency(0.1 * number)
        one.queue(number)
        rig.tick(one, other)
    begin_s, end_s = START_S + 5, START_S + 125
    edges = [begin_s + 20 * number for number in range(7)]
    steps = rig.run(rig.history.snapshots((REQUESTS, LATENCY, QUEUE), edges))
    (whole,) = rig.run(rig.history.snapshots((REQUESTS, LATENCY, QUEUE), (begin_s, end_s)))
    assert [each.total("stoker_requests_total", code="200") for each in steps] == [6, 22, 38, 54, 70, 86]
    assert sum(each.total("stoker_requests_total") for each in steps) == whole.total("stoker_requests_total") == 300
    assert whole.total("stoker_requests_total", code="500", project="default", revision="default.a-1") == 24
    assert [each.distribution("stoker_request_duration_seconds").count for each in steps] == [4] * 6
    assert steps[0].total("stoker_queue_depth") == 1.5, "the mean of 0, 1, 2, 3"


def test_a_history_of_many_replicas_is_read_where_few_were_there(rig: Rig) -> None:
    process = Counting()
    rig.tick(process)
    for number in range(600):
        process.request(1, revision=f"default.a-{number}")
    rig.tick(process)
    with pytest.raises(InvalidInput):
        rig.total(60)
    rig.tick(process, seconds=60)
    process.request(7)
    rig.tick(process)
    (found,) = rig.run(rig.history.snapshots([REQUESTS], (rig.clock.now_s - 30, rig.clock.now_s)))
    assert found.total("stoker_requests_total") == 7


@pytest.mark.parametrize("edges", [(START_S,), (START_S, START_S), (START_S + 60, START_S), tuple(range(0, 3000, 5))])
def test_steps_that_cannot_be_are_refused(rig: Rig, edges: tuple[float, ...]) -> None:
    with pytest.raises(InvalidInput, match="steps"):
        rig.run(rig.history.snapshots([select("stoker_requests_total", code=like("5.."))], edges))
