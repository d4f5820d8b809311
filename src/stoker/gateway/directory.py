"""The route table as the data plane asks it: which key, which endpoint, which replicas. Followed, never waited for."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Final

from stoker.core.access import matches
from stoker.core.fallback import DEPTH_MAX
from stoker.core.guesses import Guesses
from stoker.gateway.lane import Convicted, Lane
from stoker.gateway.loads import load
from stoker.gateway.meters import Meters
from stoker.gateway.reverts import Reverts
from stoker.gateway.tokens import NONE, TOKEN_CACHED_BYTES, Tokens
from stoker.telemetry.metrics import Registry
from stoker.types.errors import NotFound, RateLimited, StokerError, Unauthenticated
from stoker.types.rollouts import RolloutCounts
from stoker.types.routes import KeyRoute, RouteTable
from stoker.types.scaling import LaneLoad

KEYS_CACHED_MAX: Final = 4096
KEY_MAX_BYTES: Final = 256
# A body whose endpoint is only known from its own text may be as large as any endpoint's; at least this.
BODY_MIN_BYTES: Final = 1 << 20


class Directory:
    """Lanes and keys of the newest table.

    Args:
        convicted: told of each request whose like this gateway puts into quarantine.
        gateways: how many processes share the replicas.
        asleep: told when somebody waits at an endpoint that sleeps.
        tokens: verifies what has the form of a token; without it none is taken.
        tell: told when somebody waits, where there are other gateways.
    """

    def __init__(
        self,
        registry: Registry,
        convicted: Convicted,
        gateways: int = 1,
        reverts: Reverts | None = None,
        asleep: Callable[[], None] = lambda: None,
        tokens: Tokens | None = None,
        tell: Callable[[Lane], None] | None = None,
    ) -> None:
        self._tell = tell
        self._tokens = tokens
        self._asleep = asleep
        self._gateways = gateways
        self._reverts = reverts or Reverts()
        self.version = -1
        self.body_max_bytes = BODY_MIN_BYTES
        self._registry = registry
        self._convicted = convicted
        self.headers: set[bytes] = (
            set()
        )  # that rollouts tell requests apart by; the others that nobody reads are dropped
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._keys: dict[str, KeyRoute] = {}
        self.used: set[str] = set()  # ids of keys, until control asks; at most as many as there are keys
        self.guesses = Guesses()
        self._known: dict[bytes, KeyRoute] = {}  # callers seen since the last table, so that most are one look-up

    def __iter__(self) -> Iterator[Lane]:
        return iter(list(self._lanes.values()))

    def apply(self, table: RouteTable) -> bool:
        """Follow `table`; False when it is not newer than what is followed already."""
        if table.version <= self.version:
            return False
        self.version = table.version
        self._keys = {key.sha256: key for key in table.keys}
        if self._tokens is not None:
            self._tokens.follow(table.providers)
        self._known = {}
        self.guesses.forgive(self._is_good)
        wanted = {(str(endpoint.project), str(endpoint.endpoint)): endpoint for endpoint in table.endpoints}
        for name in [name for name in self._lanes if name not in wanted]:
            lane = self._lanes.pop(name)
            lane.close()
            lane.meters.let_go()
            self._reverts.drop(*name)
            self._registry.forget(project=name[0], endpoint=name[1])
        for name, endpoint in wanted.items():
            known = self._lanes.get(name)
            if known is None:
                self._lanes[name] = Lane(
                    endpoint,
                    Meters(self._registry, *name),
                    self._convicted,
                    self._gateways,
                    self._reverts,
                    self._asleep,
                    self._tell,
                )
            else:
                known.update(endpoint)
        self.headers.clear()
        self.headers.update(*(lane.arms.headers for lane in self._lanes.values() if lane.arms is not None))
        self.body_max_bytes = max((each.max_body_bytes for each in table.endpoints), default=BODY_MIN_BYTES)
        return True

    def take_used(self) -> list[str]:
        """Return the ids of the keys that were used since the last call, each once."""
        used, self.used = self.used, set()
        return sorted(used)

    def refused(self, address: str, text: bytes = b"") -> StokerError:
        """Count a key that is none, with that whole text, offered from `address`; return what is said to it."""
        wait_s = self.guesses.failed(address, time.monotonic(), _digest(text)) if address else 0.0
        if wait_s:
            self._registry.counter("stoker_guesses_refused_total", process=self._registry.process).add()
            return RateLimited(
                "too many keys from this address were none; wait, then send the right one", retry_after_s=wait_s
            )
        return Unauthenticated(NONE)

    def find_key(self, text: bytes, address: str = "") -> KeyRoute | None:
        """Return the key, or the owner of the token, whose whole text is `text`; it may have expired.

        A token that was not seen yet is not verified for an `address` that has to wait. Raises Unavailable while its
        provider is asked for the key that signed it.
        """
        found = self._known.get(text)
        if found is not None:
            return found
        if self._tokens is not None and text.count(b".") == 2:
            if not address or not self.guesses.wait_s(address, time.monotonic()) or self._tokens.knows(text):
                found = self._tokens.find(text)
        elif 0 < len(text) <= KEY_MAX_BYTES:
            found = self._keys.get(_digest(text))
        if found is not None:
            self._remember(text, found)
        return found

    def find_bearer(self, value: bytes, address: str) -> KeyRoute | None:
        """Return who the value of an `authorization` header is of, as `find_key` does of what follows `Bearer `.

        The whole value is remembered: a head that comes again brings the same object, whose hash is known, however
        long the token is.
        """
        found = self._known.get(value)
        if found is None:
            found = self.find_key(value[7:].strip(), address)
            if found is not None:
                self._remember(value, found)
        return found

    def _is_good(self, digest: str) -> bool:
        found = self._keys.get(digest)
        return found is not None and not 0 < found.expires_at_s <= time.time()

    def _remember(self, value: bytes, found: KeyRoute) -> None:
        if len(value) <= TOKEN_CACHED_BYTES:
            if len(self._known) >= KEYS_CACHED_MAX:
                self._known.clear()
            self._known[value] = found

    def find(self, project: str, name: str, key: KeyRoute) -> Lane:
        """Return the lane of `name`, which an admin may write as `project/endpoint`. Raises NotFound, always alike.

        Whether the key is for an endpoint of that name is asked before anything is looked up: it takes as long for
        what is there as for what is not.
        """
        lane = self._lanes.get((project, name)) if reaches(key, name) else None
        if lane is None and "/" in name:
            other, _, bare = name.partition("/")
            if (key.is_admin or other == key.project or other in key.projects) and reaches(key, bare):
                lane = self._lanes.get((other, bare))
        if lane is None:
            raise NotFound(f"there is no endpoint {name[:256]!r} that this key may call", field="model")
        return lane

    def visible(self, project: str, key: KeyRoute) -> list[tuple[str, Lane]]:
        """Return names and lanes that the caller may use: its project's, and for an admin all others' in full."""
        found = [each for each in sorted(self._lanes.items()) if reaches(key, each[0][1])]
        own = [(name, lane) for (owner, name), lane in found if owner == project]
        if not key.is_admin and not key.projects:
            return own
        others = [each for each in found if each[0][0] != project]
        mine = (key.project, *key.projects)
        return own + [(f"{owner}/{name}", lane) for (owner, name), lane in others if key.is_admin or owner in mine]

    def lane(self, project: str, name: str) -> Lane | None:
        """Return a lane by its exact name."""
        return self._lanes.get((project, name))

    def rollouts(self) -> list[RolloutCounts]:
        """Return what was counted of every rollout that runs, and which endpoints went back without one."""
        found = []
        for (project, endpoint), lane in self._lanes.items():
            if lane.arms is not None:
                found.append(lane.arms.counts(project, endpoint))
            elif lane.reverted is not None:
                told = lane.reverted.because
                found.append(RolloutCounts(0, reverted=told, project=project, endpoint=endpoint))
        return found

    def loads(self) -> list[LaneLoad]:
        """Return what scaling is told of every endpoint with replicas of its own."""
        return [load(lane) for lane in self._lanes.values() if lane.tier is None]

    def leaves(self, lane: Lane) -> list[Lane]:
        """Return the lanes with replicas that serve for `lane`: itself, or its backends', each once."""
        if lane.tier is None:
            return [lane]
        found: dict[str, Lane] = {lane.route.endpoint: lane}
        for _ in range(DEPTH_MAX):
            if not any(each.tier is not None for each in found.values()):
                break
            names = [
                name
                for here, each in found.items()
                for name in ([here] if each.tier is None else [backend.endpoint for backend in each.tier.backends])
            ]
            known = ((name, self._lanes.get((lane.route.project, name))) for name in names)
            found = {name: each for name, each in known if each is not None}
        return [each for each in found.values() if each.tier is None]

    def body_limit(self, project: str, name: str, key: KeyRoute) -> int:
        """Return the largest body the endpoint takes; without a name that the key may know, the largest any takes."""
        lane = self._lanes.get((project, name)) if reaches(key, name) else None
        return lane.route.max_body_bytes if lane is not None else self.body_max_bytes

    async def close(self) -> None:
        """Drop every connection."""
        replicas = [replica for lane in self._lanes.values() for replica in lane.close()]
        self._lanes = {}
        await asyncio.gather(*(replica.close() for replica in replicas))


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def reaches(key: KeyRoute, endpoint: str) -> bool:
    """Return whether a key is for an endpoint of that name: for all, most are."""
    return not key.endpoints or matches(endpoint, key.endpoints)
