"""A load that goes on: looks every two seconds, each decision given the memory of the one before."""

import math

import msgspec

from stoker.core.scale.decide import Decision, decide
from stoker.core.scale.memory import Memory
from stoker.core.scale.policy import Policy
from stoker.core.scale.sight import LONG_S, Sight

MONDAY_S = 1_799_625_600.0  # 2027-01-11 00:00 UTC
TICK_S = 2.0


class Day:
    """An endpoint whose replicas are ready at once, with places for four requests of 0.4 s each."""

    def __init__(self, policy: Policy, now_s: float = MONDAY_S, replicas: int = 1, tick_s: float = TICK_S) -> None:
        self.policy = policy
        self.now_s = now_s
        self.memory = Memory()
        self.tick_s = tick_s
        self.replicas = replicas
        self.desired: list[int] = []
        self.last = Decision(replicas, "", (), self.memory)

    def sight(self, rate: float, **more: object) -> Sight:
        usual = Sight(
            at_s=self.now_s,
            rate_short=rate,
            rate_long=rate,
            arrived=round(rate * self.tick_s),
            since_s=self.tick_s,
            service_s=0.4 if rate else 0.0,
            ended=math.ceil(rate * self.tick_s),
            places=4.0,
            in_flight=min(round(rate * 0.4), 4 * self.replicas),
            ready=self.replicas,
            cold_start_s=40.0,
        )
        return msgspec.structs.replace(usual, **more)

    def look(self, rate: float, **more: object) -> Decision:
        """Look once."""
        self.now_s += self.tick_s
        self.last = decide(self.sight(rate, **more), self.policy, self.memory, self.now_s)
        self.memory, self.replicas = self.last.memory, self.last.desired
        self.desired.append(self.replicas)
        return self.last

    def go(self, rate: float, lasts_s: float = 2 * LONG_S, **more: object) -> Decision:
        """Look until `lasts_s` are over."""
        for _ in range(int(lasts_s / self.tick_s)):
            self.look(rate, **more)
        return self.last
