"""Who owns what of an endpoint: the duties of the platform and those of its project, each with how it stands."""

from typing import Final, Literal

import msgspec

Side = Literal["platform", "project"]
# holds, fails: looked at now. unknown: it could not be looked at. said: nothing that a machine can look at.
Standing = Literal["holds", "fails", "unknown", "said"]
PLATFORM: Final[Side] = "platform"
PROJECT: Final[Side] = "project"


class Duty(msgspec.Struct, frozen=True):
    """One line of the boundary. name: stable, for programs. because: what was seen, and what to do where it fails."""

    name: str
    side: Side
    text: str
    standing: Standing = "said"
    because: str = ""


class Boundary(msgspec.Struct, frozen=True):
    """The duties about one endpoint at `at_s` (unix seconds)."""

    project: str
    endpoint: str
    at_s: float
    duties: tuple[Duty, ...]

    def failing(self, side: Side) -> tuple[Duty, ...]:
        """Return the duties of `side` that are not kept now."""
        return tuple(duty for duty in self.duties if duty.side == side and duty.standing == "fails")
