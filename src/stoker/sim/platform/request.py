"""One request on its way through the simulated platform, and how it can end."""

from typing import TYPE_CHECKING, Final, Literal

from stoker.core.fairness import Ticket

if TYPE_CHECKING:
    from stoker.sim.platform.lane import Lane
    from stoker.sim.platform.replica import Replica

# ok: answered. late: answered after its deadline, or given up in the queue. refused: it could not be in time, and was
# told so at once. closed: so was who came, or waited, while a schedule let no replica be. down: while nothing ran and
# nothing was to come, for want of room. full: the queue was. shed: pushed out by another. failed: no try came to an
# answer. unfinished: still here when the simulation ended.
End = Literal["ok", "late", "refused", "closed", "down", "full", "shed", "failed", "unfinished"]
ENDS: Final[tuple[End, ...]] = ("ok", "late", "refused", "closed", "down", "full", "shed", "failed", "unfinished")

Shapes = tuple[tuple[int, ...], ...]
_ONE: Final[Shapes] = ()


class Request(Ticket):
    """Times are of the virtual clock; -1: not yet. It is what waits in a gateway's line and in a replica's batch."""

    __slots__ = (
        "alone", "arm", "arrived_s", "begun_s", "blocks", "cached_tokens", "end", "ended_s", "first_s", "input_tokens",
        "lane", "number", "output_tokens", "replica", "rows", "sent_s", "service_s", "shapes", "share", "tries",
    )  # fmt: skip

    def __init__(
        self, number: int, at_s: float, tenant: tuple[str, float, int], deadline_s: float, service_s: float
    ) -> None:
        name, weight, band = tenant
        super().__init__(band, name, weight, deadline_s, 0)
        self.number = number
        self.arrived_s = at_s
        self.service_s = service_s  # of an engine with places; of one that batches, times what its line says
        self.input_tokens = self.output_tokens = self.cached_tokens = 0
        self.blocks: tuple[int, ...] = ()
        self.rows, self.shapes, self.alone = 1, _ONE, False  # core/batch.Waiting
        self.sent_s = self.begun_s = self.first_s = self.ended_s = -1.0
        self.tries = 0
        self.share = 1.0
        self.arm = ""
        self.end: End = "unfinished"
        self.lane: Lane | None = None
        self.replica: Replica | None = None
