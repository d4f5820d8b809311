"""One trial: a world, a fault at a time nobody told, and what the diagnosis says some minutes later."""

import asyncio
from dataclasses import dataclass
from random import Random

from bench.diagnosis.faults import FAULTS, knobs_for
from bench.diagnosis.parts import Arm
from bench.diagnosis.recorder import ENDPOINT, PROJECT
from bench.diagnosis.world import World
from stoker.core.diagnose.causes import KINDS, CauseKind
from stoker.core.diagnose.verdict import Explanation
from stoker.observe.incidents.explain import explain

HELD_OUT = 1000  # seeds from here on were never looked at while the scorers were written


@dataclass(frozen=True)
class Length:
    """Seconds before the fault and after it."""

    before_s: float = 1200.0
    after_s: float = 480.0


@dataclass(frozen=True)
class Trial:
    kind: CauseKind
    seed: int
    found: Explanation

    @property
    def rank(self) -> int:
        """Place of the true cause among those named, from 1; 0 when it is not named."""
        named = [cause.kind for cause in self.found.diagnosis.causes]
        return named.index(self.kind) + 1 if self.kind in named else 0


def run(kind: CauseKind, seed: int, length: Length = Length()) -> Trial:
    """Inject `kind`. Rate, strength, the day's slope, when it is asked, and harmless changes before it are drawn."""
    dice = Random(seed * 100 + KINDS.index(kind))
    world = World(dice.randrange(2**31), knobs_for(kind, dice.uniform(2.5, 3.8)))
    world.knobs.swing, world.knobs.day_s = dice.uniform(0.05, 0.3), dice.uniform(7_200, 40_000)
    if dice.random() < 0.4:  # a harmless deploy, which must not be blamed
        at_s = dice.uniform(0.3, 0.75) * length.before_s
        world.after(at_s, world.deploy, "r1b", Arm(1.0), "version 1b serves")
    world.run(length.before_s + dice.uniform(0, 60))
    FAULTS[kind](world, dice.random())
    world.run(world.now_s + length.after_s * dice.uniform(0.7, 1.2))
    return Trial(kind, seed, asyncio.run(explain(world.recorder, PROJECT, ENDPOINT, world.now_s)))


def healthy(seed: int, hours: float, every_s: float = 300.0) -> list[Explanation]:
    """Return what is called wrong in hours with a day's load, deploys and scaling, and no fault; asked every 5 min."""
    dice = Random(seed)
    world = World(seed, knobs_for(None, dice.uniform(2.0, 3.5)))
    world.knobs.swing, world.knobs.day_s = 0.5, 36_000.0
    for number in range(int(hours / 2)):
        at_s = (2 * number + dice.uniform(0.2, 1.8)) * 3600
        world.after(at_s, world.deploy, f"r{number + 2}", Arm(1.0), f"version {number + 2} serves")
    wrong = []
    for number in range(3, int(hours * 3600 / every_s) + 1):
        world.run(number * every_s)
        found = asyncio.run(explain(world.recorder, PROJECT, ENDPOINT, world.now_s))
        if found.diagnosis.is_wrong:
            wrong.append(found)
    return wrong
