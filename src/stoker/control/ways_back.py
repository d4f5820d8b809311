"""The way back to what served before, asked for by a person, an incident or a program; nothing is in its way.

The loop acts on what is written here: an order to abort, or a spec that asks for the earlier revision and a rollout
without steps that leads there (core/rollout).
"""

from collections.abc import Container, Sequence
from typing import Final

import msgspec

from stoker.core.refs import ModelRef
from stoker.core.revisions import ServingConfig, serving_config
from stoker.core.rollout.release import REJECTED
from stoker.core.rollout.state import Entry, RolloutState
from stoker.core.rollout.table import after
from stoker.core.secrets import is_scrubbed, restored
from stoker.core.snapshot import EndpointState, Revision
from stoker.store import endpoints, journal, models, releases, revisions, rollouts
from stoker.store.engine import Connection
from stoker.types.errors import Conflict, NotFound
from stoker.types.ids import RevisionId
from stoker.types.models import ModelVersion
from stoker.types.resources import Batching, EndpointSpec, Resources
from stoker.types.units import parse_bytes

ROLL_BACK: Final = "asked to roll back"


def rollback(connection: Connection, project: str, name: str, to: int | None, now_s: float) -> None:
    """Ask again for what an earlier revision was: the one that served before, or number `to`.

    A rollout that runs is aborted, if no other revision is named. Nothing is checked on the way back: no gate, no
    budget, no step. Raises NotFound for an unknown endpoint or revision, Conflict when there is no earlier one.
    """
    endpoint = endpoints.get(connection, project, name)
    running = _running(connection, endpoint)
    if to is None and running is not None and after(running.phase, "abort") is not None:
        rollouts.order(connection, running.number, "abort", ROLL_BACK)
        journal.add(connection, journal.Entry(now_s, "Rollback", ROLL_BACK, project, name, running.canary))
        return
    history = revisions.everything(connection, project, name)
    if to is None:
        past = [each.state for each in rollouts.everything(connection, project, name)]
        chosen = earlier(endpoint, history, past, releases.served(connection, project, name))
        if chosen is None:
            raise Conflict(f"endpoint {name!r} has no earlier revision that served; name one with --to")
    else:
        found = next((each for each in history if each.number == to), None)
        if found is None:
            known = ", ".join(str(each.number) for each in history) or "none"
            raise NotFound(f"endpoint {name!r} has no revision {to}; kept are: {known}", field="to")
        chosen = found
    is_whole = not is_scrubbed(chosen.config.options, chosen.config.env)
    spec = asking_for(endpoint.resource.spec, chosen.config, _version(connection, chosen.config))
    resource = msgspec.structs.replace(endpoint.resource, spec=spec)
    endpoints.put(connection, resource, 0, now_s)
    because = f"asked to return to {chosen.revision} (model {chosen.config.ref})"
    if not is_whole:
        because += ", as a new revision: it held a secret in clear, which is not kept; the present one stands for it"
    elif endpoint.serving and endpoint.serving != chosen.revision:
        _go_back(connection, endpoint, running, chosen.revision, because, now_s)
    journal.add(connection, journal.Entry(now_s, "Rollback", because, project, name, chosen.revision))


def earlier(
    endpoint: EndpointState, history: Sequence[Revision], past: Sequence[RolloutState], served: Container[str]
) -> Revision | None:
    """Return the revision that served before the one that does; never one that was taken back or refused.

    Where the spec asks for one that was taken back, that is what serves: asking for it makes the spec agree. `past`:
    rollouts, newest first; of a time before there were any, the newest of those that `served` before the present
    one; any, where none did yet.
    """
    known = {each.revision: each for each in history}
    if endpoint.serving and endpoint.status.revision != endpoint.serving:
        return known.get(RevisionId(endpoint.serving))
    arrived = (each for each in past if each.canary == endpoint.serving and not each.is_return)
    before = next((each.baseline for each in arrived if each.phase == "promoted"), "")
    if before in known:
        return known[RevisionId(before)]
    newest = {each.canary: each.phase for each in reversed(past)}
    present = known.get(RevisionId(endpoint.serving or endpoint.status.revision))
    able = [
        each
        for each in history
        if (each.revision in served or not endpoint.serving)
        and (present is None or each.number < present.number)
        and newest.get(each.revision) not in REJECTED
    ]
    return max(able, key=lambda each: each.number, default=None)


def _running(connection: Connection, endpoint: EndpointState) -> RolloutState | None:
    newest = rollouts.latest(connection, endpoint.project, endpoint.name)
    return newest.state if newest is not None and not newest.state.is_ended else None


def _go_back(
    connection: Connection,
    endpoint: EndpointState,
    running: RolloutState | None,
    to: str,
    because: str,
    now_s: float,
) -> None:
    """Begin the way back to revision `to`, in the place of the rollout that runs."""
    if running is not None:
        ended = msgspec.structs.replace(running, phase="superseded", weight=0, because=because, ended_s=now_s)
        rollouts.keep(connection, ended, (Entry(now_s, "superseded", "superseded", because),))
    replicas = revisions.assignments(connection, endpoint.project, endpoint.name)
    state = RolloutState(
        project=endpoint.project,
        endpoint=endpoint.name,
        baseline=endpoint.serving,
        canary=to,
        spec=endpoint.resource.spec.rollout,
        strategy="direct",
        phase="scaling",
        because=because,
        began_s=now_s,
        since_s=now_s,
        baseline_count=sum(each.revision == endpoint.serving and each.phase == "wanted" for each in replicas),
        is_return=True,
    )
    rollouts.keep(connection, state, (Entry(now_s, "began", "scaling", because),))


def asking_for(spec: EndpointSpec, config: ServingConfig, version: ModelVersion | None) -> EndpointSpec:
    """Return `spec` with everything that makes a revision taken from `config`; secrets not kept in it are its own.

    What `version`, the one of `config`, says by itself (task, engine, options) is left to it: pinned here it would
    hold for every later version too, also one of another format.
    """
    limits = msgspec.structs.replace(
        spec.limits,
        max_body=_as_written(spec.limits.max_body, config.max_body_bytes),
        concurrency=config.concurrency,
    )
    memory = _as_written(spec.resources.memory, config.memory_bytes)
    back = msgspec.structs.replace(
        spec,
        model=config.ref,
        task=config.task,
        engine=config.engine,
        goal=config.goal or spec.goal,
        options=restored(config.options, spec.options),
        mapping=config.mapping,
        env=restored(config.env, spec.env),
        resources=Resources(cpu=config.cpu, memory=memory, gpu=config.gpu),
        placement=msgspec.structs.replace(spec.placement, pool=config.pool),
        batching=Batching(
            max_rows=config.max_rows,
            max_bytes=_as_written(spec.batching.max_bytes, config.max_bytes),
            pad=config.pad,
        ),
        limits=limits,
        sandbox=config.sandbox,
        backends=(),
    )
    return back if version is None else _unpinned(back, spec, version)


def _unpinned(back: EndpointSpec, now: EndpointSpec, version: ModelVersion) -> EndpointSpec:
    """Return `back` with what `version` says by itself left as it is `now`, where that means the same of it."""
    pinned = serving_config(back, version)
    own = {name: value for name, value in back.options.items() if version.manifest.options.get(name) != value}
    for looser in ({"task": now.task}, {"engine": now.engine}, {"options": own}):
        tried = msgspec.structs.replace(back, **looser)
        if serving_config(tried, version) == pinned:
            back = tried
    return back


def _as_written(text: str | int, count: int) -> str | int:
    """Return a size as the spec has it, where that is the same."""
    return text if parse_bytes(text) == count else count


def _version(connection: Connection, config: ServingConfig) -> ModelVersion | None:
    return models.resolve(connection, ModelRef(config.model, config.number))
