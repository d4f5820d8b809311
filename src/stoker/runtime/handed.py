"""The secrets that gateways hand to this replica: waited for before the load, and followed afterwards.

They become variables of this process' environment, and the engine's option `api_key`. Nothing here writes them.
"""

import os
import threading
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from stoker.protocol import handed
from stoker.protocol.frames import EndHead
from stoker.protocol.link import Exchange
from stoker.runtime.engines.port import Progress, TakesKey
from stoker.types.errors import InvalidInput, SecretUnavailable
from stoker.types.replica import ReplicaSpec

KEY: Final = "options.api_key"
VARIABLE: Final = "env."
WAIT_S: Final = 60.0  # for a gateway to hand them over, which takes a moment where they can be read
STAGE: Final = "secrets"


class Handed:
    """What this process was handed. `take` is the event loop's, `wait` the loading thread's."""

    def __init__(self, wanted: Mapping[str, str]) -> None:
        self._wanted = dict(wanted)
        self._values: dict[str, str] = {}
        self._turn = threading.Condition()
        self.engine: TakesKey | None = None

    def take(self, exchange: Exchange) -> None:
        """Take what a CALL brings. Raises InvalidInput."""
        try:
            values = handed.decode(exchange.body)
        except ValueError as broken:
            raise InvalidInput(str(broken)) from None
        names = set(self._wanted.values())
        with self._turn:
            self._values |= {name: value for name, value in values.items() if name in names}
            gone = [name for name, value in self._values.items() if not value]  # nobody may use it any more
            for name in gone:
                del self._values[name]
            self._set_variables()
            self._turn.notify_all()
        if self.engine is not None and KEY in self._wanted:
            self.engine.rekey(self._values.get(self._wanted[KEY], ""))
        exchange.end(EndHead())

    def wait(self, spec: ReplicaSpec, progress: Progress, wait_s: float = WAIT_S) -> ReplicaSpec:
        """Return `spec` with the key in its options; blocks until all are there. Raises SecretUnavailable."""
        if not self._wanted:
            return spec
        ends_s = time.monotonic() + wait_s
        progress(STAGE, 0.0)
        with self._turn:
            while missing := sorted(set(self._wanted.values()) - self._values.keys()):
                left_s = ends_s - time.monotonic()
                if left_s <= 0:
                    raise SecretUnavailable(
                        f"no gateway could hand over {', '.join(missing)} in {wait_s:.0f} s; `stoker secrets list` "
                        "says why"
                    )
                self._turn.wait(left_s)
            self._set_variables()
            key = self._values.get(self._wanted.get(KEY, ""))
        if key is None:
            return spec
        older = ("api_key_env", "api_key_file")
        options = {name: value for name, value in spec.options.items() if name not in older}
        return msgspec.structs.replace(spec, options={**options, "api_key": key})

    def _set_variables(self) -> None:
        for place, name in self._wanted.items():
            if not place.startswith(VARIABLE):
                continue
            if name in self._values:
                os.environ[place.removeprefix(VARIABLE)] = self._values[name]
            else:
                os.environ.pop(place.removeprefix(VARIABLE), None)
