"""OpenSLO documents on their way to the platform: each becomes an objective of the endpoint it names."""

from typing import Any, Final

import msgspec

from stoker.client import endpoints
from stoker.client.control import ControlClient
from stoker.client.views import ApplyResult
from stoker.protocol import manifest, openslo, yamltree
from stoker.types.errors import Conflict, InvalidInput, PreconditionFailed
from stoker.types.ids import DEFAULT_PROJECT
from stoker.types.resources import Endpoint
from stoker.types.slos import Objective

TRIES_MAX: Final = 20  # each after somebody else's change came in between
ENDPOINTS_MAX: Final = 100  # whose tags one request holds
_PROJECT: Final = "stoker.dev/project"


def applied(
    control: ControlClient, text: bytes, *, dry_run: bool = False, over_budget: bool = False
) -> tuple[ApplyResult, ...]:
    """Apply documents of OpenSLO to the endpoints that they name, and nothing that others change meanwhile.

    Raises Conflict where others change these endpoints without end; and what `translated` and `apply` do.
    """
    for _ in range(TRIES_MAX):
        manifests, tags = translated(control, text)
        try:
            return control.apply(manifests, dry_run=dry_run, over_budget=over_budget, tags=tags)
        except PreconditionFailed:
            continue
    raise Conflict(
        f"the endpoints were changed by others {TRIES_MAX} times meanwhile; nothing was applied, run it again"
    )


def translated(control: ControlClient, text: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return the endpoints that documents of OpenSLO mean, as manifests, and their tags; other text as it is.

    Raises InvalidInput for what cannot be mapped, NotFound for an endpoint that is not there.
    """
    trees, faults = yamltree.parse(text)
    documents = [yamltree.plain(tree) for tree in trees]
    if faults or not any(openslo.is_one(each) for each in documents):
        return text, ()
    if not all(openslo.is_one(each) for each in documents):
        raise InvalidInput(
            "OpenSLO documents and stoker's own manifests cannot be mixed; apply them one after the other"
        )
    found: dict[tuple[str, str], Endpoint] = {}
    tags = []
    for document in documents:
        kind = document.get("kind")
        if kind == "AlertPolicy":
            _check_policy(document)
            continue
        if kind != "SLO":
            raise InvalidInput(f"{kind} of OpenSLO cannot be mapped; SLO and AlertPolicy are read", field="kind")
        service, objective = openslo.objective(document)
        key = (str(openslo.annotations_of(document).get(_PROJECT, DEFAULT_PROJECT)), service)
        if key not in found:
            if len(found) == ENDPOINTS_MAX:
                raise InvalidInput(f"they name more than {ENDPOINTS_MAX} endpoints; apply them in several parts")
            detail, tag = endpoints.read(control, *key)
            found[key] = detail.resource
            tags.append(tag)
        found[key] = _with(found[key], objective)
    return manifest.to_yaml(list(found.values()), defaults=False).encode(), tuple(filter(None, tags))


def _with(endpoint: Endpoint, objective: Objective) -> Endpoint:
    """Return the endpoint with the objective in the place of the one of its name; what OpenSLO cannot say is kept."""
    old = next((each for each in endpoint.spec.slos if each.name == objective.name), None)
    if old is not None:
        objective = msgspec.structs.replace(objective, policy=old.policy)
    slos = [objective if each.name == objective.name else each for each in endpoint.spec.slos]
    if old is None:
        slos.append(objective)
    return msgspec.structs.replace(endpoint, spec=msgspec.structs.replace(endpoint.spec, slos=tuple(slos)))


def _check_policy(document: dict[str, Any]) -> None:
    """Accept a policy of burn rates: stoker's own rules stand for it. Raises InvalidInput for another kind."""
    spec = document.get("spec")
    for each in spec.get("conditions", ()) if isinstance(spec, dict) else ():
        inner = each.get("spec", {}) if isinstance(each, dict) else {}
        kind = inner.get("condition", {}).get("kind", "burnrate")
        if kind != "burnrate":
            raise InvalidInput(
                f"a condition of kind {kind!r} cannot be mapped; only burnrate is", field="spec.conditions"
            )
