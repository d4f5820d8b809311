"""Which endpoints this gateway gave to an earlier revision without control, kept on disk so that a restart remembers.

At most one an endpoint, and REVERTS_MAX together. What is kept is judged against each table (core/reverts.py) and
forgotten as soon as a newer one says otherwise.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

import msgspec

from stoker.core import reverts as rules
from stoker.gateway import watch
from stoker.types.rollouts import Reverted
from stoker.types.routes import EndpointRoute

REVERTS_MAX: Final = 1000

_log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(list[Reverted]).decode


class Reverts:
    """What this gateway went back to, from before a restart too. `path`: where that is kept; None: nowhere."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._kept: dict[tuple[str, str], Reverted] = {}
        self._writing: asyncio.Task[None] | None = None
        self._is_dirty = False
        if path is not None:
            self._load(path)

    def of(self, route: EndpointRoute) -> Reverted | None:
        """Return what stands under `route`; what does not any more is forgotten."""
        key = (str(route.project), str(route.endpoint))
        found = self._kept.get(key)
        if found is not None and not rules.stands(found, route):
            del self._kept[key]
            _log.info("the route table has news: no longer reverted", extra={"endpoint": key[1], "revision": found.to})
            self._save()
            return None
        return found

    def put(self, reverted: Reverted) -> None:
        """Keep one more, instead of what the endpoint had before."""
        self._kept[reverted.project, reverted.endpoint] = reverted
        while len(self._kept) > REVERTS_MAX:
            del self._kept[next(iter(self._kept))]
        _log.warning(
            "all traffic goes to an earlier revision",
            extra={"endpoint": reverted.endpoint, "revision": reverted.to, "reason": reverted.because},
        )
        self._save()

    def drop(self, project: str, endpoint: str) -> None:
        """Forget an endpoint that is gone."""
        if self._kept.pop((project, endpoint), None) is not None:
            self._save()

    def _load(self, path: Path) -> None:
        try:
            found = _decode(path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as broken:
            _log.warning("the kept reverts cannot be read", extra={"path": str(path), "reason": str(broken)})
            return
        self._kept = {(each.project, each.endpoint): each for each in found[:REVERTS_MAX]}

    def _save(self) -> None:
        self._is_dirty = True
        if self._path is not None and (self._writing is None or self._writing.done()):
            self._writing = asyncio.get_running_loop().create_task(self._write(self._path))

    async def _write(self, path: Path) -> None:
        while self._is_dirty:
            self._is_dirty = False
            try:
                await asyncio.to_thread(watch.save, path, msgspec.json.encode(list(self._kept.values())))
            except OSError as full:  # it holds as long as this process lives
                _log.warning("the reverts cannot be kept", extra={"path": str(path), "reason": str(full)})
