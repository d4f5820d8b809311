"""Which path and method means what. Exact paths, and the two trees that carry a model's name.

/v1/…                       OpenAI        /healthz /readyz /metrics   the process
/v2/models/M[/versions/V]…  Open Inference Protocol
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from stoker.gateway.exchange import Exchange, Handler, Shapes
from stoker.types.errors import InvalidInput, MethodNotAllowed, NotFound

if TYPE_CHECKING:
    from stoker.gateway.directory import Directory

CACHE_MAX: Final = 1024
PATH_MAX_BYTES: Final = 2048


@dataclass(frozen=True, slots=True)
class Route:
    """What a path means.

    protocol: how errors look. handle: the stack the exchange goes through. method: as in RequestHead, for inference.
    prepare: reads the request into the exchange and finds its lane, for inference.
    """

    protocol: Shapes
    handle: Handler
    method: str = ""
    prepare: "Callable[[Exchange, Directory], None] | None" = None


@dataclass(frozen=True, slots=True)
class Match:
    """A route with the names found in the path."""

    route: Route
    name: str = ""
    version: str = ""


@dataclass(slots=True)
class Router:
    """Finds routes. `exact` is path → HTTP method → route.

    models: of `/v1/models/{id}`. oip: of what follows `/v2/models/{name}[/versions/{v}]` ("", "ready", "infer", …).
    """

    exact: dict[bytes, dict[bytes, Route]]
    models: dict[bytes, Route]
    oip: dict[bytes, dict[bytes, Route]]
    openai_shapes: Shapes
    oip_shapes: Shapes
    _cache: dict[tuple[bytes, bytes], Match] = field(default_factory=dict)

    def find(self, method: bytes, path: bytes) -> Match:
        """Return the match. Raises NotFound, MethodNotAllowed, InvalidInput."""
        found = self._cache.get((method, path))
        if found is None:
            found = self._match(method, path)
            if len(self._cache) >= CACHE_MAX:
                self._cache.clear()
            self._cache[method, path] = found
        return found

    def shapes(self, path: bytes) -> Shapes:
        """Return how errors look under `path`, known or not."""
        return self.oip_shapes if path == b"/v2" or path.startswith(b"/v2/") else self.openai_shapes

    def _match(self, method: bytes, path: bytes) -> Match:
        if len(path) > PATH_MAX_BYTES:
            raise InvalidInput(f"the path is over {PATH_MAX_BYTES} bytes")
        if not path.startswith(b"/"):  # absolute form, as to a proxy
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        methods = self.exact.get(path.rstrip(b"/") or b"/")
        if methods is not None:
            return Match(_of_method(methods, method, path))
        if path.startswith(b"/v1/models/"):
            return Match(_of_method(self.models, method, path), _text(path[len(b"/v1/models/") :]))
        if path.startswith(b"/v2/models/"):
            return self._match_oip(method, path)
        raise NotFound(f"there is nothing at {path[:200].decode('latin-1')}")

    def _match_oip(self, method: bytes, path: bytes) -> Match:
        name, _, rest = path[len(b"/v2/models/") :].partition(b"/")
        version = b""
        if rest.startswith(b"versions/"):
            version, _, rest = rest[len(b"versions/") :].partition(b"/")
            if not version:
                raise NotFound("the path names no version")
        methods = self.oip.get(rest.rstrip(b"/"))
        if methods is None or not name:
            raise NotFound(f"there is nothing at {path[:200].decode('latin-1')}")
        return Match(_of_method(methods, method, path), _text(name), _text(version))


def _of_method(methods: dict[bytes, Route], method: bytes, path: bytes) -> Route:
    route = methods.get(b"GET" if method == b"HEAD" else method)
    if route is None:
        allowed = b", ".join(sorted(methods)).decode()
        refused = MethodNotAllowed(
            f"{method.decode('latin-1')} is not possible on {path[:200].decode('latin-1')}; use {allowed}"
        )
        refused.allow = allowed
        raise refused
    return route


def _text(part: bytes) -> str:
    try:
        return unquote_to_bytes(part).decode()
    except UnicodeDecodeError as broken:
        raise InvalidInput("a name in the path is not UTF-8") from broken
