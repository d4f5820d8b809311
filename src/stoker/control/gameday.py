"""Faults on purpose, as control lets them happen: only where the manifest allows it, and never into an incident.

What is done is in the journal before it is done. A fault ends by the agent's clock; `end` is for those who are done
sooner, and for those who only send load.
"""

import time
from typing import Final

import msgspec

from stoker.control.plane import ControlPlane
from stoker.core.diagnose import incident as life
from stoker.core.snapshot import EndpointState
from stoker.store import endpoints, incidents, journal
from stoker.store.engine import Connection
from stoker.store.leases import Lease
from stoker.types.errors import Conflict, NotFound, StokerError, Unavailable
from stoker.types.faults import Fault

BECAUSE_MAX: Final = 300  # characters of an outcome in the journal


class Begin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is about to be done. `fault` goes into `replica`; without one only load comes, for at most `seconds`."""

    scenario: str
    seconds: float = 60.0
    replica: str = ""
    fault: Fault | None = None
    force: bool = False


async def begin(plane: ControlPlane, project: str, name: str, asked: Begin) -> None:
    """Write it down, then put the fault in. Raises Conflict, NotFound or Unavailable."""
    lease = _lease(plane)
    await plane.database.reading(lambda each: _refuse(each, endpoints.get(each, project, name), is_forced=asked.force))
    if _faulty(plane, project, name):
        raise Conflict(f"{project}/{name} has a game day already; wait until it is over")
    node = _node_of(plane, project, name, asked.replica) if asked.fault is not None else ""
    await plane.incidents.written(lambda connection: _begin(connection, project, name, asked))
    if asked.fault is None:
        return
    try:
        await plane.driver.inject(node, asked.replica, asked.fault, lease.token)
    except StokerError as refused:
        because = f"it did not begin: {refused.message}"
        await plane.incidents.written(lambda connection: _end(connection, project, name, because[:BECAUSE_MAX]))
        raise


async def end(plane: ControlPlane, project: str, name: str, because: str) -> None:
    """End the faults in an endpoint's replicas, and note the outcome in the journal and in its newest incident."""
    lease = _lease(plane)
    await plane.database.reading(lambda connection: endpoints.get(connection, project, name))
    for node, replica in _faulty(plane, project, name):
        await plane.driver.end_fault(node, replica, lease.token)
    await plane.incidents.written(lambda connection: _end(connection, project, name, because[:BECAUSE_MAX]))


def _begin(connection: Connection, project: str, name: str, asked: Begin) -> None:
    state = endpoints.get(connection, project, name)
    _refuse(connection, state, is_forced=asked.force)
    fault = asked.fault
    what = f"{asked.scenario}: {fault.kind} for at most {fault.seconds:g} s" if fault is not None else asked.scenario
    now_s = time.time()
    because = what if fault is not None else f"{what}: load for at most {asked.seconds:g} s"
    journal.add(connection, journal.Entry(now_s, "GamedayBegan", because, project, name, asked.replica))
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
    last = incidents.last_of(connection, state.project, state.name)
    if last is not None and last.is_open and not is_forced:
        raise Conflict(f"incident {last.number} is open at {whose}; wait until it is over, or insist with --force")


def _end(connection: Connection, project: str, name: str, because: str) -> None:
    now_s = time.time()
    journal.add(connection, journal.Entry(now_s, "GamedayEnded", because, project, name))
    last = incidents.last_of(connection, project, name)
    if last is not None and last.is_open:
        incidents.put(connection, life.noted(last, f"game day ended: {because}", now_s))


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
