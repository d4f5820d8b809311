"""What is wrong with where an endpoint's replicas shall run, beyond the types of its fields."""

from stoker.types.resources import Endpoint


def placement_problems(endpoint: Endpoint) -> list[tuple[str, str]]:
    """Return (field, message) of each problem."""
    found = []
    gpu = endpoint.spec.resources.gpu
    if gpu > 1 and gpu != int(gpu):
        message = f"{gpu:g} is neither a share of one GPU (below 1) nor a number of whole ones"
        found.append(("spec.resources.gpu", message))
    if endpoint.metadata.name in endpoint.spec.placement.apart:
        message = "it cannot be apart from itself; `spread: required` puts no two of its replicas on a node"
        found.append(("spec.placement.apart", message))
    return found
