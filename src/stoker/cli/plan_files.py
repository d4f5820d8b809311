"""What `stoker plan` is given in files: the endpoint's manifest, how its engine takes time, what replicas cost."""

from pathlib import Path
from typing import Final

from stoker.cli.values import file_bytes
from stoker.protocol import manifest
from stoker.protocol.manifest import load_struct
from stoker.sim import document
from stoker.sim.platform.plan import Engine
from stoker.sim.sizing import prices
from stoker.types.errors import InvalidInput, NotFound
from stoker.types.resources import Endpoint, EndpointSpec

ENGINES: Final = ("places", "batches", "language")


def spec(file: Path | None, endpoint: str | None) -> EndpointSpec:
    """Return what the manifest says of the endpoint; without one an endpoint as it is by default."""
    if file is None:
        return EndpointSpec()
    found = [each for each in manifest.load(file_bytes(file)) if isinstance(each, Endpoint)]
    names = [str(each.metadata.name) for each in found]
    if endpoint is None and len(found) != 1:
        raise InvalidInput(f"{file} has {len(found)} endpoints; say which one ({', '.join(names) or 'none'})")
    for each in found:
        if endpoint in (None, each.metadata.name):
            return each.spec
    raise NotFound(f"{file} has no endpoint {endpoint}; it has {', '.join(names) or 'none'}")


def engine(said: str) -> Engine:
    """Return the engine of a file, or one of ENGINES as it is by default."""
    match said:
        case "places":
            return document.engine_of(document.Engine(places=document.Places()), said)
        case "batches":
            return document.engine_of(document.Engine(batches=document.Batches()), said)
        case "language":
            return document.engine_of(document.Engine(language=document.Language()), said)
    if not Path(said).exists() and Path(said).suffix not in (".yaml", ".yml", ".json"):
        raise InvalidInput(f"{said!r} is neither a file nor an engine; there are {', '.join(ENGINES)}")
    try:
        return document.engine_of(load_struct(file_bytes(Path(said)), document.Engine), said)
    except ValueError as wrong:
        raise InvalidInput(f"{said}: {wrong}") from wrong


def pools(file: Path | None) -> tuple[prices.Pool, ...]:
    """Return the pools of a price list; without one a pool of which every replica costs the same."""
    return (prices.UNPRICED,) if file is None else prices.checked(load_struct(file_bytes(file), prices.PriceList))
