"""What gateways have counted of the rollouts that run, asked of each over its own socket; and how busy endpoints are.

Asked every LOOK_S while a rollout compares its arms, so that a bad canary is found within that time and a turn of the
loop. Counts only grow: an answer that is lost, late or read twice changes nothing (core/rollout/reading.py).
"""

import asyncio
import copy
import logging
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from stoker.control.routes import RoutePublisher
from stoker.core.rollout.course import LOOK_BACK_S
from stoker.core.snapshot import EndpointKey
from stoker.observe.port import Questions, select
from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import connect
from stoker.types.errors import ReplicaLost, StokerError
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.rollouts import RolloutCounts

LOOK_S: Final = 0.5
ASK_TIMEOUT_S: Final = 2.0
RATES_EVERY_S: Final = 5.0
LATELY_S: Final = 60.0  # a client that came a minute ago counts in full

_log = logging.getLogger(__name__)
_decode: Final = msgspec.json.Decoder(list[RolloutCounts]).decode


class RolloutWatch:
    """Asks the gateways. One that does not answer is left out until it does."""

    def __init__(
        self,
        address: Callable[[str], str],
        gateways: int,
        routes: RoutePublisher,
        history: Questions,
        changed: Callable[[], None],
    ) -> None:
        self._addresses = [address(f"gateway-{index}") for index in range(gateways)]
        self._routes = routes
        self._history = history
        self._changed = changed
        self._readings: dict[int, dict[str, RolloutCounts]] = {}
        # What kept requests that were sent again came to (control/quiet.py), by number and process.
        self.replayed: Callable[[], Mapping[int, Mapping[str, RolloutCounts]]] = dict
        self._rates: dict[EndpointKey, float] = {}

    def readings(self) -> Mapping[int, Mapping[str, RolloutCounts]]:
        """Return what was counted, by the number of the rollout and the boot of the gateway."""
        return self._readings

    def rates(self) -> Mapping[EndpointKey, float]:
        """Return the requests a second that came to each endpoint lately."""
        return self._rates

    async def run(self) -> None:
        """Ask until cancelled."""
        clock = asyncio.get_running_loop().time
        rated_s = -RATES_EVERY_S
        while True:
            try:
                await self._look()
                if clock() - rated_s >= RATES_EVERY_S:
                    rated_s = clock()
                    await self._rate()
            except Exception:  # whatever one gateway or the history says, the watch goes on
                _log.exception("rollouts could not be looked at; they are again")
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        running = {each.rollout.number for each in self._routes.table.endpoints if each.rollout is not None}
        found: dict[int, dict[str, RolloutCounts]] = {number: {} for number in running}
        if running:
            for boot, counts in await asyncio.gather(*map(self._ask, self._addresses)):
                for each in counts:
                    if each.number in found:
                        found[each.number][boot] = each
            for number, replayed in self.replayed().items():
                if number in found:
                    found[number].update(copy.deepcopy(dict(replayed)))
        if found != self._readings:
            self._readings = found
            self._changed()

    async def _ask(self, address: str) -> tuple[str, list[RolloutCounts]]:
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                link = await connect(address, timeout_s=ASK_TIMEOUT_S)
                try:
                    _, answer = await link.call(RequestHead(method="rollouts"), kind=Kind.CALL).answer()
                    boot = link.hello.boot if link.hello is not None else ""
                finally:
                    link.close()
            return boot, _decode(answer)
        except (ReplicaLost, TimeoutError, OSError):
            return "", []  # it starts, or is gone
        except (StokerError, msgspec.DecodeError) as odd:
            _log.warning("the rollouts of a gateway could not be read", extra={"reason": str(odd)})
            return "", []

    async def _rate(self) -> None:
        windows_s = (LATELY_S, LOOK_BACK_S)
        sums = await self._history.sums_by(select("stoker_requests_total"), ("project", "endpoint"), windows_s)
        self._rates = {
            (ProjectName(project), EndpointName(endpoint)): max(
                count / window_s for count, window_s in zip(counts, windows_s, strict=True)
            )
            for (project, endpoint), counts in sums.items()
        }
