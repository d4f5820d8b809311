"""Control's gauges that are read from its state when somebody asks, rather than kept."""

import collections

from stoker.control.observe import Observer
from stoker.control.routes import RoutePublisher
from stoker.core import sandbox
from stoker.observe.history.history import History
from stoker.telemetry.metrics import Counter, Registry


class Gauges:
    """Sets them in `metrics` as things stand at each call of `refresh`."""

    def __init__(self, metrics: Registry, observer: Observer, routes: RoutePublisher, history: History) -> None:
        self._metrics = metrics
        self._observer = observer
        self._routes = routes
        self._history = history

    def refresh(self) -> None:
        """Read them all."""
        metrics = self._metrics
        phases: collections.Counter[tuple[str, str, str]] = collections.Counter()
        unconfined: collections.Counter[tuple[str, str]] = collections.Counter()
        for node in self._observer.statuses:
            for process in node.processes:
                if process.kind == "replica":
                    labels = process.labels
                    whose = labels.get("project", ""), labels.get("endpoint", "")
                    phases[*whose, process.phase] += 1
                    unconfined[whose] += sandbox.is_open(process.sandbox)
        for key in metrics.snapshot().matching("stoker_replicas"):
            project, endpoint, phase = key.labels
            metrics.gauge("stoker_replicas", project=project, endpoint=endpoint, phase=phase).set(0.0)
        for (project, endpoint, phase), count in phases.items():
            metrics.gauge("stoker_replicas", project=project, endpoint=endpoint, phase=phase).set(float(count))
        for key in metrics.snapshot().matching("stoker_replicas_unconfined"):
            unconfined[key.labels[0], key.labels[1]] += 0
        for (project, endpoint), count in unconfined.items():
            metrics.gauge("stoker_replicas_unconfined", project=project, endpoint=endpoint).set(float(count))
        version = self._routes.table.version
        metrics.gauge("stoker_route_table_version", process=metrics.process).set(float(version))
        metrics.gauge("stoker_history_series").set(float(self._history.series_count))
        metrics.gauge("stoker_history_bytes").set(float(self._history.bytes_used))
        _count(metrics.counter("stoker_history_refused_total"), self._history.refused)
        _count(metrics.counter("stoker_history_failures_total"), self._history.failures)


def _count(counter: Counter, total: int) -> None:
    """Bring a counter to what was counted elsewhere."""
    counter.add(max(total - counter.value, 0.0))
