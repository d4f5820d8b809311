"""What the API shows of an endpoint's drift: which features moved, with both histograms."""

from stoker.client.views import DriftFeature, DriftView
from stoker.control.drift.files import Learning
from stoker.core import distances, drift_window
from stoker.core.drift_window import Watched
from stoker.core.snapshot import EndpointState
from stoker.types.drift import Reference


def drift_view(
    state: EndpointState, watched: Watched, reference: Reference | None, learning: Learning | None
) -> DriftView:
    """Return the view; histograms only with the `reference` that `watched` is about."""
    window = drift_window.window(watched)
    at: dict[tuple[str, str], int] = {}
    for place, one in enumerate(reference.features if reference is not None else ()):
        at[one.side, one.name] = place
    features = []
    for shift in watched.shifts:
        before: list[float] = []
        now: list[float] = []
        number = at.get((shift.side, shift.feature))
        if reference is not None and window is not None and number is not None:
            before = distances.shares(reference.features[number].counts)
            now = distances.shares(window.slots[number])
        features.append(DriftFeature(shift, tuple(before), tuple(now)))
    return DriftView(
        project=state.project,
        endpoint=state.name,
        revision=watched.revision,
        is_watched=bool(watched.reference),
        is_drifted=watched.is_drifted,
        since_s=watched.since_s,
        because=watched.because,
        judged_s=watched.judged_s,
        triggered_s=watched.triggered_s,
        rows=watched.rows,
        refused=watched.refused,
        source=reference.source if reference is not None else "",
        source_rows=reference.rows if reference is not None else 0,
        learning_until_s=learning.until_s if learning is not None else 0.0,
        features=tuple(features),
    )
