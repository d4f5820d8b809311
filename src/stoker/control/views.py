"""What the API shows of endpoints: the stored status, with what the nodes say of each replica now."""

import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from stoker.client.views import EndpointDetail, JournalEntry, ReplicaView, RevisionView
from stoker.control import steering
from stoker.control.observe import Observer
from stoker.control.ports import Folders
from stoker.control.replicas import choice_file
from stoker.core import loading
from stoker.core.shapes import uses
from stoker.core.snapshot import Assignment, EndpointState, Revision
from stoker.core.starts import summarise
from stoker.store import endpoints, journal, revisions, shapes, starts
from stoker.store.engine import Connection
from stoker.store.journal import Entry
from stoker.types.engines import EngineChoice
from stoker.types.loading import Progress, Seen
from stoker.types.process import ProcessStatus
from stoker.types.routes import RouteTable
from stoker.types.statuses import EndpointView

JOURNAL_SHOWN = 20


def endpoint_view(state: EndpointState, observer: Observer, table: RouteTable) -> EndpointView:
    """Return an endpoint as lists show it."""
    return EndpointView(
        state.name, state.project, state.generation, state.resource, state.status, starting(state, observer, table)
    )


def endpoint_detail(
    connection: Connection, observer: Observer, folders: Folders, table: RouteTable, project: str, name: str
) -> EndpointDetail:
    """Return an endpoint with revisions (newest first), replicas and its last decisions. Raises NotFound."""
    state = endpoints.get(connection, project, name)
    history = revisions.everything(connection, project, name)
    return EndpointDetail(
        name=state.name,
        project=state.project,
        generation=state.generation,
        resource=state.resource,
        status=state.status,
        progress=starting(state, observer, table),
        revisions=tuple(_revision(each, state.serving) for each in reversed(history)),
        replicas=tuple(
            _replica(each, observer, folders, table) for each in revisions.assignments(connection, project, name)
        ),
        journal=tuple(journal_views(journal.last(connection, JOURNAL_SHOWN, project, name))),
        rollout=steering.running(connection).get(state.key),
        starts=summarise(starts.of_endpoint(connection, project, name)),
        shapes=uses(shapes.of_endpoint(connection, project, name)),
    )


def journal_views(entries: Iterable[Entry]) -> list[JournalEntry]:
    """Return entries as the API shows them."""
    return [
        JournalEntry(
            at_s=entry.at_s,
            endpoint=f"{entry.project}/{entry.endpoint}" if entry.endpoint else "",
            action=f"{entry.action} {entry.subject}".rstrip(),
            because=entry.because,
        )
        for entry in entries
    ]


def _revision(revision: Revision, serving: str) -> RevisionView:
    return RevisionView(
        revision=revision.revision,
        number=revision.number,
        model=revision.config.ref,
        created_at_s=revision.created_at_s,
        serving=revision.revision == serving,
    )


def starting(state: EndpointState, observer: Observer, table: RouteTable) -> Progress:
    """Return how far the replica is that will be ready first, while none of the endpoint is."""
    if state.status.replicas_ready:
        return Progress()
    mine = (
        _progress(each, table)
        for status in observer.statuses
        for each in status.processes
        if (each.labels.get("project"), each.labels.get("endpoint")) == state.key
    )
    return max(mine, key=lambda each: (bool(each.words), each.fraction), default=Progress())


def _progress(process: ProcessStatus, table: RouteTable) -> Progress:
    """Return how far a replica is with its start, by what `table` says of the starts before."""
    if process.phase not in ("starting", "loading"):
        return Progress()
    whose = process.labels.get("project"), process.labels.get("endpoint")
    usual = next((each.start for each in table.endpoints if (each.project, each.endpoint) == whose), ())
    since_s = process.started_at_s + sum(process.phases.values())
    seen = Seen(
        stage=process.progress.stage,
        stage_s=max(time.time() - since_s, 0.0),
        fraction=process.progress.fraction,
        over=process.phases,
        answers=process.phase == "loading",
    )
    found = loading.far(usual, seen)
    ratio = seen.fraction if found.ratio is None else found.ratio
    return Progress(found.stage, ratio, None if found.is_late else found.left_s, loading.words(found))


def _replica(assignment: Assignment, observer: Observer, folders: Folders, table: RouteTable) -> ReplicaView:
    process = observer.process(assignment.node, assignment.replica)
    if process is None:
        phase = "starting" if assignment.phase == "wanted" else assignment.phase
        return ReplicaView(assignment.replica, assignment.revision, phase, assignment.node, gpus=assignment.gpus)
    return ReplicaView(
        replica=assignment.replica,
        revision=assignment.revision,
        phase="draining" if assignment.phase == "draining" else process.phase,
        node=assignment.node,
        restarts=process.restarts,
        last_error=process.last_error,
        progress=_progress(process, table),
        rss_bytes=process.rss_bytes,
        engine=process.engine,
        choice=_choice(choice_file(folders, assignment.replica)),
        gpus=assignment.gpus,
    )


def _choice(path: Path) -> EngineChoice | None:
    """Return what a replica on this machine wrote of its engine, None when it chose none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=EngineChoice)
    except (OSError, msgspec.DecodeError):
        return None
