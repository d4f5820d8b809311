"""The usage records that a rig's gateway has written, as its files have them."""

from stoker.gateway.usage.reading import Reader, places
from stoker.protocol.usage import decode
from stoker.types.usage import UsageRecord
from tests.gateway.rig import Rig

COUNT_MAX = 100_000


def records(rig: Rig) -> list[UsageRecord]:
    """Return every record of every incarnation."""
    found = []
    for folder in rig.home.usage.iterdir():
        batch = Reader().next(places(folder)[0], COUNT_MAX, 64 << 20) if folder.is_dir() else None
        found += [decode(each) for each in batch.payloads] if batch is not None else []
    return found
