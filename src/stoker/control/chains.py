"""The stored endpoints of a project as `core/chains.py` looks at them: who falls back to whom, and serves for whom."""

from stoker.control.observe import target
from stoker.core import chains
from stoker.core.revisions import ServingConfig, serving_config
from stoker.store import endpoints
from stoker.store.engine import Connection
from stoker.types.resources import EndpointSpec


def flaws(connection: Connection, project: str) -> list[chains.Flaw]:
    """Return what is wrong between the endpoints of `project`."""
    specs = _specs(connection, project)
    if not any(spec.fallback or spec.backends for spec in specs.values()):
        return []
    models: dict[str, str] = {}
    for state in endpoints.everything(connection, project):
        version = target(connection, state)
        config = serving_config(state.resource.spec, version) if version is not None else None
        if isinstance(config, ServingConfig):
            models[state.name] = config.task
    return chains.flaws(specs, models)


def users(connection: Connection, project: str, name: str) -> list[str]:
    """Return the endpoints of `project` that need `name`."""
    return chains.users(name, _specs(connection, project))


def _specs(connection: Connection, project: str) -> dict[str, EndpointSpec]:
    states = endpoints.everything(connection, project)
    return {state.name: state.resource.spec for state in states if not state.is_deleting}
