"""When the versions that answered were made: what the events of a freshness objective are told by.

The database has the newest revisions of an endpoint; of those that were forgotten since, the history of metrics still
knows the gauge MADE, as long as it knows their answers.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from stoker.core import slo
from stoker.core.snapshot import EndpointKey, EndpointState
from stoker.observe.port import Selector, select
from stoker.store.revisions import Made
from stoker.telemetry.metrics import Registry
from stoker.telemetry.snapshot import Snapshot
from stoker.types.units import parse_seconds

MADE: Final = "stoker_version_made_time_seconds"
KEPT_MAX: Final = 1_000  # of one endpoint, the newest


class Snapshots(Protocol):
    """What is asked of the history (port.Questions has it)."""

    async def snapshots(self, selectors: Sequence[Selector], edges_s: Sequence[float]) -> list[Snapshot]:
        """Return what the series did between each two of the rising `edges_s`; gauges as means."""


class Ages:
    """Used by one task."""

    def __init__(self, history: Snapshots, metrics: Registry) -> None:
        self._history = history
        self._metrics = metrics
        self._made: dict[EndpointKey, dict[str, float]] = {}  # unix seconds by revision
        self._recalled: set[EndpointKey] = set()  # endpoints of which the history was asked
        self._shown: dict[EndpointKey, str] = {}  # the revision that has a series

    def known(self) -> set[str]:
        """Return the revisions of which it is known."""
        return {revision for found in self._made.values() for revision in found}

    async def follow(self, states: Sequence[EndpointState], made: Iterable[Made], now_s: float) -> None:
        """Take what was read of revisions that were not `known`, and recall the forgotten ones that are judged by age.

        Shows the age of what serves; drops what is known of endpoints that are gone.
        """
        for each in made:
            self._made.setdefault(each.key, {})[each.revision] = each.made_at_s
        living = {state.key for state in states}
        self._made = {key: _newest(found) for key, found in self._made.items() if key in living}
        self._recalled &= living
        for state in states:
            windows = [parse_seconds(each.window) for each in state.resource.spec.slos if each.sli == "freshness"]
            if windows:
                await self._recall(state.key, max(windows), now_s)
        self._show(states)

    def of(self, state: EndpointState) -> dict[str, float]:
        """Return when the versions of the endpoint's revisions were made, by revision."""
        return dict(self._made.get(state.key, {}))

    async def _recall(self, key: EndpointKey, window_s: float, now_s: float) -> None:
        if key in self._recalled:
            return
        project, endpoint = key
        selector = select(MADE, project=project, endpoint=endpoint)
        (found,) = await self._history.snapshots([selector], [now_s - window_s - slo.EVERY_S, now_s])
        recalled = {one.labels[-1]: one.value for one in found.matching(MADE)}
        self._made[key] = _newest({**recalled, **self._made.get(key, {})})
        self._recalled.add(key)

    def _show(self, states: Sequence[EndpointState]) -> None:
        shown = {state.key: state.serving for state in states if state.serving in self._made.get(state.key, {})}
        for (project, endpoint), revision in self._shown.items():
            if shown.get((project, endpoint)) != revision:
                self._metrics.drop(MADE, project=project, endpoint=endpoint, revision=revision)
        for (project, endpoint), revision in shown.items():
            gauge = self._metrics.gauge(MADE, project=project, endpoint=endpoint, revision=revision)
            gauge.set(self._made[project, endpoint][revision])
        self._shown = shown


def _newest(found: Mapping[str, float]) -> dict[str, float]:
    if len(found) <= KEPT_MAX:
        return dict(found)
    return dict(sorted(found.items(), key=lambda item: item[1])[-KEPT_MAX:])
