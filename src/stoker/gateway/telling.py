"""Tells the other gateways how an endpoint stands for which somebody waits here, and hears how it stands there.

Clients keep their connections, so one gateway may have most of a tenant's requests and another none. What a tenant's
part is, and who was served more than others, only all gateways know together. While nobody waits, nobody talks.
"""

import asyncio
import contextlib
import time
from typing import Final

import msgspec

from stoker.gateway.elsewhere import LANES_MAX, Told
from stoker.gateway.lane import Lane
from stoker.gateway.siblings import Siblings

# Two calls of a model that holds 50 ms of requests (core/concurrency.py) are what a part is of: it is half as old then.
TELL_S: Final = 0.05
KEPT_S: Final = 5.0  # connections to the others, after the last word


class Telling:
    """The talk of one gateway process, named `name`."""

    def __init__(self, name: str, siblings: Siblings) -> None:
        self._name = name
        self._siblings = siblings
        self._lanes: dict[Lane, None] = {}  # those for which somebody waits, in turn
        self._begun = asyncio.Event()

    def begin(self, lane: Lane) -> None:
        """Talk about `lane` until nobody waits for it any more, and that was told too."""
        if self._siblings:
            self._lanes[lane] = None
            self._begun.set()

    async def run(self) -> None:
        """Talk until cancelled."""
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._begun.wait(), KEPT_S)
                if not self._begun.is_set():
                    self._siblings.hang_up()
                await self._begun.wait()
                await self._tell()
                await asyncio.sleep(TELL_S)
                if not self._lanes:
                    self._begun.clear()
        finally:
            self._siblings.hang_up()

    async def _tell(self) -> None:
        lanes = list(self._lanes)[:LANES_MAX]
        standings = [lane.standing() for lane in lanes]
        for lane, standing in zip(lanes, standings, strict=True):
            del self._lanes[lane]
            if standing.waiting:  # to the end of the line
                self._lanes[lane] = None
        spoken = {(each.project, each.endpoint): lane for each, lane in zip(standings, lanes, strict=True)}
        for answer in await self._siblings.tell(msgspec.msgpack.encode(Told(self._name, standings))):
            try:
                told = msgspec.msgpack.decode(answer, type=Told)
            except msgspec.DecodeError:
                continue  # of another build: it is as if it were silent
            for standing in told.lanes[:LANES_MAX]:
                heard = spoken.get((standing.project, standing.endpoint))
                if heard is not None:
                    heard.hear(told.gateway, standing, time.monotonic())
