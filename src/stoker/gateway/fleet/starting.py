"""How far the replicas of an endpoint are of which none is ready yet, as this gateway sees it (core/loading.py).

Asked only while somebody waits for them. What the starts before took is in the route table; a replica says in each PONG
which phase it is in, and this gateway knows since when.
"""

from collections.abc import Collection

from stoker.core import loading
from stoker.gateway.fleet.replica import Replica
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
