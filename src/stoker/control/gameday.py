"""Faults on purpose, as control lets them happen: only where the manifest allows it, and never into an incident.

What is done is in the journal before it is done. A fault ends by the agent's clock; `end` is for those who are done
sooner, and for those who only send load. A bad revision is a variable in the endpoint's environment: its replicas are
good from its time on, and control takes it out then (`watch`), or the next control does.
"""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from stoker.control.plane import ControlPlane
from stoker.core.diagnose import incident as life
from stoker.core.gameday import BY_NAME
from stoker.core.snapshot import EndpointState
from stoker.store import endpoints, incidents, journal
from stoker.store.engine import Connection
from stoker.store.leases import Lease
from stoker.types.errors import Conflict, InvalidInput, NotFound, StokerError, Unavailable
from stoker.types.faults import BAD_REVISION, FAULT_MAX_S, BadRevision, Fault
from stoker.types.ids import EndpointName, ProjectName

BECAUSE_MAX: Final = 300  # characters of an outcome in the journal
REPLICAS_MAX: Final = 64  # that one fault is put into
LOOK_EVERY_S: Final = 5.0  # for bad revisions whose time is over
log = logging.getLogger(__name__)


class Begin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is about to be done, for at most `seconds`.

    `fault` goes into each of `replicas`; with `bad_revision` a revision goes out that fails some of its requests; with
    neither only load comes.
    """

    scenario: Annotated[str, Meta(extra_json_schema={"enum": list(BY_NAME)})]
    seconds: Annotated[float, Meta(gt=0, le=FAULT_MAX_S)] = 60.0
    replicas: tuple[str, ...] = ()
    fault: Fault | None = None
    bad_revision: bool = False
    force: bool = False


async def begin(plane: ControlPlane, project: str, name: str, asked: Begin) -> None:
    """Write it down, then do it. Raises Conflict, InvalidInput, NotFound or Unavailable; nothing is left then."""
    fence = _lease(plane).token
    if asked.fault is not None and not 1 <= len(asked.replicas) <= REPLICAS_MAX:
        raise InvalidInput(f"a fault is put into 1 to {REPLICAS_MAX} replicas", field="replicas")
    await plane.database.reading(lambda each: _refuse(each, endpoints.get(each, project, name), is_forced=asked.force))
    if _faulty(plane, project, name):
        raise Conflict(f"{project}/{name} has a game day already; wait until it is over")
    frozen = plane.watch.frozen.get((ProjectName(project), EndpointName(name)), "")
    if asked.bad_revision and frozen:
        raise Conflict(f"rollouts of {project}/{name} are frozen: {frozen}")
    nodes = {each: _node_of(plane, project, name, each) for each in asked.replicas} if asked.fault is not None else {}
    await plane.incidents.written(lambda connection: _begin(connection, project, name, asked))
    plane.loop.wake()
    if asked.fault is None:
        return
    try:
        for replica, node in nodes.items():
            await plane.driver.inject(node, replica, asked.fault, fence)
    except StokerError as refused:
        because = f"it did not begin: {refused.message}"
        for replica, node in nodes.items():
            with suppress(StokerError):  # of a node that does not answer; the fault ends by its own clock
                await plane.driver.end_fault(node, replica, fence)
        await plane.incidents.written(lambda connection: _end(connection, project, name, because[:BECAUSE_MAX]))
        raise


async def end(plane: ControlPlane, project: str, name: str, because: str) -> None:
    """End what was begun, and note the outcome in the journal and in the endpoint's newest incident."""
    fence = _lease(plane).token
    await plane.database.reading(lambda connection: endpoints.get(connection, project, name))
    for node, replica in _faulty(plane, project, name):
        await plane.driver.end_fault(node, replica, fence)
    await plane.incidents.written(lambda connection: _end(connection, project, name, because[:BECAUSE_MAX]))
    plane.loop.wake()


async def watch(plane: ControlPlane) -> None:
    """Take bad revisions back whose time is over and whose command is gone; returns only by cancellation."""
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        try:
            overdue = await plane.database.reading(_overdue) if plane.loop.lease is not None else []
            if overdue:
                await plane.incidents.written(_end_overdue)
                plane.loop.wake()
        except Exception:  # a full disk, say: a look that fails must not end the control of all endpoints
            log.exception("a bad revision could not be taken back; it is tried again")


def _begin(connection: Connection, project: str, name: str, asked: Begin) -> None:
    state = endpoints.get(connection, project, name)
    _refuse(connection, state, is_forced=asked.force)
    fault = asked.fault
    because = f"{asked.scenario}: load for at most {asked.seconds:g} s"
    now_s = time.time()
    if fault is not None:
        because = f"{asked.scenario}: {fault.kind} for at most {fault.seconds:g} s in {', '.join(asked.replicas)}"
    elif asked.bad_revision:
        because = f"{asked.scenario}: a revision that fails, for at most {asked.seconds:g} s"
        bad = msgspec.json.encode(BadRevision(now_s + asked.seconds)).decode()
        _put_environment(connection, state, {**state.resource.spec.env, BAD_REVISION: bad}, now_s)
    because = because[:BECAUSE_MAX]
    journal.add(connection, journal.Entry(now_s, "GamedayBegan", because, project, name))
    open_one = incidents.last_of(connection, project, name)
    if open_one is not None and open_one.is_open:
        incidents.put(connection, life.noted(open_one, f"game day began: {because}", now_s))


def _refuse(connection: Connection, state: EndpointState, *, is_forced: bool) -> None:
    whose = f"{state.project}/{state.name}"
    if state.resource.spec.gameday != "allowed":
        raise Conflict(
            f"{whose} is not marked for game days; put `gameday: allowed` into its spec and apply it, "
            "or take another endpoint",
            field="spec.gameday",
        )
    if BAD_REVISION in state.resource.spec.env:
        raise Conflict(f"{whose} has a game day already; wait until it is over")
    last = incidents.last_of(connection, state.project, state.name)
    if last is not None and last.is_open and not is_forced:
        raise Conflict(f"incident {last.number} is open at {whose}; wait until it is over, or insist with --force")


def _end(connection: Connection, project: str, name: str, because: str) -> None:
    now_s = time.time()
    state = endpoints.get(connection, project, name)
    if BAD_REVISION in state.resource.spec.env and not state.is_deleting:
        good = {key: value for key, value in state.resource.spec.env.items() if key != BAD_REVISION}
        _put_environment(connection, state, good, now_s)
    journal.add(connection, journal.Entry(now_s, "GamedayEnded", because, project, name))
    last = incidents.last_of(connection, project, name)
    if last is not None and last.is_open:
        incidents.put(connection, life.noted(last, f"game day ended: {because}", now_s))


def _put_environment(connection: Connection, state: EndpointState, env: dict[str, str], now_s: float) -> None:
    """Change nothing of an endpoint but its environment: the revision that had this one before serves again."""
    spec = msgspec.structs.replace(state.resource.spec, env=env)
    endpoints.put(connection, msgspec.structs.replace(state.resource, spec=spec), state.pinned, now_s)


def _overdue(connection: Connection) -> list[EndpointState]:
    found = []
    for state in endpoints.everything(connection):
        text = state.resource.spec.env.get(BAD_REVISION)
        if text is None or state.is_deleting:
            continue
        try:
            until_s = msgspec.json.decode(text, type=BadRevision).until_s
        except msgspec.MsgspecError:
            continue  # somebody's own, which its replicas refuse
        if until_s < time.time():
            found.append(state)
    return found


def _end_overdue(connection: Connection) -> None:
    for state in _overdue(connection):
        _end(connection, state.project, state.name, "its time was over")


def _faulty(plane: ControlPlane, project: str, name: str) -> list[tuple[str, str]]:
    """Return the endpoint's replicas with a fault in them, each with its node."""
    return [
        (node.node, process.name)
        for node in plane.observer.statuses
        for process in node.processes
        if process.fault and _is_of(process.labels, project, name)
    ]


def _node_of(plane: ControlPlane, project: str, name: str, replica: str) -> str:
    for node in plane.observer.statuses:
        for process in node.processes:
            if process.name == replica and _is_of(process.labels, project, name):
                return node.node
    raise NotFound(f"no replica {replica!r} of {project}/{name} runs; `stoker describe endpoint {name}` lists them")


def _is_of(labels: dict[str, str], project: str, name: str) -> bool:
    return labels.get("project") == project and labels.get("endpoint") == name


def _lease(plane: ControlPlane) -> Lease:
    lease = plane.loop.lease
    if lease is None:
        raise Unavailable("control starts, or another one acts", retry_after_s=1.0)
    return lease
