"""How far the replicas of an endpoint are of which none is ready yet (core/loading.py), and why none can serve.

Asked only while somebody waits for them. What the starts before took is in the route table; a replica says in each PONG
which phase it is in, and this gateway knows since when.
"""

import time
from collections.abc import Collection

from stoker.core import loading
from stoker.gateway.fleet.replica import Replica
from stoker.types.errors import StokerError, Unavailable
from stoker.types.loading import Loading, Seen, Usual
from stoker.types.routes import EndpointRoute
from stoker.types.starts import ORDER


class Starting:
    """What was said of one start, from the first who waits for it until it is over."""

    def __init__(self) -> None:
        self._since_s = 0.0
        self._said: Loading | None = None

    def over(self) -> None:
        """Take note that a replica takes requests."""
        self._since_s, self._said = 0.0, None

    def look(self, route: EndpointRoute, replicas: Collection[Replica], now_s: float) -> Loading | None:
        """Return how far the one is that will be ready first; None where one is ready, and takes nothing at present."""
        if any(each.state == "ready" and each.is_connected for each in replicas):
            return None
        self._since_s = self._since_s or now_s
        serving = {str(each.revision) for each in route.revisions if each.weight}
        found = [_far(each, route.start, now_s) for each in replicas if each.revision in serving]
        if not found:
            found = [loading.far(route.start, Seen(ORDER, now_s - self._since_s))]
        self._said = loading.onward(self._said, max(found, key=lambda each: each.ratio or 0.0))
        return self._said


def unavailable(route: EndpointRoute, replicas: Collection[Replica]) -> StokerError:
    """Return why none of `replicas` can serve, as far as known."""
    name = route.endpoint
    errors = [replica.error for replica in replicas if replica.error]
    if errors:
        return Unavailable(f"no replica of {name} can serve: {errors[0]}", retry_after_s=10.0)
    if route.closed:
        opens_in_s = max(route.opens_at_s - time.time(), 1.0) if route.opens_at_s else None
        return Unavailable(f"{name} is closed {route.closed}", retry_after_s=opens_in_s)
    if not replicas:
        return Unavailable(f"{name} has no replicas", retry_after_s=10.0)
    return Unavailable(f"no replica of {name} is running; they are being restarted", retry_after_s=5.0)


def _far(replica: Replica, usual: Usual, now_s: float) -> Loading:
    if not replica.is_connected:
        return loading.far(usual, Seen(stage_s=now_s - replica.down_since_s))
    stats = replica.stats
    return loading.far(
        usual,
        Seen(
            stage=stats.stage,
            stage_s=now_s - replica.stage_since_s,
            fraction=stats.fraction,
            over=stats.phases,
            answers=True,
            is_ready=stats.state == "ready",
        ),
    )
