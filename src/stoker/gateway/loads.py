"""What scaling is told of an endpoint: who came for a place, who was served, what waits (CALL `loads`)."""

import time
from collections.abc import Iterable

from stoker.gateway.lane import Lane
from stoker.types.scaling import LaneLoad


def load(lane: Lane) -> LaneLoad:
    """Return what `lane` has counted since it began, and holds now."""
    admission, able = lane.admission, [each for each in lane.replicas if each.is_open]
    stats = [each.stats for each in able]
    most = lane.route.concurrency
    generates = lane.task == "chat"
    return LaneLoad(
        project=lane.route.project,
        endpoint=lane.route.endpoint,
        arrived=lane.placed + admission.turned_away + admission.unplaced,
        served=admission.served,
        served_s=admission.served_s,
        tokens=admission.tokens,
        waiting=len(admission) + lane.suspects.count,
        in_flight=len(lane.exchanges),
        ready=lane.ready_count,
        places=_mean(min(each.stats.slots or each.learned.limit, most) for each in able) or 0.0,
        kv_used_ratio=_mean(each.kv_used_ratio for each in stats) if generates else None,
        engine_queue=_mean(each.queued for each in stats) if generates else None,
        is_expected=time.monotonic() < admission.expected_until_s,
    )


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None
