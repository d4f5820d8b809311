"""The scaling policies that can be asked for by name: ours, and those of others."""

from collections.abc import Callable
from typing import Final

from stoker.core.scale.policy import Policy as Rules
from stoker.sim.endpoint import Terms
from stoker.sim.ours import Stoker
from stoker.sim.policy import Fixed, Policy
from stoker.sim.rivals import knative
from stoker.sim.rivals.aibrix import Aibrix
from stoker.sim.rivals.hpa import Hpa
from stoker.sim.rivals.knative import Knative
from stoker.sim.rivals.ray_serve import RayServe
from stoker.types.errors import InvalidInput

Make = Callable[[Terms], Policy]

POLICIES: Final[dict[str, Make]] = {
    "stoker": lambda terms: Stoker(Rules(min=terms.least, max=terms.most), calendar=terms.calendar),
    "kpa": lambda _: Knative(),
    # As operators set it where replicas start slowly.
    "kpa-300": lambda _: Knative(knative.Settings(scale_down_delay_s=300.0), "kpa-300"),
    "ray": lambda _: RayServe(),
    "hpa": lambda _: Hpa(),
    "apa": lambda _: Aibrix(),
}
RIVALS: Final = ("kpa", "ray", "hpa")


def named(name: str) -> Make:
    """Return what makes the policy `name`, one for each run: `fixed-3` has three replicas. Raises InvalidInput."""
    kind, _, number = name.partition("-")
    if kind == "fixed" and number.isdecimal() and int(number):
        return lambda _: Fixed(int(number))
    if name not in POLICIES:
        raise InvalidInput(f"{name!r} is no policy; there are {', '.join(POLICIES)} and fixed-N")
    return POLICIES[name]
