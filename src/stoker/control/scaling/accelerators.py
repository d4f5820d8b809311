"""How busy the GPUs of an endpoint's replicas were in the last minute, as the nodes counted (NVML)."""

from collections.abc import Iterable
from typing import Final

from stoker.core.snapshot import Assignment
from stoker.observe.port import Questions, select

METRIC: Final = "stoker_gpu_utilization_ratio"
EVERY_S: Final = 10.0
LATELY_S: Final = 60.0


class Accelerators:
    """Asks the history now and then, while anybody wants to know."""

    def __init__(self, history: Questions) -> None:
        self._history = history
        self._asked_s = -EVERY_S
        self._known: dict[tuple[str, str], float] = {}  # by node and GPU

    async def look(self, now_s: float) -> None:
        """Ask again if it is time."""
        if 0.0 <= now_s - self._asked_s < EVERY_S:
            return
        self._asked_s = now_s
        chart = await self._history.series(select(METRIC), since_s=LATELY_S, step_s=LATELY_S, by=("node", "gpu"))
        newest = (
            (each.labels, next((one for one in reversed(each.values) if one is not None), None)) for each in chart.lines
        )
        self._known = {(labels["node"], labels["gpu"]): used for labels, used in newest if used is not None}

    def of(self, replicas: Iterable[Assignment]) -> float | None:
        """Return the mean over the GPUs that these replicas have, each once; None where none is known."""
        mine = {(str(each.node), str(index)) for each in replicas for index in each.gpus}
        used = [self._known[each] for each in mine if each in self._known]
        return sum(used) / len(used) if used else None
